"""The one check that a merge waits for: every job that was to run succeeded. `make required` runs it without .venv.

A job that was skipped counts only where the plan skipped it. Standard library only.
"""

import json
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any


def wanting(needs: Mapping[str, Any], may_skip: Collection[str]) -> list[str]:
    """A line for each job that did not do what the plan asks of it.

    Args:
        needs: the workflow's context of that name: job to {"result": word, …}.
        may_skip: jobs that the plan left out.
    """
    results = {name: str(job.get("result", "")) for name, job in needs.items()}
    lines = [f"{name} is not among the jobs" for name in may_skip if name not in results]
    return lines + [
        f"{name}: {result or 'no result'}"
        for name, result in results.items()
        if result != "success" and not (result == "skipped" and name in may_skip)
    ]


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Judge NEEDS, the context as JSON, but for the jobs that MAY_SKIP lists, separated by blanks. Exit 0, 1 or 2."""
    try:
        needs = json.loads(environment.get("NEEDS", ""))
        lines = wanting(needs, environment.get("MAY_SKIP", "").split())
    except (ValueError, AttributeError):
        sys.stderr.write("error: NEEDS: no context of jobs. Fix: give the step `env: NEEDS: ${{ toJSON(needs) }}`\n")
        return 2
    if not needs:
        lines = ["no job was needed, so nothing was proven"]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
