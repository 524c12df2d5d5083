"""The command of `switchback` that adopts a repository. It imports what it needs inside itself, as in cli.py."""

from typing import Annotated

import typer

from ci_tools.cli_answer import AsJson, show
from ci_tools.console import machine_output

app = typer.Typer()


@app.command()
def init(
    script: Annotated[str, typer.Option(metavar="FILE", help="The training script, where it is not found.")] = "",
    source: Annotated[
        str,
        typer.Option(
            "--install", metavar="WHAT", help="What CI installs Switchback from, where not from the same place."
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace files that differ.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only show what would change, as a diff.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give this repository what CI of its model needs.

    Stages, policies, acceptance tests and workflows around its own training script. Files that are there stay.
    """
    with machine_output(as_json):
        from ci_tools.adopt import adopt

        done = adopt(script, source, force=force, dry=dry)
    show(done, as_json)
