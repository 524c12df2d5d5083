"""The service in Prometheus' text format. All names begin with `switchback_release_` or `switchback_service_`."""

from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ci_tools.release.api.tail import Seen
from ci_tools.release.control import Phase, Result, Status
from ci_tools.release.judge import Outcome, Verdict
from ci_tools.release.plan import Health, boot_time

TYPE = CONTENT_TYPE_LATEST


def exposition(status: Status, seen: Seen) -> bytes:
    """All metrics, as Prometheus scrapes them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*_release(status), *_evidence(status), *_fleet(status), *_service(status, seen)]))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, text: str, rows: Iterable[tuple[dict[str, str], float]]) -> GaugeMetricFamily:
    rows = list(rows)
    family = GaugeMetricFamily(f"switchback_{name}", text, labels=list(rows[0][0]) if rows else [])
    for labels, value in rows:
        family.add_metric(list(labels.values()), value)
    return family


def _release(status: Status) -> Iterator[Metric]:
    release = status.release
    phase = release.phase if release else Phase.IDLE
    result = release.result if release else None
    yield _gauge(
        "release_phase", "1 for the phase that the release is in.",
        (({"phase": one.value}, one is phase) for one in Phase),
    )  # fmt: skip
    yield _gauge(
        "release_result", "1 for the way in which the newest release ended; all 0 while it has not.",
        (({"result": one.value}, one is result) for one in Result),
    )  # fmt: skip
    yield _gauge(
        "release_info", "1; digests of the champion, of the champion before, and of the newest release.",
        [({"champion": status.champion, "previous": status.previous, "bundle": release.bundle if release else "",
           "release": release.id if release else ""}, 1.0)],
    )  # fmt: skip
    weight = release.canary_weight if release else 0.0
    yield _gauge("release_canary_weight", "Share of all traffic that the plan gives the canary.", [({}, weight)])
    in_force = weight if status.actual.leased else 0.0
    yield _gauge("release_canary_weight_in_force", "The same while the lease holds, else 0.", [({}, in_force)])
    yield _gauge(
        "release_duration_seconds", "Age of the release in progress, or duration of the last one.",
        [({}, release.seconds if release else 0.0)],
    )  # fmt: skip


def _evidence(status: Status) -> Iterator[Metric]:
    verdicts = status.decision.verdicts if status.decision else ()
    named = [({"metric": one.metric}, one) for one in verdicts]
    values = (
        ("harm", "Largest log10 e-value so far against: no worse than tolerated.", [v.log10_harm for v in verdicts]),
        ("harm_needed", "At which it rolls back.", [v.log10_harm_needed for v in verdicts]),
        ("safe", "log10 e-value against: as bad as the margin.", [v.log10_safe for v in verdicts]),
        ("safe_needed", "At which the metric counts as safe.", [v.log10_safe_needed for v in verdicts]),
    )
    for name, text, column in values:
        rows = [(labels, value) for (labels, _), value in zip(named, column, strict=True)]
        yield _gauge(f"release_evidence_{name}", text, rows)
    yield _gauge(
        "release_outcome", "1 for the judge's outcome of each metric.",
        [({"metric": one.metric, "outcome": outcome.value}, one.outcome is outcome) for one in verdicts
         for outcome in Outcome],
    )  # fmt: skip
    yield _gauge("release_counted", "What the judge counted, by metric.", list(_counts(verdicts)))


def _counts(verdicts: Iterable[Verdict]) -> Iterator[tuple[dict[str, str], float]]:
    for one in verdicts:
        for name, count in one.counts.items():
            yield {"metric": one.metric, "what": name}, float(count)


def _fleet(status: Status) -> Iterator[Metric]:
    members = status.actual.members
    yield _gauge(
        "service_server_health", "1 for the health of each model server.",
        [({"server": one.name, "role": one.role.value, "health": health.value}, one.health is health)
         for one in members for health in Health],
    )  # fmt: skip
    restarts = CounterMetricFamily(
        "switchback_service_server_restarts", "How often a model server ended by itself and was started again.",
        labels=["server", "role"],
    )  # fmt: skip
    for one in members:
        restarts.add_metric([one.name, one.role.value], one.restarts)
    yield restarts
    yield CounterMetricFamily(
        "switchback_service_envoy_restarts", "How often Envoy was started again.", value=status.actual.envoy_restarts
    )


def _service(status: Status, seen: Seen) -> Iterator[Metric]:
    actual = status.actual
    yield _gauge("service_leased", "1 while the plan's weights are in force.", [({}, actual.leased)])
    yield _gauge("service_plan_serial", "Serial of the plan in force.", [({}, actual.serial)])
    age = max(boot_time() - actual.heartbeat, 0.0)
    yield _gauge("service_supervisor_heartbeat_age_seconds", "Since the supervisor last wrote.", [({}, age)])
    yield _gauge("service_warnings", "Warnings that the status page shows.", [({}, len(status.warnings))])
    head = seen.head.seq if seen.head else 0
    yield _gauge("service_ledger_head", "Number of the ledger's newest event.", [({}, head)])
