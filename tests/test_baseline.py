import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.repo import Repo

from ci_tools import baseline, scratch
from ci_tools.errors import ConfigError, RecordError, SwitchbackError
from ci_tools.experiment import change
from ci_tools.gates import Baseline, calibration
from ci_tools.gates.policy import AgainstMain, Policy
from ci_tools.gates.run import open_run
from ci_tools.git import git as shell_git
from ci_tools.pipeline import reproduce
from ci_tools.record.schema import SCHEMA_VERSION, RunMeta

ONE_SEED = SimpleNamespace(against_main=SimpleNamespace(seeds=1))
"""A policy for which one seed is enough."""


@pytest.fixture
def commit(git):
    """Commit everything, on the branch that is given."""

    def run(message, branch=None):
        if branch:
            git("switch", "--quiet", "--create", branch)
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "-m", message)

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the first test leaves what `branched` copies for the others."""
    return tmp_path_factory.mktemp("made") / "repository"


@pytest.fixture
def branched(repository, commit, made):
    """`main` trained 10 steps, the branch at hand 20; all is in DVC's cache and both dvc.lock are committed."""
    if made.exists():
        shutil.rmtree(repository / ".git")
        return shutil.copytree(made, repository, dirs_exist_ok=True)
    reproduce()
    commit("10 steps")
    change(["train.steps=20"])
    commit("20 steps", branch="change")
    reproduce()
    commit("its results")
    (repository / "ran.log").unlink()
    shutil.copytree(repository, made)
    return repository


def trained_here(**fingerprint):
    """Records of two seeds as the branch at hand would leave them, for tests in which only their stack matters."""
    for seed in (1, 2):
        meta = RunMeta(
            schema_version=SCHEMA_VERSION, id="t", status="finished", command=[], workdir=".", seed=seed, params={},
            params_digest="", git_commit="", git_dirty=False, code={}, code_digest="", data={}, fingerprint=fingerprint,
            probe_every=1, checkpoint_every=1, started="",
        )  # fmt: skip
        folder = Path(f"runs/seed-{seed}")
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(meta.text())
    return open_run([1, 2])


def steps(run):
    return [record.meta.params["steps"] for record in run.records]


def ran(run):
    """What was executed in a copy."""
    log = run.root / "ran.log"
    return log.read_text().splitlines() if log.exists() else []


def status():
    return subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout


def test_cached_baseline_is_restored_without_running_anything(branched):
    prepared = baseline.prepare("main", Policy(), open_run([1, 2]))
    assert prepared.why_not == ""
    assert steps(prepared.run) == [10, 10]
    assert prepared.run.seeds == (1, 2)
    assert ran(prepared.run) == []
    assert status() == "", "the user's files are as they were"
    assert steps(open_run([1, 2])) == [20, 20]


def test_only_missing_seeds_are_trained_and_no_more_than_the_policy_asks_for(branched):
    for seed in (3, 4):
        shutil.copytree("runs/seed-1", f"runs/seed-{seed}")
    before = (branched / "dvc.lock").read_text()
    policy = Policy(against_main=AgainstMain(seeds=3, max_seeds=3))
    prepared = baseline.prepare("main", policy, open_run([1, 2, 3, 4]))
    assert steps(prepared.run) == [10, 10, 10]
    assert ran(prepared.run) == ["train 3 starts"]
    assert (branched / "dvc.lock").read_text() == before


def test_results_that_the_cache_lost_come_from_the_remote(branched, git):
    git("switch", "--quiet", "main")
    repo = Repo()
    repo.checkout(force=True)
    repo.push()
    repo.close()
    git("switch", "--quiet", "change")
    shutil.rmtree(branched / ".dvc/cache")
    prepared = baseline.prepare("main", Policy(), open_run([1, 2]))
    assert steps(prepared.run) == [10, 10]
    assert ran(prepared.run) == []


def test_results_that_no_lock_names_come_from_the_remotes_run_cache(branched, git):
    git("switch", "--quiet", "main")
    repo = Repo()
    repo.checkout(force=True)
    repo.push(run_cache=True)
    repo.close()
    git("rm", "--quiet", "dvc.lock")
    git("commit", "--quiet", "-m", "a merge without its lock")
    shutil.rmtree(branched / ".dvc/cache")
    prepared = baseline.prepare("main", Policy(), open_run([1, 2]))
    assert steps(prepared.run) == [10, 10]
    assert ran(prepared.run) == []


def test_results_that_nobody_has_are_computed_again(branched):
    shutil.rmtree(branched / ".dvc/cache")
    prepared = baseline.prepare("main", Policy(), open_run([1, 2]))
    assert steps(prepared.run) == [10, 10]
    assert ran(prepared.run) == ["double", "train 1 starts", "train 2 starts"]


def test_records_of_another_stack_are_made_again_here(repository, commit, monkeypatch):
    script = repository / "train.py"
    stack = "fingerprint={'cpu': os.environ['CPU'], 'threads': str(train['steps'])}"
    text = script.read_text().replace("fingerprint={}", stack)
    script.write_text(f"import os\n{text}")
    change(["seeds=[1]"])
    monkeypatch.setenv("CPU", "old")
    reproduce()
    commit("made elsewhere")
    change(["train.steps=20"])
    commit("20 steps", branch="change")
    shutil.rmtree("runs")
    run = trained_here(cpu="new", threads="20")
    monkeypatch.setenv("CPU", "new")
    monkeypatch.setattr("ci_tools.repro.fingerprint.capture", lambda threads: {"cpu": "new", "threads": str(threads)})
    prepared = baseline.prepare("main", ONE_SEED, run)
    assert [record.meta.fingerprint["cpu"] for record in prepared.run.records] == ["new"]
    again = baseline.prepare("main", ONE_SEED, run)
    assert ran(again.run) == ["double", "train 1 starts"], "once"


def test_baseline_that_is_told_to_stop_saves_its_state_and_resumes(repository, commit):
    script = repository / "train.py"
    first_time_waits = (
        "import signal, time\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
        "first = not state.exists()\n"
        "if first: pathlib.Path('ready').touch()\n"
        "while first and not told: time.sleep(0.02)\n"
        "train['exit'] = 75 if first else 0\n"
    )
    script.write_text(script.read_text().replace("with open", first_time_waits + "with open", 1))
    change(["seeds=[1]"])
    commit("waits")
    run, pattern = trained_here(), ".switchback/base/*/ready"

    def tell():
        while not any(repository.glob(pattern)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        pool.submit(tell)
        with pytest.raises(SwitchbackError, match=r"\.switchback/base/.*train@1: .*told to stop") as caught:
            baseline.prepare("main", ONE_SEED, run)
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = baseline.prepare("main", ONE_SEED, run).run
    assert [line.partition(" steps")[0] for line in ran(resumed)] == ["double", "train 1 starts", "train 1 resumes 10"]


def test_installed_switchback_walks_the_copy_whatever_the_copy_holds(repository, commit):
    (repository / "ci_tools").mkdir()
    (repository / "ci_tools/__init__.py").write_text("raise SystemExit('the wrong one')\n")
    commit("its own ci_tools")
    folder = scratch.checkout("base", scratch.snapshot())
    scratch.run_pipeline(folder, [1, 2], targets=["double"])
    assert (folder / "doubled/text").exists()


def test_baseline_that_fails_is_absent_and_says_why(repository, commit):
    change(["train.exit=1"])
    commit("broken")
    change(["train.exit=0"])
    commit("works", branch="change")
    run = trained_here()
    prepared = baseline.prepare("main", Policy(), run)
    assert prepared.run is None
    assert "cannot be run here" in prepared.why_not
    assert "train@1: the stage failed with exit code 1" in prepared.why_not
    assert prepared.failed, "it was asked for"


@pytest.mark.parametrize("gone", ["dvc.yaml", "params.yaml", ".dvc"])
def test_revision_without_a_pipeline_is_no_baseline(repository, commit, git, gone):
    git("rm", "-r", "--quiet", "--cached", gone)
    git("commit", "--quiet", "-m", "no pipeline yet")
    commit("a pipeline", branch="change")
    prepared = baseline.prepare("main", Policy(), trained_here())
    assert prepared.run is None
    assert prepared.why_not.endswith(f"has no pipeline: no {gone}")
    assert not prepared.failed, "there is nothing that could be run"


def test_comparison_with_itself_is_said_to_be_one(branched, capfd, monkeypatch):
    copied = lambda folder, *_, **__: shutil.copytree("runs", folder / "runs", dirs_exist_ok=True)  # noqa: E731
    monkeypatch.setattr(scratch, "run_pipeline", copied)
    prepared = baseline.prepare("change", Policy(), open_run([1, 2]))
    assert steps(prepared.run) == [20, 20]
    assert "comparing with itself" in capfd.readouterr().err
    (branched / "input.txt").write_text("two\n")
    baseline.prepare("change", Policy(), open_run([1, 2]))
    assert "comparing with itself" not in capfd.readouterr().err


@pytest.mark.parametrize("ref", ["nonsense", "--help", "main:params.yaml"])
def test_unknown_revision_is_one_clear_error(repository, ref):
    with pytest.raises(ConfigError, match="baseline revision unknown") as caught:
        baseline.merge_base(ref)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_unrelated_history_is_one_clear_error(repository, git):
    git("switch", "--quiet", "--orphan", "other")
    git("commit", "--quiet", "--allow-empty", "-m", "unrelated")
    with pytest.raises(ConfigError, match="no common ancestor"):
        baseline.merge_base("main")


def test_run_without_records_is_refused_before_anything_is_trained(repository):
    with pytest.raises(RecordError, match="no run record"):
        baseline.prepare("main", Policy(), open_run([1, 2]))
    assert not (repository / ".switchback").exists()


def test_both_arms_get_more_seeds_from_the_files_as_they_are(branched):
    run = open_run([1, 2])
    (branched / "dvc.yaml").write_text((branched / "dvc.yaml").read_text() + "# not committed\n")
    dirty, lock = status(), (branched / "dvc.lock").read_text()
    base = Baseline(open_run([1, 2], scratch.checkout("base", baseline.merge_base("main"))))
    ours, theirs = baseline.extend(run, base, baseline.paired_seeds(run, 3))
    assert (ours.seeds, steps(ours)) == ((1, 2, 3), [20, 20, 20])
    assert (theirs.run.seeds, steps(theirs.run)) == ((1, 2, 3), [10, 10, 10])
    assert ran(ours) == ran(theirs.run) == ["train 3 starts"]
    assert (ours.root / "dvc.yaml").read_text().endswith("# not committed\n")
    assert (status(), (branched / "dvc.lock").read_text()) == (dirty, lock)


def test_no_baseline_has_nothing_to_extend():
    run, absent = open_run([1]), Baseline(None, "why")
    assert baseline.extend(run, absent, (1, 2)) == (run, absent)


def test_paired_seeds_keep_the_runs_own_and_add_unused_ones():
    assert baseline.paired_seeds(open_run([2, 7]), 4) == (2, 7, 1, 3)
    assert baseline.paired_seeds(open_run([2, 7]), 1) == (2,)


POLICY = "false_alarms: 0.01\n"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        (None, POLICY, ["gates.yaml: new"]),
        (POLICY, None, ["gates.yaml: removed"]),
        (POLICY, POLICY + "# a comment\n", []),
        (POLICY, "false_alarms: 0.05\n", ["gates.yaml: false_alarms 0.01 → 0.05"]),
        ("nonsense: 1\n", POLICY, ["gates.yaml: gates.yaml of COMMIT: nonsense: unknown key"]),
        ("a: [\n", POLICY, ["gates.yaml: not valid YAML in COMMIT"]),
    ],
)
def test_policy_is_compared_with_that_of_the_merge_base(repository, commit, before, after, expected):
    path = repository / "gates.yaml"
    if before:
        path.write_text(before)
    commit("policy")
    base = shell_git("rev-parse", "HEAD")
    path.unlink(missing_ok=True)
    if after:
        path.write_text(after)
    lines = baseline.policy_difference("HEAD")
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start.replace("COMMIT", base[:12]))


def test_changed_new_and_removed_tests_and_calibration_are_part_of_the_policy(repository, commit):
    tests = repository / "tests/model"
    tests.mkdir(parents=True)
    for name in ("changed", "removed", "same"):
        (tests / f"test_{name}.py").write_text("def test(): ...\n")
    commit("contract")
    (tests / "test_changed.py").write_text("")
    (tests / "test_removed.py").unlink()
    (tests / "test_new.py").write_text("")
    (repository / "calibration.json").write_text("{}")
    assert baseline.policy_difference("HEAD") == [
        "calibration.json: new",
        "tests/model/test_changed.py: changed",
        "tests/model/test_new.py: new",
        "tests/model/test_removed.py: removed",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "ramp: {first: 0.02}\n", ["release.yaml: ramp.first 0.01 → 0.02"]),
        ("", "at_deadline: hold\n", ["release.yaml: at_deadline roll_back → hold"]),
        (
            "flips: {tolerated: 0.01}\n",
            "flips: {tolerated: 0.03, alpha_share: 2}\n",
            ["release.yaml: flips.alpha_share 1.0 → 2.0", "release.yaml: flips.tolerated 0.01 → 0.03"],
        ),
        ("false_rollback: 0.01\n", "# the default\n{}\n", ["release.yaml: changed"]),
        ("nonsense: 1\n", "{}\n", ["release.yaml: changed"]),
    ],
)
def test_policy_of_releases_is_compared_value_by_value(repository, commit, before, after, expected):
    path = repository / "release.yaml"
    path.write_text(before or "{}\n")
    commit("policy")
    path.write_text(after)
    assert baseline.policy_difference("HEAD") == expected


def test_calibration_is_compared_by_what_its_limits_are_drawn_from(repository, commit):
    known = calibration.Calibration(
        params_digest="p",
        fingerprint={},
        commit="c",
        date="2026-01-01",
        seeds=(1001, 1002),
        statistics={"divergence": (0.1, 0.2), "plateau": (0.05, 0.04)},
        reference=calibration.Reference(samples=(64,), loss=(0.7,)),
    )
    calibration.save(known)
    commit("calibration")
    calibration.save(known.model_copy(update={"seeds": (1, 2, 3), "statistics": {"divergence": (0.1, 0.9)}}))
    assert baseline.policy_difference("HEAD") == [
        "calibration.json: clean runs 2 → 3",
        "calibration.json: largest clean divergence 0.2 → 0.9",
        "calibration.json: largest clean plateau 0.05 → unset",
    ]
    calibration.save(known.model_copy(update={"date": "2026-01-02"}))
    assert baseline.policy_difference("HEAD") == ["calibration.json: changed"]


def test_broken_policy_of_now_is_one_clear_error(repository, commit):
    (repository / "gates.yaml").write_text(POLICY)
    commit("policy")
    (repository / "gates.yaml").write_text("nonsense: 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        baseline.policy_difference("HEAD")


def test_snapshot_holds_changed_new_and_deleted_files_and_moves_nothing(repository, git):
    assert scratch.snapshot() == shell_git("rev-parse", "HEAD")
    (repository / "input.txt").write_text("two\n")
    (repository / "new.txt").write_text("new\n")
    (repository / "ran.log").write_text("ignored\n")
    (repository / "params.yaml").unlink()
    before = status()
    made = scratch.snapshot()
    assert made == scratch.snapshot()
    assert shell_git("show", f"{made}:input.txt") == "two"
    names = shell_git("ls-tree", "--name-only", made).splitlines()
    assert {"new.txt", "params.yaml", "ran.log"} & set(names) == {"new.txt"}
    assert status() == before


def test_large_untracked_files_stay_out_of_gits_store_and_are_named(repository, git, monkeypatch, capfd):
    monkeypatch.setattr(scratch, "LARGEST", 20)
    (repository / "large [1].bin").write_bytes(b"l" * 21)
    (repository / "tracked.bin").write_bytes(b"t" * 21)
    (repository / "large 1.bin").write_bytes(b"s" * 20)
    git("add", "tracked.bin")
    capfd.readouterr()
    made = scratch.snapshot()
    names = shell_git("ls-tree", "--name-only", made).splitlines()
    assert {"large [1].bin", "large 1.bin", "tracked.bin"} & set(names) == {"large 1.bin", "tracked.bin"}
    digest = shell_git("hash-object", "large [1].bin")
    with pytest.raises(ConfigError):
        shell_git("cat-file", "-e", digest)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("left out, untracked and larger than")
    assert "large [1].bin" in line
    assert "tracked.bin" not in line
    (repository / "large [1].bin").unlink()
    assert scratch.snapshot() == made
    assert capfd.readouterr().err == ""


def test_snapshot_from_a_folder_below_holds_everything_above(repository, monkeypatch):
    (repository / "new.txt").write_text("new\n")
    made = scratch.snapshot()
    (repository / "below").mkdir()
    monkeypatch.chdir(repository / "below")
    assert scratch.snapshot() == made


def test_oldest_copies_are_forgotten_and_an_interrupted_one_is_made_again(repository, commit):
    folders = []
    for number in range(scratch.KEPT + 1):
        commit(f"number {number}")
        folders.append(scratch.checkout("base", shell_git("rev-parse", "HEAD")))
    assert [folder.exists() for folder in folders] == [False] + [True] * scratch.KEPT
    assert status() == ""
    (folders[-1] / ".dvc/config.local").unlink()
    (folders[-1] / "train.py").unlink()
    again = scratch.checkout("base", shell_git("rev-parse", "HEAD"))
    assert (again / "train.py").exists()
