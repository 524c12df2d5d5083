"""Counts in, verdict out, valid at every peek.

    policy = load()                                  # release.yaml
    state = begin(policy)
    state = update(state, read(counts, policy), policy)   # whenever there is news
    decision = decide(state, policy)                 # as often as one likes

Two kinds of evidence are kept per metric, as e-values: that the canary is worse than tolerated, and that it is not as
bad as the margin. A release without harm is rolled back with probability `false_rollback` at most, one as bad as a
margin is promoted with probability `wrong_promotion` at most, each over the whole release and whatever the moments at
which anyone looked, the weights that were chosen from the data, and the traffic. No data is never evidence.

Pure functions: no clock, no files, no network, no randomness. State and observations are JSON.
"""

from ci_tools.release.judge.judge import decide, evidence, update
from ci_tools.release.judge.observation import Arm, Observation, read
from ci_tools.release.judge.policy import Policy, load
from ci_tools.release.judge.state import State, begin
from ci_tools.release.judge.verdict import Action, Decision, Outcome, Verdict

__all__ = [
    "Action",
    "Arm",
    "Decision",
    "Observation",
    "Outcome",
    "Policy",
    "State",
    "Verdict",
    "begin",
    "decide",
    "evidence",
    "load",
    "read",
    "update",
]
