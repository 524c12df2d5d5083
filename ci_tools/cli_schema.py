"""`switchback schema`: the JSON Schema of each configuration file, for editors."""

import typer

from ci_tools.console import print_json
from ci_tools.errors import ConfigError

app = typer.Typer(help="Print a configuration file's JSON Schema.", no_args_is_help=True)


@app.command()
def params() -> None:
    """The schema of params.yaml, as this repository defines it."""
    from ci_tools.experiment import schema

    known = schema()
    if known is None:
        fix = 'add `params = "module:Class"` under [tool.switchback]'
        raise ConfigError("names no schema of params.yaml", where="pyproject.toml", fix=fix)
    print_json(known.model_json_schema())


@app.command()
def gates() -> None:
    """The schema of gates.yaml."""
    from ci_tools.gates.policy import Policy

    print_json(Policy.model_json_schema())


@app.command()
def release() -> None:
    """The schema of release.yaml."""
    from ci_tools.release.judge import Policy

    print_json(Policy.model_json_schema())


@app.callback()
def _schemas() -> None: ...
