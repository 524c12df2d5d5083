"""What a step tells the steps after it in GitHub Actions."""

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
