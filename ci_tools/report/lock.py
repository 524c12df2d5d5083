"""What the comment says of dvc.lock: whether the commit's is the one that CI made, and how to take CI's."""

import re
from collections.abc import Sequence

from ci_tools.report.links import Links
from ci_tools.report.markdown import code
from ci_tools.report.results import Lock, Results
from ci_tools.repro.compare import LIKELY

ARTIFACT = "dvc-lock"
"""Of the workflow's run."""
_RUN = re.compile(r"https://[^/]+/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)/actions/runs/([0-9]+)")


def section(results: Results, links: Links) -> Sequence[str]:
    """Forms of the section, the fullest first; nothing where nobody asked."""
    lock = results.lock
    if lock is None:
        return [""]
    if lock.state == "verified":
        return ["`dvc.lock` is verified: that of this commit is the one that this run made."]
    told = "This commit has no `dvc.lock`." if lock.state == "absent" else _difference(lock)
    after = "It may be merged so: what this run computed is found again by its content. To take the lock of this run:"
    return ["\n\n".join(["### dvc.lock", told, after, _command(links)]), told]


def _difference(lock: Lock) -> str:
    said = "The `dvc.lock` of this commit is not the one that this run made."
    if not lock.rung:
        return f"{said} The records that it names could not be had, so where the trainings part is not known."
    if lock.rung == "none":
        return f"{said} The release's trainings are equal bit by bit: another stage differs."
    until = f"The release's trainings are identical until step {lock.step:,}; first" if lock.step else "First"
    where = f"{lock.rung} of {code(lock.layer)}" if lock.layer else lock.rung
    return f"{said} {until} difference: {where}; {LIKELY[lock.rung]}."


def _command(links: Links) -> str:
    found = _RUN.fullmatch(links.artifacts)
    if not found:
        return f"It is the artifact `{ARTIFACT}` of this run."
    download = f"gh run download {found[2]} --repo {found[1]} --name {ARTIFACT}"
    return f'```sh\nrm -f dvc.lock && {download} && git add dvc.lock && git commit -m "dvc.lock as CI made it"\n```'
