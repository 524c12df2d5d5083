"""report/index.html: one file that shows a run and the verdicts on it, without a server and without a network.

    write(run, verdicts, path)

Limits: at most 3 MB for 20,000 steps, 60 layers and 5 seeds. Long series are thinned so that extremes stay (thin.py).
What a run lacks, and what is damaged of its records, is said in words. The page comes from files, never from training
code: torch is not imported.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ci_tools.gates.files import Verdicts
    from ci_tools.gates.run import Run

__all__ = ["write"]


def write(run: "Run", verdicts: "Verdicts", path: Path) -> None:
    """Write the page of a run; `path` is replaced as a whole, its folder made where it is missing.

    Raises:
        SwitchbackError: the page cannot be written.
        DataError: a file of the evaluation is damaged.
        ModuleNotFoundError: jinja2 is not installed.
    """
    from ci_tools.files import write_atomic
    from ci_tools.report.html.content import page

    text = page(run, verdicts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
