"""What a step knows of its workflow in GitHub Actions, and what it tells the steps after it."""

import os

from ci_tools.errors import explain


def output(name: str, value: bool) -> None:
    """Set an output of this step; nothing elsewhere.

    Raises:
        SwitchbackError: the file that GitHub Actions named cannot be written.
    """
    path = os.environ.get("GITHUB_OUTPUT")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{name}={str(value).lower()}\n")
    except OSError as error:
        raise explain(error) from None


def run_url() -> str:
    """Of this job's workflow; empty outside of GitHub Actions."""
    server, repository, run = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""
