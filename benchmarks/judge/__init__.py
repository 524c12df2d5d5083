"""The bench that keeps the judge honest: seeded traffic with known truth, the judge, and the rules that others use.

`python -m benchmarks judge`; a stopped campaign goes on where it was.
"""

import os
from argparse import Namespace

from benchmarks.harness import ROOT, Result, measuring

LINES = ROOT / "build/judge"
"""Every release's times; deleted to start afresh."""


def main(options: Namespace) -> Result:
    """Show the traffic that is missing to all rules, then score and print."""
    from benchmarks.judge import campaign, score

    plan = campaign.QUICK if options.quick else campaign.FULL
    path = LINES / ("quick.jsonl" if options.quick else "lines.jsonl")
    with measuring("judge", options.command, vars(plan), "share of releases") as result:
        lines = campaign.run(plan, path, len(os.sched_getaffinity(0)))
        cells, oracle = score.rates(lines), score.delays(lines)
        table = {cell: {rule: one._asdict() for rule, one in rules.items()} for cell, rules in cells.items()}
        result.facts |= {"claims": score.claims(cells, oracle), "cells": table, "oracle": oracle}
        print(score.markdown(cells, oracle))
    return result
