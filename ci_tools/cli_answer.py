"""How every command of `switchback` answers: text for people, or one JSON object for machines."""

from typing import Annotated, Any

import typer

from ci_tools.console import print_json

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def show(result: Any, as_json: bool) -> None:
    """Print a result as its text or its JSON, and end with its exit code, where it has one."""
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(str(result))
    if code := getattr(result, "exit_code", 0):
        raise typer.Exit(code)
