"""The whole way of a change through the workflows, on a small copy of this repository."""

import pytest

from tests.workflows.rehearsal import story

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def played(tmp_path_factory, language):
    """The story, and what each of its scenes came to. A scene goes on from where the one before ended."""
    with story.told(tmp_path_factory.mktemp("story"), language) as told:
        yield told, {name: getattr(told, name)() for name in story.SCENES}


def results(scene, file):
    return {name: done.result for name, done in scene.run(file).jobs.items()}


def test_a_pull_request_is_trained_judged_and_told_in_one_comment(played):
    told, scenes = played
    scene = scenes["pull_request"]
    assert results(scene, "ci.yml") == dict.fromkeys(results(scene, "ci.yml"), "success"), str(scene)
    assert results(scene, "gpu.yml")["own / experiment"] == "success", str(scene)
    assert results(scene, "report.yml")["comment"] == "success", str(scene)
    comment, *more = [text for text in told.comments(story.GOOD) if "switchback:report" in text]
    assert more == []
    assert "First difference: params" in comment
    page = scene.run("gpu.yml").artifacts.folder / "page/index.html"
    assert "weight_decay 0.01 → 0.02" in page.read_text()  # the comment holds no words of a pull request
    assert "differed from the commit" not in comment  # but for dvc.lock, which CI makes anew


def test_a_merge_groups_training_is_judged_by_mains_policy_and_stored(played):
    scene = played[1]["merge_group"]
    assert results(scene, "gpu.yml")["merge / experiment"] == "success", str(scene)
    assert results(scene, "gpu.yml")["store"] == "success", str(scene)


def test_a_merge_trains_nothing_anew_and_is_promoted(played):
    told, scenes = played
    run = scenes["merge"].run("release.yml")
    assert run.conclusion == "success", str(run)
    reproduced = next(step for step in run.jobs["experiment / experiment"].steps if step.name == "Reproduce")
    assert "train@1: restored" in reproduced.output, reproduced.output
    assert list(run.attested) == ["model.onnx"]
    assert "Release: promoted" in told.comments(story.GOOD)[-1]
    assert told.states(run.event.sha)[-1] == "success"


def test_a_bad_merge_is_rolled_back_and_told_to_everybody(played):
    told, scenes = played
    run = scenes["bad_merge"].run("release.yml")
    assert run.jobs["experiment / experiment"].result == "success", str(run)
    assert (run.jobs["release"].result, run.jobs["announce"].result) == ("failure", "success"), str(run)
    assert "Release: rolled back" in told.comments(story.BAD)[-1]
    (issue,) = told.hub.issues.values()
    assert "flips" in issue["body"]
    assert f"#{story.BAD}" in issue["body"]
    assert told.states(run.event.sha)[-1] == "failure"


def test_the_champion_is_the_good_merges_model(played):
    told, scenes = played
    assert told.service.champion() == told.released(scenes["merge"])
