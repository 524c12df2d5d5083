"""The bench that keeps the gates honest: faults planted in small training runs, and who notices them.

`python -m benchmarks faults`; a stopped campaign goes on where it was. `--rescore` judges again without training.
"""

import json
import os
from argparse import Namespace

from benchmarks.harness import ROOT, Result, measuring, read_lines, summary
from ci_tools.errors import DataError

RUNS = ROOT / "build/faults"
"""Statistics of every run; deleted to start afresh."""


def main(options: Namespace) -> Result:
    """Make the runs that are missing, judge all of them, print the tables."""
    from benchmarks.faults import campaign, score

    plan = campaign.QUICK if options.quick else campaign.FULL
    path = RUNS / ("quick.jsonl" if options.quick else "runs.jsonl")
    if options.rescore and not path.exists():
        raise DataError("no runs to judge", where=path, fix="run without --rescore")
    with measuring("faults", options.command, vars(plan), "s per run") as result:
        if options.rescore:
            lines = campaign.with_limits_of_today(read_lines(path))
        else:
            lines = campaign.run(plan, path, os.cpu_count() or 1)
        judges = score.judges(lines)
        runs = {
            "calibrated": score.judged(lines, judges),
            "limits of other tasks": score.judged(lines, score.judges(lines, strangers=True)),
            "default limits": score.judged(lines, None),
        }
        for basis, judged in runs.items():
            result.facts[basis] = score.rates(judged)
            print(f"{basis}\n\n{score.markdown(result.facts[basis])}\n")
        result.facts["effects"] = score.effects(lines)
        (RUNS / "details.json").write_text(
            json.dumps({basis: score.details(judged) for basis, judged in runs.items()}, indent=1), encoding="utf-8"
        )
        seconds = {task: [line["seconds"] for line in lines if line["task"] == task and "seconds" in line]
                   for task in judges}  # fmt: skip
        result.arms |= {task: summary(values) for task, values in seconds.items() if values}
    return result
