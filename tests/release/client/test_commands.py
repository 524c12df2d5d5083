"""The commands as the command line calls them: text, JSON and exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ci_tools import console
from ci_tools.errors import ConfigError, DataError, DependencyUnavailable, SwitchbackError
from ci_tools.release.bundle import Trust
from ci_tools.release.bundle.keys import public_beside, signing_key
from ci_tools.release.client import Address, commands, follow, order, release, status
from ci_tools.release.client.actor import actor
from ci_tools.release.control import Phase, Result
from ci_tools.release.home import Home
from ci_tools.release.plan import Health
from ci_tools.release.registry import Registry
from tests.release.api import scenes
from tests.release.api.scenes import CANARY, CHAMPION, Staged
from tests.release.api.serving import serving, until
from tests.release.bundle import toy
from tests.release.client.played import Played, inconclusive

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv(console.QUIET, raising=False)
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


class Anything(Staged):
    """Takes every bundle; it is champion at once."""

    def __init__(self, scene):
        super().__init__(scene)
        self.submitted = []

    def submit(self, bundle, actor, again=False):
        self.submitted.append(bundle)
        return self.now.release


class TestRelease:
    @pytest.mark.parametrize(
        ("scene", "code", "said"),
        [
            (scenes.watching, 0, "Promoted, and watched: "),
            (scenes.rolled_back, 1, "Rolled back: "),
            (inconclusive, 3, "Inconclusive: "),
        ],
    )
    def test_exit_code_and_sentence_are_those_of_the_verdict(self, home, capsys, scene, code, said):
        with serving(Played(scenes.mirroring(), scene()), path=home.socket):
            done = release(CANARY, Address(home), actor="Ada")
        assert done.exit_code == done.to_json()["exit_code"] == code
        assert str(done).startswith(f"{said}{CANARY[:12]}")
        verdicts = scene().decision.verdicts
        assert [verdict.sentence in str(done) for verdict in verdicts] == [True] * len(verdicts)
        assert json.loads(json.dumps(done.to_json()))["release"]["bundle"] == CANARY
        assert said in capsys.readouterr().err

    def test_champion_is_promoted_already(self, home):
        with serving(Played(scenes.watching()), path=home.socket):
            assert release(CANARY, Address(home), actor="Ada").exit_code == 0

    @pytest.mark.parametrize("other", [scenes.idle, scenes.ramping])
    def test_champion_is_told_to_be_one_already_and_nothing_changes(self, home, capsys, other):
        """Even while another bundle is judged."""
        installed = scenes.release(Phase.IDLE, Result.PROMOTED, "The first bundle of all.", seconds=90.0)
        control = Staged(other())
        control.submit = lambda bundle, actor, again: installed.model_copy(update={"id": "r1", "bundle": CHAMPION})
        with serving(control, path=home.socket):
            done = release(CHAMPION, Address(home), actor="Ada")
        assert str(done) == (
            f"Already champion: {CHAMPION[:12]}, since 2026-11-21 10:01:30 UTC (r1). Nothing has changed."
        )
        assert (done.exit_code, done.to_json()["already"]) == (0, True)
        assert "Promoted" not in capsys.readouterr().err
        assert control.orders == []

    def test_bundle_that_was_rolled_back_is_told_so_and_nothing_begins(self, home, capsys):
        """A job that is retried must not burden clients with it a second time."""
        control = Staged(scenes.rolled_back())
        control.submit = lambda bundle, actor, again: control.now.release
        with serving(control, path=home.socket):
            done = release(CANARY, Address(home), actor="Ada")
        assert str(done).startswith(f"Rolled back: {CANARY[:12]}")
        assert str(done).endswith("nothing has begun now. To release the same bundle once more, say --again.")
        assert (done.exit_code, done.to_json()["already"]) == (1, True)
        assert capsys.readouterr().err == ""

    def test_bundle_that_was_rolled_back_is_released_once_more_if_that_is_said(self, home):
        control = Played(scenes.mirroring(), scenes.watching())
        control.now = scenes.rolled_back()
        with serving(control, path=home.socket):
            done = release(CANARY, Address(home), actor="Ada", again=True)
        assert (done.exit_code, control.orders) == (0, [("submit again", "Ada")])

    def test_first_champion_that_answers_nobody_is_no_success_when_it_is_released_again(self, home):
        """As *Re-run failed jobs* does."""
        installed = scenes.release(Phase.IDLE, Result.PROMOTED, "The first bundle of all.")
        installed = installed.model_copy(update={"bundle": CHAMPION, "champion": ""})
        control = Staged(scenes.idle())
        control.submit = lambda bundle, actor, again: installed
        with serving(control, path=home.socket):
            assert release(CHAMPION, Address(home), actor="Ada").already
            servers = [m.model_copy(update={"health": Health.FAILED}) for m in control.now.actual.members]
            actual = control.now.actual.model_copy(update={"members": tuple(servers)})
            control.now = control.now.model_copy(update={"actual": actual})
            with pytest.raises(DependencyUnavailable, match="answers nobody: its server failed"):
                release(CHAMPION, Address(home), actor="Ada")

    def test_what_awaits_a_release_is_said_when_it_begins(self, home, capsys):
        idle = scenes.idle().model_copy(update={"per_second": 12.0})
        control = Played(scenes.mirroring(), scenes.watching())
        control.now = idle
        with serving(control, path=home.socket):
            release(CANARY, Address(home), actor="Ada")
        said = capsys.readouterr().err
        assert "Promotion takes 2 min 0 s at least; what is not decided after 1 h 0 min is inconclusive." in said
        assert "Clients send 12 requests per second now. The canary gets 1 % of them at first and 25 % at most" in said

    def test_bundle_is_checked_into_the_registry_first(self, home, tmp_path):
        key = signing_key(tmp_path / "signing.pem")
        folder = toy.sealed(tmp_path / "packed", key)
        control = Anything(scenes.watching())
        with serving(control, path=home.socket):
            release(str(folder), Address(home), trust=Trust(public_keys=(public_beside(key),)), actor="Ada")
        (digest,) = control.submitted
        assert Registry(home.bundles).digests() == [digest]

    def test_bundle_of_somebody_else_is_not_released(self, home, tmp_path):
        folder = toy.sealed(tmp_path / "packed", signing_key(tmp_path / "signing.pem"))
        stranger = Trust(public_keys=(public_beside(signing_key(tmp_path / "other" / "signing.pem")),))
        control = Anything(scenes.watching())
        with serving(control, path=home.socket), pytest.raises(DataError):
            release(str(folder), Address(home), trust=stranger, actor="Ada")
        assert control.submitted == []

    def test_bundle_of_the_registry_is_named_by_the_beginning_of_its_digest(self, home):
        known = ["ab" * 32, "ab" * 10 + "cd" * 22]
        for digest in known:
            (home.bundles / digest).mkdir(parents=True)
        control = Anything(scenes.watching())
        with serving(control, path=home.socket):
            release(known[1][:22], Address(home), actor="Ada")
            with pytest.raises(ConfigError, match=r"2 bundles begin with abababab\. Fix: give more"):
                release("abababab", Address(home), actor="Ada")
        assert control.submitted == [known[1]]

    def test_second_call_joins_the_first_ones_release(self, home):
        control = Staged(scenes.idle())
        with serving(control, path=home.socket):
            calls = [threading.Thread(target=release, args=(CANARY, Address(home)), kwargs={"actor": "Ada"})
                     for _ in range(2)]  # fmt: skip
            for call in calls:
                call.start()
            until(lambda: len(control.orders) == 2)
            control.now = scenes.rolled_back()
            for call in calls:
                call.join(30)
        assert not any(call.is_alive() for call in calls)

    def test_service_that_is_not_there_is_unavailable(self, home):
        with pytest.raises(DependencyUnavailable):
            release(CANARY, Address(home), actor="Ada", patience=0.1)

    def test_folder_is_sent_to_a_service_at_a_url(self, home, tmp_path):
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "manifest.json").write_bytes(b"{}")
        control = Anything(scenes.rolled_back())
        with serving(control, token="t") as url:
            release(str(tmp_path / "bundle"), Address(home, url, "t"), actor="Ada")
        assert (control.added, control.submitted) == ({"manifest.json": b"{}"}, [CANARY])

    def test_what_is_no_folder_is_not_sent(self, home, tmp_path):
        with pytest.raises(ConfigError, match="is no digest and no folder"):
            release(str(tmp_path / "bundle"), Address(home, "http://127.0.0.1:1", "t"), actor="Ada")

    def test_interruption_leaves_the_release_alone_and_says_so(self, home):
        control = Staged(scenes.idle())
        program = (
            # A shell that runs the tests in the background has them ignore Ctrl-C, and all that they start.
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "import sys; from pathlib import Path; from ci_tools.release.client import Address, release\n"
            "from ci_tools.release.home import Home\n"
            "done = release(sys.argv[2], Address(Home(Path(sys.argv[1]))), actor='Ada')\n"
            "print(done); sys.exit(done.exit_code)"
        )
        with serving(control, path=home.socket):
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(home.path), CANARY], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, cwd=ROOT,
            )  # fmt: skip
            assert process.stderr
            said = []
            for line in process.stderr:
                said.append(line)
                if "Mirroring" in line:
                    break
            assert "Mirroring" in said[-1], said
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=30)
            assert process.returncode == 130
            assert "The release goes on without this command" in told
            assert control.orders == [("submit", "Ada")]


class TestStatus:
    def test_text_tells_state_evidence_servers_and_warnings(self, home):
        with serving(Staged(scenes.held()), path=home.socket):
            shown = status(Address(home))
        text = str(shown)
        assert text.startswith("Held: ")
        assert "warning: No traffic: Envoy has answered nothing for 61 s." in text
        assert "not in force: all traffic is on the champion" in text
        for verdict in scenes.held().decision.verdicts:
            assert f"\n{verdict.metric}" in text
        assert f"champion         {CHAMPION[:12]}" in text
        assert (shown.exit_code, shown.to_json()["status"]["champion"]) == (0, CHAMPION)

    def test_lines_are_not_wider_than_their_columns_and_hold_no_control_characters(self, home):
        member = scenes.canary(reason="exit\x1b[31m code\n1")
        hostile = scenes.ramping().model_copy(
            update={"warnings": ("a\x1b[2Jb\u202e",), "actual": scenes.actual(member)}
        )
        with serving(Staged(hostile), path=home.socket):
            text = str(status(Address(home)))
        assert all(character.isprintable() or character == "\n" for character in text)
        assert all(line == line.rstrip() for line in text.splitlines())

    def test_service_that_is_not_there_is_unavailable(self, home):
        with pytest.raises(DependencyUnavailable):
            status(Address(home))


class TestOrder:
    @pytest.mark.parametrize(
        ("name", "before", "said"),
        [
            ("pause", scenes.ramping, "Held: "),
            ("resume", scenes.paused, "Ramping: "),
            ("rollback", scenes.ramping, "Rolled back: "),
            ("promote", scenes.ramping, "Promoted, and watched: "),
        ],
    )
    def test_order_is_given_under_a_name_and_its_outcome_told(self, home, name, before, said):
        control = Staged(before())
        with serving(control, path=home.socket):
            done = order(name, Address(home), reason=" drill ", actor="Ada")
        assert control.orders == [(name, "Ada", "drill")]
        assert str(done).startswith(said)
        assert done.to_json()["exit_code"] == 0

    def test_order_without_a_reason_is_not_given(self, home):
        with pytest.raises(ConfigError, match="--reason"):
            order("rollback", Address(home), reason="  ")

    def test_order_that_makes_no_sense_is_refused(self, home):
        with serving(Staged(), path=home.socket), pytest.raises(ConfigError, match="nothing to roll back"):
            order("rollback", Address(home), reason="x", actor="Ada")


class TestActor:
    @pytest.fixture
    def git(self, tmp_path, monkeypatch):
        config = tmp_path / "gitconfig"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        return config

    def test_name_given_comes_first_then_actions_then_git_then_the_system(self, git, monkeypatch):
        monkeypatch.setenv("LOGNAME", "login")
        assert actor() == "login"
        git.write_text("[user]\n\tname = Grace Hopper\n")
        assert actor() == "Grace Hopper"
        monkeypatch.setenv("GITHUB_ACTOR", "octocat")
        assert actor() == "octocat"
        assert actor("Ada") == "Ada"

    def test_name_is_one_printable_line(self, git):
        assert actor(" A\nB\u202e ").isprintable()
        assert len(actor("x" * 500)) == 120

    def test_nobody_is_an_error(self, git, monkeypatch):
        monkeypatch.setattr(commands.who.__globals__["getpass"], "getuser", lambda: "")
        with pytest.raises(ConfigError, match="--actor"):
            actor()


def test_client_starts_without_what_only_the_service_needs():
    heavy = ("torch", "onnxruntime", "starlette", "uvicorn", "jinja2", "prometheus_client", "scipy")
    code = f"import sys, ci_tools.release.client; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ)
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_ledger_is_verified_without_its_service(home):
    ledger = pytest.importorskip("ci_tools.release.ledger", reason="the ledger is another part")
    with ledger.Ledger(home.ledger) as written:
        for number in range(3):
            written.append("held", "service", "r1", {"reason": str(number)})
    shown = status(Address(home), verify=True)
    assert (shown.verified, shown.status, shown.exit_code) == (3, None, 4)
    assert "ledger verified: 3 events" in str(shown)
    with serving(Staged(), path=home.socket):
        assert status(Address(home), verify=True).exit_code == 0


def test_ledger_of_a_service_elsewhere_is_not_taken_for_the_one_here(home):
    with pytest.raises(ConfigError, match=r"--verify: reads the ledger's file.*on its machine"):
        status(Address(home, "http://127.0.0.1:1", "t"), verify=True)


def test_ledger_that_does_not_fit_is_told_with_the_status(home, monkeypatch):
    wrong = SwitchbackError("event 2 does not fit", where="ledger.db")
    monkeypatch.setattr(commands, "_verified", lambda address: (None, wrong))
    with serving(Staged(), path=home.socket):
        shown = status(Address(home), verify=True)
    assert shown.exit_code == 2
    assert "error: ledger.db: event 2 does not fit" in str(shown)
    assert shown.to_json()["verified"] is None


def test_bar_is_drawn_on_a_terminal_only(home, monkeypatch, capsys):
    monkeypatch.setattr(commands, "on_terminal", lambda: True)
    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setattr(follow, "EVERY", 0.01)
    with serving(Played(scenes.mirroring(), scenes.ramping(), scenes.watching()), path=home.socket):
        release(CANARY, Address(home), actor="Ada")
    assert "evidence, %" in capsys.readouterr().err
