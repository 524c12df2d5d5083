import pytest
from prometheus_client.parser import text_string_to_metric_families

from ci_tools.release.server.metrics import Histogram, Metrics
from tests.release.server.running import request


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_prometheus_reads_all_of_it(server):
    server.infer(request(3))
    server.infer(b"{")
    _, headers, body = server.ask("GET", "/metrics")
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = families(body.decode())
    counted = {sample.labels["code"]: sample.value for sample in found["switchback_server_requests"].samples}
    assert counted["200"] >= 1
    assert counted["400"] >= 1
    for name in ("switchback_server_request_seconds", "switchback_server_batch_rows"):
        buckets = [sample.value for sample in found[name].samples if sample.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        (count,) = [sample.value for sample in found[name].samples if sample.name.endswith("_count")]
        assert buckets[-1] == count > 0
    assert found["process_resident_memory_bytes"].samples[0].value > 1e7
    assert all(family.documentation for family in found.values())


def test_info_names_member_model_bundle_and_version(server, bundle):
    (info,) = families(server.ask("GET", "/metrics")[2].decode())["switchback_server_info"].samples
    assert info.labels["member"] == "m1"
    assert info.labels["bundle"] == bundle.name
    assert info.labels["model"] == "shop/risk"


def test_labels_with_quotes_and_line_ends_stay_one_label():
    metrics = Metrics(member='a"b\\c\nd', model="m", digest="")
    (info,) = families(metrics.render(waiting=0, in_flight=0, dropped=0).decode())["switchback_server_info"].samples
    assert info.labels["member"] == 'a"b\\c\nd'


def test_histogram_counts_each_value_at_the_first_bound_that_is_not_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    lines = list(histogram.lines("x"))
    assert lines == [
        'x_bucket{le="1.0"} 2',
        'x_bucket{le="2.0"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 12.0",
        "x_count 4",
    ]


@pytest.mark.parametrize(("waiting", "in_flight", "dropped"), [(1, 2, 3)])
def test_gauges_are_what_they_are_given(waiting, in_flight, dropped):
    text = Metrics(member="m", model="m", digest="").render(waiting=waiting, in_flight=in_flight, dropped=dropped)
    found = families(text.decode())
    assert found["switchback_server_queue_requests"].samples[0].value == waiting
    assert found["switchback_server_in_flight_requests"].samples[0].value == in_flight
    assert found["switchback_server_predictions_dropped"].samples[0].value == dropped
