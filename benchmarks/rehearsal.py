"""The way of a change through the workflows, executed on this machine: seconds of every job.

A small copy of what is committed. GitHub's API is a mock, runners are folders; the release service and its traffic
are real.
"""

import tempfile
from argparse import Namespace
from pathlib import Path

from benchmarks.harness import Result, measuring
from ci_tools.errors import DependencyUnavailable
from tests.workflows import language
from tests.workflows.rehearsal import story
from tests.workflows.rehearsal.project import PARAMS

LONGEST_S = 360.0
"""All scenes together, on two quiet cores."""


def main(options: Namespace) -> Result:
    """Play the story once.

    Raises:
        DependencyUnavailable: npm cannot get GitHub's own parser.
    """
    if why_not := language.why_not():
        raise DependencyUnavailable(why_not, where="npm", fix="install node and npm")
    scenes = story.SCENES[:1] if options.quick else story.SCENES
    settings = {"scenes": list(scenes), "params": PARAMS}
    with measuring("rehearsal", options.command, settings, "s") as result:
        played = play(scenes)
        for scene in played:
            result.arms[scene.name] = once(scene.seconds)
            for run in scene.runs:
                jobs = {name: done for name, done in run.jobs.items() if done.steps}
                result.arms |= {f"{run.workflow.file}, {name}, {scene.name}": once(done.seconds)
                                for name, done in jobs.items()}  # fmt: skip
        result.facts = {scene.name: {run.workflow.file: run.conclusion for run in scene.runs} for scene in played}
        seconds = sum(scene.seconds for scene in played)
        result.facts |= {"seconds": round(seconds, 1), "within": LONGEST_S, "failed": wrong(played)}
    return result


def play(scenes: tuple[str, ...]) -> list[story.Scene]:
    """Those scenes, each behind the other."""
    with language.asked() as asked, tempfile.TemporaryDirectory() as folder, story.told(Path(folder), asked) as told:
        return [getattr(told, name)() for name in scenes]


def once(seconds: float) -> dict[str, float]:
    """A figure that was taken once."""
    return dict.fromkeys(("median", "q1", "q3"), round(seconds, 2)) | {"n": 1}


def wrong(scenes: list[story.Scene]) -> list[str]:
    """Runs that ended otherwise than they must: only the release of the bad merge fails."""
    return [
        f"{scene.name}: {run.workflow.file}: {run.conclusion}"
        for scene in scenes
        for run in scene.runs
        if (run.conclusion == "failure") != (scene.name == "a bad merge" and run.workflow.file == "release.yml")
    ]
