"""Why a request gets no answer from the model, as the client reads it."""

from ci_tools.harmless import one_line

_QUOTED = 60
"""Characters of a client's value that an error quotes."""


class Refusal(Exception):
    """A request that is answered with `{"error": …}`."""

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def bad(sentence: str) -> Refusal:
    """The request breaks a rule of the protocol or of the model's inputs."""
    return Refusal(400, sentence)


def busy(sentence: str) -> Refusal:
    """Nothing is wrong with the request; it may come again."""
    return Refusal(503, sentence, (("retry-after", "1"),))


def late(milliseconds: float) -> Refusal:
    """The deadline has passed."""
    return Refusal(504, f"no answer within the deadline of {milliseconds:g} ms")


def invalid(sentence: str) -> Refusal:
    """The model answered, and not as its manifest says."""
    return Refusal(500, sentence, (("x-switchback-event", "invalid_outputs"),))


def failed(sentence: str) -> Refusal:
    """The model did not answer."""
    return Refusal(500, sentence)


def shown(value: object) -> str:
    """A client's value, short enough and harmless in a log.

    A long string or list is cut before it is rendered: what is quoted must cost no more than what is shown.
    """
    if isinstance(value, str | list | tuple):
        value = value[:_QUOTED]
    elif isinstance(value, dict):
        value = dict(list(value.items())[:3])
    elif isinstance(value, int) and value.bit_length() > 8 * _QUOTED:
        return "a number of more than 100 digits"
    return one_line(repr(value), _QUOTED)
