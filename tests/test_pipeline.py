import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import dvc.lock
import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo

from ci_tools.errors import ConfigError, DependencyUnavailable, RecordError, SwitchbackError
from ci_tools.experiment import change
from ci_tools.pipeline import reproduce


def outcomes(walk):
    return {step.stage: step.outcome for step in walk.steps}


def reasons(walk, stage):
    return next(step.reasons for step in walk.steps if step.stage == stage)


def ran(repository):
    """What was executed since the last look."""
    log = repository / "ran.log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_first_run_executes_every_stage_in_order_and_the_second_none(repository):
    first = reproduce()
    assert outcomes(first) == {"look": "checked", "double": "ran", "train@1": "ran", "train@2": "ran"}
    assert reasons(first, "train@2") == ("first run",)
    assert ran(repository) == ["double", "train 1 starts", "train 2 starts"]

    second = reproduce()
    assert outcomes(second) == {"look": "checked", "double": "cached", "train@1": "cached", "train@2": "cached"}
    assert ran(repository) == []


def test_changed_parameter_is_named_with_both_values_and_only_its_stages_run(repository):
    reproduce()
    change(["train.steps=20"])
    walk = reproduce()
    assert outcomes(walk) == {"look": "checked", "double": "cached", "train@1": "ran", "train@2": "ran"}
    assert reasons(walk, "train@1") == ("train.steps 10 → 20",)


def test_changed_input_runs_what_depends_on_it(repository):
    reproduce()
    (repository / "input.txt").write_text("two\n")
    walk = reproduce()
    assert set(outcomes(walk).values()) == {"checked", "ran"}
    assert reasons(walk, "double") == ("seen/input.txt changed",)
    assert reasons(walk, "train@1") == ("doubled/text changed",)


def test_deleted_outputs_come_back_from_the_cache(repository):
    reproduce()
    ran(repository)
    (repository / "doubled/text").unlink()
    (repository / "runs/seed-1/state").unlink()
    walk = reproduce()
    assert outcomes(walk) == {"look": "checked", "double": "restored", "train@1": "restored", "train@2": "cached"}
    assert reasons(walk, "double") == ("doubled/text missing",)
    assert (repository / "runs/seed-1/state").exists()
    assert ran(repository) == []


def test_earlier_inputs_bring_back_earlier_outputs_without_running(repository):
    reproduce(["double"])
    change(["double.times=3"])
    assert outcomes(reproduce(["double"]))["double"] == "ran"
    ran(repository)
    change(["double.times=2"])
    assert outcomes(reproduce(["double"]))["double"] == "restored"
    assert ran(repository) == []


def test_target_takes_only_what_it_depends_on(repository):
    assert [step.stage for step in reproduce(["double"]).steps] == ["look", "double"]
    assert [step.stage for step in reproduce(["train@2"]).steps] == ["look", "double", "train@2"]
    assert [step.stage for step in reproduce(["train"]).steps] == ["look", "double", "train@1", "train@2"]


def test_force_starts_finished_training_from_scratch(repository):
    reproduce()
    ran(repository)
    walk = reproduce(force=True)
    assert set(outcomes(walk).values()) == {"ran", "checked"}
    assert ran(repository) == ["double", "train 1 starts", "train 2 starts"]


def test_finished_record_is_removed_before_training_on_other_params(repository):
    reproduce()
    ran(repository)
    change(["train.steps=20"])
    reproduce()
    assert ran(repository) == ["train 1 starts", "train 2 starts"]


def test_earlier_params_bring_back_earlier_records_without_training(repository):
    reproduce()
    change(["train.steps=20"])
    reproduce()
    ran(repository)
    change(["train.steps=10"])
    assert outcomes(reproduce())["train@1"] == "restored"
    assert ran(repository) == []
    assert (repository / "runs/seed-1/state").read_text().startswith("10 steps")


def test_force_does_not_resume(repository):
    change(["train.exit=75"])
    with pytest.raises(SwitchbackError):
        reproduce()
    ran(repository)
    with pytest.raises(SwitchbackError):
        reproduce(force=True)
    assert "train 1 starts" in ran(repository)


def test_unfinished_record_is_kept_for_resuming(repository):
    change(["train.exit=75"])
    with pytest.raises(SwitchbackError, match=r"train@1: the stage was told to stop.*same command again"):
        reproduce()
    ran(repository)
    with pytest.raises(SwitchbackError):
        reproduce()
    (line,) = ran(repository)
    assert line.startswith("train 1 resumes 10 steps")


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("params.yaml", "steps: 10", "steps: 99", "train.steps 10 → 99 while the stage ran"),
        ("doubled/text", "one", "two", "doubled/text changed while the stage ran"),
    ],
)
def test_input_that_changes_while_a_stage_runs_is_not_locked_in(repository, path, old, new, message):
    script = repository / "train.py"
    late = f"file = pathlib.Path({path!r}); file.write_text(file.read_text().replace({old!r}, {new!r}))\n"
    before = script.read_text()
    script.write_text(before.replace("sys.exit", late + "sys.exit"))
    with pytest.raises(ConfigError, match=rf"^train@1: {message}; its result is not kept\. Fix: run the same"):
        reproduce(["train@1"])
    assert "train@1" not in (repository / "dvc.lock").read_text()
    ran(repository)
    script.write_text(before)
    walk = reproduce(["train@1"])
    assert ran(repository)[-1:] == ["train 1 starts"], "nothing came from the run cache"
    assert outcomes(walk)["train@1"] == "ran"


@pytest.mark.parametrize("text", ["{", '"schema_version": 99'])
def test_unreadable_record_is_an_error_and_not_deleted(repository, text):
    reproduce(["train@1"])
    meta = repository / "runs/seed-1/run.json"
    damaged = text if text == "{" else json.dumps(json.loads(meta.read_text()) | json.loads(f"{{{text}}}"))
    meta.write_text(damaged)
    change(["train.steps=20"])
    with pytest.raises(RecordError, match=r"seed-1: .*Fix: "):
        reproduce(["train@1"])
    assert meta.read_text() == damaged


@pytest.mark.parametrize(("code", "ours"), [(1, 1), (2, 2), (4, 4), (75, 75), (9, 1), (143, 75)])
def test_failed_stage_is_named_and_its_exit_code_kept_where_it_is_ours(repository, code, ours):
    change([f"train.exit={code}"])
    with pytest.raises(SwitchbackError, match=r"^train@1: ") as caught:
        reproduce(["train@1"])
    assert caught.value.exit_code == ours


def test_interrupted_stage_interrupts_the_walk(repository):
    change(["train.exit=130"])
    with pytest.raises(KeyboardInterrupt):
        reproduce(["train@1"])


def test_stages_run_under_this_python_and_leave_the_environment_alone(repository):
    before = dict(os.environ)
    reproduce(["train@1"])
    python = (repository / "runs/seed-1/state").read_text().split("python ")[1]
    assert os.path.dirname(python) == os.path.dirname(sys.executable)
    assert dict(os.environ) == before


def test_sigterm_reaches_the_stage_and_the_walk_ends_resumable(repository):
    (repository / "train.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('told').touch(), sys.exit(75)))\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", "from ci_tools.cli import main; main()", "reproduce", "train@1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (repository / "ready").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 75, errors
    assert (repository / "told").exists()
    assert "run the same command again to resume" in errors


@pytest.mark.parametrize(
    ("number", "code", "targets"),
    [(signal.SIGTERM, 75, []), (signal.SIGINT, 130, []), (signal.SIGINT, 130, ["train@1"])],
)
def test_signal_that_a_stage_swallows_ends_the_walk_after_it(repository, number, code, targets):
    script = repository / "train.py"
    wait = (
        "import signal, time\n"
        f"signal.signal({int(number)}, signal.SIG_IGN)\n"
        "pathlib.Path('ready').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
    )
    script.write_text(script.read_text().replace("seed, train", wait + "seed, train", 1))
    command = [sys.executable, "-c", "from ci_tools.cli import main; main()", "reproduce", *targets]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (repository / "ready").exists() and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        (repository / "go").touch()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert ran(repository) == ["double", "train 1 starts"]
    assert outcomes(reproduce(["train@1"]))["train@1"] == "cached", "its result was kept"


def test_stop_inside_of_dvc_is_told_as_one_whatever_dvc_makes_of_it(repository, monkeypatch):
    def stopped(*arguments, **options):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            raise DvcException("Unlock called on an unlocked lock")

    monkeypatch.setattr(Repo, "reproduce", stopped)
    with pytest.raises(SwitchbackError, match="run the same command again") as error:
        reproduce(["train@1"])
    assert error.value.exit_code == 75


def test_lock_of_another_process_is_one_clear_error_and_changes_no_params(repository, monkeypatch):
    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.01)
    hold = (
        "import sys; from dvc.repo import Repo, lock_repo\n"
        "with lock_repo(Repo()):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DependencyUnavailable, match="another DVC or switchback process"):
            reproduce(settings=["train.steps=20"])
        process.communicate()
    assert "steps: 10" in (repository / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("targets", "settings", "stays"),
    [
        (["no such stage"], ["train.steps=20"], False),
        (["train@1"], ["train.steps=20", "train.exit=2"], False),
        (["train@1"], ["train.steps=20", "train.exit=1"], True),
        (["double"], ["train.steps=20"], True),
    ],
)
def test_settings_stay_unless_the_run_is_refused(repository, targets, settings, stays):
    before = (repository / "params.yaml").read_text()
    with suppress(SwitchbackError):
        reproduce(targets, settings=settings)
    after = (repository / "params.yaml").read_text()
    assert ("steps: 20" in after) == stays
    assert stays or after == before


def test_outside_a_git_repository_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="git init"):
        reproduce()


def test_git_without_dvc_is_one_clear_error(tmp_path, monkeypatch, git):
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", ".")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ConfigError, match="Fix: run `dvc init` here"):
        reproduce()


def test_dvc_without_git_is_one_clear_error(repository):
    (repository / ".git").rename(repository / "gone")
    with pytest.raises(ConfigError, match="not a git repository"):
        reproduce()


def test_subfolder_names_the_root(repository, monkeypatch):
    (repository / "sub").mkdir()
    monkeypatch.chdir(repository / "sub")
    (repository / "sub" / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(ConfigError, match="not the root"):
        reproduce()


def test_missing_git_program_is_one_clear_error(repository, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DependencyUnavailable, match="git is not installed"):
        reproduce()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "dvc.yaml: no such file"),
        ("stages:\n  a: {cmd: 'true', outz: [x]}\n", "dvc.yaml"),
        ("stages:\n  a: {cmd: 'echo ${nothing}'}\n", "nothing"),
        ("stages: [\n", "dvc.yaml"),
    ],
)
def test_missing_or_broken_dvc_yaml_is_one_clear_error(repository, text, message):
    (repository / "dvc.yaml").unlink()
    if text:
        (repository / "dvc.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        reproduce()
    assert "\n" not in str(caught.value)


def test_broken_dvc_config_is_one_clear_error(repository):
    (repository / ".dvc/config").write_text("[core]\n    nonsense = 1\n")
    with pytest.raises(ConfigError, match=r"\.dvc/config: .*nonsense"):
        reproduce()


def test_unknown_target_is_one_clear_error(repository):
    with pytest.raises(ConfigError, match="nonsense"):
        reproduce(["nonsense"])


def test_missing_dependency_names_file_and_stage(repository):
    (repository / "dvc.yaml").write_text("stages:\n  a: {cmd: 'true', deps: [absent.csv]}\n")
    with pytest.raises(ConfigError, match=r"stage a: .*absent\.csv"):
        reproduce()


def test_params_are_validated_before_any_stage_runs(repository):
    (repository / "pyproject.toml").write_text('[tool.switchback]\nparams = "model.params:Params"\n')
    with pytest.raises(ConfigError, match=r"params\.yaml: "):
        reproduce()
    assert ran(repository) == []
    assert not (repository / "seen").exists()
