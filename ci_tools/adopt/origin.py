"""What CI of an adopted repository installs this package from: what it was itself installed from, where CI can."""

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import ci_tools
from ci_tools import project
from ci_tools.adopt.repository import on_github
from ci_tools.errors import ConfigError
from ci_tools.git import asked

EXAMPLE = "git+https://…@COMMIT"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A place, as a requirement says it."""

    requirement: str
    """What stands behind the package's name and extras: ` @ ADDRESS` or `==VERSION`."""
    unreachable: str = ""
    """The folder or file that this package was installed from, where CI cannot install from it."""
    unpushed: str = ""
    """The commit, where the clone that this package was installed from knows nothing of GitHub's that holds it."""


def named(source: str) -> Origin:
    """What a person names: an address, or a path.

    Raises:
        ConfigError: it is neither.
    """
    path = Path(source)
    if "://" not in source and not path.exists():
        rule, fix = "it is an address or a path", f"e.g. --install {EXAMPLE}"
        raise ConfigError("is neither", where=f"--install {source}", rule=rule, fix=fix)
    return Origin(requirement=f" @ {path.resolve().as_uri() if path.exists() else source}")


def installed() -> Origin:
    """What this installation came from, as pip noted it in direct_url.json (PEP 610).

    A folder of this machine is of no use to CI. If it is a checkout from GitHub, CI takes the same commit from there;
    else the release of this version.
    """
    try:
        found = distribution(project.PACKAGE)
    except PackageNotFoundError:
        return _of_folder(project.CHECKOUT)
    note = found.read_text("direct_url.json")
    if not note:
        return Origin(requirement=f"=={found.version}")
    direct = json.loads(note)
    url, vcs = direct["url"], direct.get("vcs_info", {})
    parts = urlsplit(url)
    if vcs and (name := on_github(url)):
        return Origin(requirement=_at_github(name, vcs["commit_id"]))
    if parts.scheme != "file":
        return Origin(requirement=f" @ {vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else f" @ {url}")
    return _of_folder(Path(url2pathname(parts.path)), vcs.get("commit_id", ""))


def _of_folder(folder: Path, commit: str = "") -> Origin:
    """The same commit from GitHub, by default the one that is checked out, where the folder is a clone of it."""
    git = ("-C", str(folder))
    is_root = asked(*git, "rev-parse", "--show-toplevel") == str(folder.resolve())
    name = on_github(asked(*git, "remote", "get-url", "origin")) if is_root else ""
    commit = commit or asked(*git, "rev-parse", "--verify", "HEAD")
    if name and commit:
        known = asked(*git, "for-each-ref", "--count=1", "--contains", commit, "refs/remotes", "refs/tags")
        return Origin(requirement=_at_github(name, commit), unpushed="" if known else commit)
    home, version = project.repository(), ci_tools.__version__
    return Origin(requirement=f" @ git+{home}@v{version}" if home else f"=={version}", unreachable=str(folder))


def _at_github(name: str, commit: str) -> str:
    return f" @ git+https://github.com/{name}@{commit}"  # a runner has no key for ssh
