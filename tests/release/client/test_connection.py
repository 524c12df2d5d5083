"""Questions to a real service on a real socket, and what comes instead of an answer."""

import socket
import threading

import pytest

from ci_tools.errors import ConfigError, DependencyUnavailable
from ci_tools.release.client.connection import TOKEN, Address, Connection
from ci_tools.release.home import Home
from tests.release.api import scenes
from tests.release.api.scenes import CANARY, Staged
from tests.release.api.serving import serving


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_status_and_events_cross_the_socket_unchanged(home):
    control = Staged(scenes.ramping(), scenes.ramp() * 1)
    with serving(control, path=home.socket), Connection(Address(home)) as connection:
        assert connection.status().decision == control.now.decision
        assert connection.events() == control.ledger
        assert connection.events(after=3) == control.ledger[3:]


def test_all_events_come_where_one_answer_does_not_hold_them(home):
    event = scenes.ramp()[0]
    control = Staged(scenes.idle(), [event.model_copy(update={"seq": seq}) for seq in range(1, 2204)])
    with serving(control, path=home.socket), Connection(Address(home)) as connection:
        assert [one.seq for one in connection.events()] == list(range(1, 2204))


def test_refusal_of_the_service_is_our_error_with_its_fix(home):
    with serving(Staged(), path=home.socket), Connection(Address(home)) as connection:
        with pytest.raises(ConfigError, match=r"^release service: there is nothing to roll back\. Fix: look at"):
            connection.order("rollback", "Ada", "because")
        with pytest.raises(ConfigError, match="no bundle"):
            connection.submit("0" * 64, "Ada")
        assert connection.submit(CANARY, "Ada").bundle == CANARY


def test_service_that_is_not_there_names_the_command_that_starts_it(home):
    with Connection(Address(home)) as connection, pytest.raises(DependencyUnavailable) as caught:
        connection.status()
    assert "does not answer" in str(caught.value)
    assert "`switchback serve`" in str(caught.value)
    assert caught.value.exit_code == 4


def test_failing_service_is_unavailable_not_wrong_use(home):
    control = Staged()
    control.broken = OSError(28, "No space left on device", "ledger.db")
    refused = pytest.raises(DependencyUnavailable, match=r"cannot do it now: ledger\.db: No space left")
    with serving(control, path=home.socket), Connection(Address(home)) as connection, refused:
        connection.status()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n[{}]",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_whatever_else_answers_is_not_taken_for_the_service(home, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.socket))
        listener.listen()
        told = []

        def once():
            while not told:
                with listener.accept()[0] as peer:
                    if peer.recv(65536):
                        told.append(peer.sendall(answer))

        thread = threading.Thread(target=once)
        thread.start()
        with Connection(Address(home)) as connection, pytest.raises(DependencyUnavailable):
            connection.status()
        thread.join()


class TestUrl:
    def test_token_comes_from_the_argument_the_environment_or_the_home(self, home, monkeypatch):
        with serving(Staged(), token="right") as url:
            for argument, variable, file in (("right", "wrong", "wrong"), ("", "right", "wrong"), ("", "", "right\n")):
                monkeypatch.setenv(TOKEN, variable)
                (home.path / "token").write_text(file)
                with Connection(Address(home, url, argument)) as connection:
                    assert connection.status().champion

    def test_wrong_token_is_wrong_use(self, home):
        refused = pytest.raises(ConfigError, match="the token is missing or wrong")
        with serving(Staged(), token="right") as url, Connection(Address(home, url, "wrong")) as connection, refused:
            connection.status()

    def test_no_token_at_all_says_where_it_is(self, home):
        with pytest.raises(ConfigError, match=TOKEN):
            Connection(Address(home, "http://127.0.0.1:1"))

    @pytest.mark.parametrize("url", ["http://release.corp:8070", "http://10.0.0.1", "http://127.0.0.1.evil.example"])
    def test_token_does_not_leave_the_machine_readable(self, home, url):
        with pytest.raises(ConfigError, match="http leaves this machine"):
            Connection(Address(home, url, "right"))

    @pytest.mark.parametrize("token", ["s3cr\u00e9t", "two\nlines"])
    def test_token_that_no_header_can_carry_is_refused(self, home, token):
        with pytest.raises(ConfigError, match=f"{TOKEN}: is no token"):
            Connection(Address(home, "http://127.0.0.1:1", token))

    @pytest.mark.parametrize(
        "url",
        ["release", "ftp://localhost", "http://", "//localhost", "http://[::1", "http://127.0.0.1:http",
         "http://127.0.0.1\n:80"],
    )  # fmt: skip
    def test_address_that_is_none_is_refused(self, home, url):
        with pytest.raises(ConfigError, match="is no address"):
            Connection(Address(home, url, "right"))
