"""`python -m ci_tools.release.server`: flags to settings, then serve."""

import argparse
import os
import sys
from collections.abc import Sequence
from types import NoneType
from typing import get_args

from ci_tools.config import validate
from ci_tools.errors import run_stage
from ci_tools.release.server.settings import Settings

_PROGRAM = "python -m ci_tools.release.server"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    code = 0

    def work() -> None:
        nonlocal code
        settings = parse(arguments)
        from ci_tools.release.server.service import serve

        code = serve(settings)

    return run_stage(work) or code


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Flags to settings.

    Raises:
        ConfigError: a value breaks a rule.
    """
    given = {key: value for key, value in vars(_parser().parse_args(arguments)).items() if value is not None}
    return validate(given, Settings, where=_PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="Serve one bundle over the Open Inference Protocol.")
    for name, field in Settings.model_fields.items():
        flag, told = f"--{name.replace('_', '-')}", (field.description or "").replace("%", "%%")
        if name == "trust_key":
            parser.add_argument(flag, action="append", help=told)
        else:
            # Union with None: the type is the other one.
            kinds = [one for one in get_args(field.annotation) or (field.annotation,) if one is not NoneType]
            kind = kinds[0] if kinds[0] in (int, float) else str
            parser.add_argument(flag, type=kind, required=field.is_required(), help=told)
    return parser


if __name__ == "__main__":
    ended = main()
    sys.stderr.flush()
    # Threads of the runtime and of the HTTP server may still be ending: an interpreter that is taken apart around them
    # can abort, and an orderly end would look like a crash.
    os._exit(ended)
