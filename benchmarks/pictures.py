"""`python -m benchmarks.pictures RUN FAILING`: the pictures of docs/report.md, from the pages of two real runs.

RUN and FAILING are folders in which `switchback run` went to its end. Needs Chromium.
"""

import sys
from pathlib import Path

from benchmarks import browser
from benchmarks.harness import ROOT
from ci_tools.gates import files
from ci_tools.gates.run import open_run
from ci_tools.report import html
from ci_tools.report.build import seeds_of

FOLDER = ROOT / "docs/pictures"
LARGEST = 200_000
"""Bytes of one picture."""
_TO_TRAINING = "document.getElementById('training').scrollIntoView({behavior: 'instant'})"


def main(run: Path, failing: Path) -> int:
    """Draw all four; the exit code is 1 where one is larger than the repository wants."""
    FOLDER.mkdir(exist_ok=True)
    page, bad = (_page(folder) for folder in (run, failing))
    _draw("light", page, height=1000)
    _draw("dark", page, height=1000, dark=True, script=_TO_TRAINING)
    _draw("phone", page, width=390, height=844, phone=True)
    _draw("failing", bad, height=1000)
    sizes = {path.name: path.stat().st_size for path in sorted(FOLDER.glob("report-*.png"))}
    print("\n".join(f"{name}: {size:,} bytes" for name, size in sizes.items()))
    return int(any(size > LARGEST for size in sizes.values()))


def _page(folder: Path) -> Path:
    path = folder / "report/index.html"
    verdicts = files.read(folder / files.FOLDER / files.VERDICTS)
    html.write(open_run(seeds_of(folder), folder), verdicts, path)
    return path


def _draw(
    name: str, page: Path, *, height: int, width: int = 1280, dark: bool = False, phone: bool = False, script: str = ""
) -> None:
    options = {"width": width, "height": height, "dark": dark, "phone": phone}
    with browser.started() as chromium, chromium.opened(page, **options) as tab:
        if script:
            tab.evaluate(script)
            tab.settle()
        tab.picture(FOLDER / f"report-{name}.png")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
