"""The ledger's end, read in pieces."""

from ci_tools.release.api.tail import SHOWN, Tail
from tests.release.api import scenes
from tests.release.api.scenes import START, Staged


class Counting(Staged):
    """Remembers behind which event it was asked."""

    def __init__(self, *given):
        super().__init__(*given)
        self.asked = []

    def events(self, after=0, limit=1000):
        self.asked.append(after)
        return super().events(after, limit)


def test_only_what_is_new_is_read():
    control = Counting(scenes.ramping(), scenes.ramp())
    tail = Tail(control)
    first = tail.look()
    control.ledger += [event.model_copy(update={"seq": 7}) for event in control.ledger[-1:]]
    second = tail.look()
    assert [first.head.seq, second.head.seq] == [6, 7]
    assert control.asked == [0, 6]


def test_long_ledger_is_read_in_pages_and_its_newest_events_are_kept():
    event = scenes.ramp()[0]
    control = Counting(scenes.idle(), [event.model_copy(update={"seq": seq}) for seq in range(1, 2502)])
    seen = Tail(control).look()
    assert [one.seq for one in seen.events] == list(range(2502 - SHOWN, 2502))
    assert control.asked == [0, 1000, 2000]


def test_weights_are_those_of_the_newest_release_from_its_beginning():
    control = Staged(scenes.ramping(), scenes.ramp())
    tail = Tail(control)
    assert tail.look().weights == tuple(
        (30.0 * at, weight) for at, weight in enumerate(scenes.WEIGHTS[:5], 1)
    )  # fmt: skip
    control.ledger.append(
        control.ledger[-1].model_copy(update={"seq": 7, "release": "r3", "at": START.isoformat(), "body": {}})
    )
    assert tail.look().weights == ()


def test_weight_that_stays_is_one_point():
    body = scenes.weighted(0.02)
    seen = Tail(Staged(scenes.ramping(), scenes.events(("weight", body), ("held", {}), ("weight", body)))).look()
    assert seen.weights == ((0.0, 0.02),)


def test_event_whose_plan_is_damaged_is_no_weight():
    bodies = [{"plan": None}, {"plan": 3}, {"plan": {}}, {"plan": {"canary_weight": "x"}}]
    seen = Tail(Staged(scenes.ramping(), scenes.events(*(("weight", body) for body in bodies)))).look()
    assert (seen.weights, seen.head.seq) == ((), 4)


def test_empty_ledger_has_no_head():
    assert Tail(Staged()).look().head is None
