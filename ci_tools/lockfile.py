"""Whether the dvc.lock that a commit carries is the one that its code makes.

The lock is its author's word: these outputs belong to these inputs. CI does not write it; it makes one of its own and
compares. Where the two differ, the author's training is compared with CI's, if the author's records can be had.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ci_tools.console import say
from ci_tools.errors import SwitchbackError
from ci_tools.git import git
from ci_tools.walk import Lock

FILE = Path("dvc.lock")


def verified() -> Lock:
    """Compare dvc.lock of HEAD with the one in the working directory.

    Law: a commit of the lock that CI made is verified there.
    """
    if not git("ls-tree", "HEAD", str(FILE)):
        say(f"{FILE}: HEAD has none")
        return Lock("absent")
    if _stages(git("show", f"HEAD:{FILE}")) == _stages(FILE.read_text(encoding="utf-8")):
        say(f"{FILE}: verified, that of HEAD is the one that was made here")
        return Lock("verified")
    return _first_divergence()


def _stages(text: str) -> Any:
    """Of each stage its command, inputs and outputs; None where the text is no lock."""
    try:
        found = YAML(typ="safe", pure=True).load(text)
        return found["stages"]
    except (YAMLError, TypeError, KeyError):
        return None


def _first_divergence() -> Lock:
    """Where the release's training of HEAD's lock and the one here part."""
    from ci_tools.experiment import value
    from ci_tools.repro.compare import compare
    from ci_tools.revisions import resolve

    try:
        with TemporaryDirectory(prefix="switchback-") as folder:
            found = compare(resolve("HEAD", Path(folder)), Path("runs", f"seed-{value('seeds')[0]}"))
    except (SwitchbackError, TypeError, IndexError) as error:
        say(f"{FILE}: differs from that of HEAD, whose records are not to be had: {error}")
        return Lock("differs")
    say(f"{FILE}: differs from that of HEAD; its training against the one here: {found.sentence()}")
    return Lock("differs", found.rung or "none", found.step, found.layer)
