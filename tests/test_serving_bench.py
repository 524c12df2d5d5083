"""The serving bench: what it reads of wrk, and what it demands."""

import pytest

from benchmarks.serving import CEILING, KSERVE, OURS, contestants, judge, load
from ci_tools.errors import TrainingFailed

WRK = """\
Running 6s test @ http://127.0.0.1:9000/v2/models/reference/infer
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.01ms    1.12ms  20.31ms   91.00%
    Req/Sec     8.04k   412.11     8.91k    75.00%
  Latency Distribution
     50%  950.00us
     75%    4.20ms
     90%    4.90ms
     99%    1.07s
  48123 requests in 6.00s, 21.30MB read
{more}Requests/sec:   8016.72
Transfer/sec:      3.55MB
"""


def test_figures_of_wrk_are_read_in_their_units():
    assert load.parse(WRK.format(more="")) == pytest.approx((8016.72, 0.95, 1070.0, 0))


def test_failures_of_both_kinds_are_counted():
    more = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert load.parse(WRK.format(more=more)).failed == 15


def test_other_output_is_an_error():
    with pytest.raises(TrainingFailed, match="wrk says"):
        load.parse("unable to connect")


@pytest.mark.parametrize(
    ("ours", "ceiling", "kserve", "p99", "failed"),
    [
        (8000, 10000, 1000, (3, 9), []),
        (6000, 10000, 1000, (3, 9), ["0.7 of the ceiling"]),
        (8000, 10000, 2000, (3, 9), ["5.0 times KServe"]),
        (8000, 10000, 1000, (9, 3), ["p99 no worse than KServe's"]),
    ],
)
def test_each_limit_that_is_broken_is_named(ours, ceiling, kserve, p99, failed):
    rates = {CEILING: [ceiling] * 3, OURS: [ours] * 3, KSERVE: [kserve] * 3, "ours, through Envoy": [20000] * 3}
    assert judge(rates, {OURS: p99[0], KSERVE: p99[1]}) == failed


def test_peer_that_is_faster_is_named():
    assert judge({CEILING: [1], OURS: [1], "LitServe": [2]}, {}) == ["ahead of LitServe"]


def test_every_peer_has_its_script():
    for one in contestants.CONTESTANTS:
        assert not one.script or (contestants.PEERS / one.script).is_file()
        assert not one.packages or one.script
