"""Where more is to be read. The job that comments sets these; results.json holds none."""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ci_tools.errors import ConfigError
from ci_tools.report.track import kept

_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'*+,;=:@%/?#-]*)?")
_LONGEST = 500


@dataclass(frozen=True, kw_only=True)
class Links:
    """Addresses that the comment points to; empty ones are left out.

    Raises:
        ConfigError: one is not an https address, or holds a sign that could end a link.
    """

    wandb: str = ""
    """The run in Weights & Biases."""
    wandb_report: str = ""
    """The report there."""
    artifacts: str = ""
    """Record, verdicts and model, as the workflow kept them."""
    html: str = ""
    """report/index.html, where it is served."""

    def __post_init__(self) -> None:
        for one in fields(self):
            url = getattr(self, one.name)
            if url and not (len(url) <= _LONGEST and _ADDRESS.fullmatch(url)):
                rule = f"an https address of at most {_LONGEST} characters, without spaces, quotes and brackets"
                raise ConfigError(f"{url[:80]!r} is no link", where=f"--link {one.name}", rule=rule)


def tracked(root: Path = Path()) -> Links:
    """What tracking left in report/wandb.json; empty where it left nothing, or no https address."""
    told = kept.read(root)
    try:
        return Links(wandb=told.run, wandb_report=told.report)
    except ConfigError:
        return Links()


def parse(settings: list[str], known: Links | None = None) -> Links:
    """Links from `NAME=URL` settings; `known` ones stand where no setting names another.

    Raises:
        ConfigError: an unknown name, or no https address.
    """
    names = [one.name for one in fields(Links)]
    found = {}
    for setting in settings:
        key, equals, url = setting.partition("=")
        key = key.replace("-", "_")
        if not equals or key not in names:
            fix = f"write NAME=URL with one of {', '.join(names)}"
            raise ConfigError(f"{setting[:80]!r} is no link", where="--link", fix=fix)
        found[key] = url
    return replace(known or Links(), **found)
