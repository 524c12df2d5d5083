"""The parts of the comment. Each is a list of forms of the same content, the fullest first, the last the shortest."""

from collections.abc import Sequence

from ci_tools.gates.reasons import Reason
from ci_tools.gates.verdict import Outcome
from ci_tools.report import charts, cost, numerals, wording
from ci_tools.report.answer import SIGNS
from ci_tools.report.links import Links
from ci_tools.report.markdown import code, details, link, table
from ci_tools.report.numerals import plural
from ci_tools.report.results import Curve, Judged, Metric, PolicyChange, Results

Forms = Sequence[str]
_FEW = 12
"""Entries of a list in its short form."""
_TRAINING = ("divergence", "vanishing_gradients", "slow_convergence", "plateau", "overfitting", "numerical_instability")
"""Gates whose failure a curve shows."""


def against_main(results: Results) -> Forms:
    """Each metric with its change, the interval, and whether it is noise."""
    compared = [one for one in results.metrics if one.interval is not None]
    rest = [one for one in results.metrics if one.interval is None]
    base = code(results.base) or "main"
    parts = [f"### What changed against {base}" if results.base else "### Quality"]
    if compared:
        head = ("metric", "reads as", f"{base} → here", "change (interval)", "margin")
        seeds = plural(min(one.seeds for one in compared), "seed")
        parts += [
            table(head, map(_compared, compared), right=(4,)),
            f"Means over {seeds} per arm. A change is noise where its interval holds 0: other seeds and other test "
            "rows would bring as much. The margin is the loss that `gates.yaml` tolerates.",
        ]
    else:
        parts.append(f"Nothing was compared. {_why_not_compared(results)}")
    if rest:
        rows = [(code(one.metric), *_spread(one.here, one.sd), str(one.seeds)) for one in rest]
        values = table(("metric", "mean", "sd over seeds", "seeds"), rows, right=(1, 2, 3))
        parts.append(details(f"{plural(len(rest), 'metric')} not compared", values) if compared else values)
    if not results.metrics:
        parts.append("No metric was found.")
    return ["\n\n".join(parts)]


def failures(results: Results) -> Forms:
    """What failed or stops the merge: why, how far, what to do. Nothing where nothing did."""
    found = [one for one in results.verdicts if one.outcome.rank >= Outcome.ERROR.rank or one.blocks]
    found.sort(key=lambda one: (not one.blocks, -one.outcome.rank, one.gate != results.cause))
    if not found:
        return [""]
    head = ["### What failed, why, and what to do"]
    if results.suspect:
        head.append(f"Look first at {code(results.suspect)}: it may have caused the others.")
    full, bare = ([_failure(one, evidence) for one in found] for evidence in (True, False))
    few = [_in_a_line(one) for one in found[:_FEW]]
    more = [f"… and {len(found) - _FEW} more."] if len(found) > _FEW else []
    return ["\n\n".join([*head, *items]) for items in (full, bare, ["\n".join(few), *more])]


def others(results: Results) -> Forms:
    """What was inconclusive and what passed, folded."""
    open_, passed = ([one for one in results.verdicts if one.outcome is kind] for kind in _NOT_BAD)
    open_ = [one for one in open_ if not one.blocks]
    parts, short = [], []
    if open_:
        rows = [(wording.title(one), _measured(one), wording.why(one)) for one in open_]
        summary = f"{SIGNS[Outcome.INCONCLUSIVE]} {plural(len(open_), 'gate')} had too little evidence"
        parts.append(details(summary, table(("gate", "measured", "why"), rows)))
        short.append(f"{summary}.")
    if passed:
        rows = [(wording.title(one), _measured(one), wording.basis(one)) for one in passed]
        summary = f"{SIGNS[Outcome.PASSED]} {plural(len(passed), 'gate')} passed"
        parts.append(details(summary, table(("gate", "measured", "limit"), rows)))
        short.append(f"{summary}.")
    return ["\n\n".join(parts), "\n\n".join(short)]


def curves(results: Results) -> Forms:
    """Loss and validation metrics, folded unless training itself failed."""
    if not results.curves:
        return [""]
    failed = any(one.outcome is Outcome.FAILED and one.gate in _TRAINING for one in results.verdicts)
    loss = next((_loss(one) for one in results.curves if one.of == "loss"), "")
    metrics = sum(one.of == "metric" for one in results.curves)
    parts = [part for part in (loss, plural(metrics, "validation metric") if metrics else "") if part]
    summary = f"Curves: {', '.join(parts)}"
    full, tables = (
        details(summary, "\n\n".join(_drawn(one, len(results.runs), picture) for one in results.curves), failed)
        for picture in (True, False)
    )
    return [full, tables, f"{summary}."]


def slices(results: Results) -> Forms:
    """The worst slices, folded."""
    if not results.slices:
        return [""]
    compared = any(one.change is not None for one in results.slices)
    rows = []
    for one in results.slices:
        width = 0.0
        if one.interval and one.interval[0] is not None and one.interval[1] is not None:
            width = one.interval[1] - one.interval[0]
        decimals = numerals.places([one.here, one.change], width)
        between = f" ({numerals.span(one.interval, decimals)})" if one.interval else ""
        size = numerals.MISSING if one.rows is None else f"{one.rows:,}"
        changed = [numerals.fixed(one.change, decimals, True) + between] if compared else []
        mark = " **failed**" if one.failed else ""
        rows.append((code(one.slice) + mark, code(one.metric), size, numerals.fixed(one.here, decimals), *changed))
    head = ("slice", "metric", "rows", "here", *(["change against main"] if compared else []))
    failed = sum(one.failed for one in results.slices)
    told = f", {failed} failed" if failed else ""
    summary = f"Slices: the {len(rows)} worst {'changes' if compared else 'values'}{told}"
    return [details(summary, table(head, rows, right=(2, 3, 4)[: len(head) - 2]), bool(failed)), f"{summary}."]


def price(results: Results) -> Forms:
    """Time, GPU minutes, energy, and what the cache saved, folded."""
    spent = cost.of(results)
    parts = [f"gates {numerals.seconds(results.gate_seconds)}"]
    if results.pipeline_seconds is not None:
        parts.insert(0, f"pipeline {numerals.seconds(results.pipeline_seconds)}")
    if spent.gpu_minutes:
        now = "" if spent.gpu_minutes_now is None else f" ({spent.gpu_minutes_now:.1f} of them now)"
        parts.append(f"{spent.gpu_minutes:.1f} GPU minutes in these runs{now}")
    if spent.joules is not None:
        parts.append(f"{numerals.energy(spent.joules)} by their GPUs")
    if spent.saved_seconds or spent.saved_unknown:
        unknown = f", and {plural(spent.saved_unknown, 'stage')} of unknown length" if spent.saved_unknown else ""
        parts.append(f"the cache saved {numerals.seconds(spent.saved_seconds)}{unknown}")
    summary = f"Cost: {', '.join(parts)}"
    rows = [
        (
            code(one.stage),
            one.outcome,
            numerals.seconds(one.seconds),
            numerals.seconds(one.ran_seconds),
        )
        for one in results.stages
    ]
    trained = f"Training took {numerals.seconds(spent.train_seconds)} in {plural(len(results.runs), 'run')}."
    stages = [table(("stage", "now", "took", "last real run"), rows, right=(2, 3))] if rows else []
    return [details(summary, "\n\n".join([*stages, trained])), f"{summary}."]


def more(links: Links) -> Forms:
    """Where to read on."""
    named = (
        ("W&B run", links.wandb),
        ("W&B report", links.wandb_report),
        ("HTML report", links.html),
        ("artifacts", links.artifacts),
    )
    found = [link(words, url) for words, url in named if url]
    return [f"**More:** {' · '.join(found)}" if found else ""]


def policy(results: Results) -> Forms:
    """What the gates were told differently from the base revision; in sight wherever something is."""
    base = code(results.base)
    judge = f"Judged by the policy of {code(results.policy)}." if results.policy else ""
    if not base:
        return [judge]
    if not (results.policy_changes or results.policy_files or results.policy_unreadable):
        return [judge or f"The policy of the gates is that of {base}."]
    head = ["### The policy changed", f"{judge} What is changed here counts once it is merged."]
    if not judge:
        head = ["### The policy changed", f"What judges this run is not what judges {base}."]
    if results.policy_unreadable:
        head.append("Not all of it could be compared value by value: read the diff.")
    forms = []
    for most in (None, _FEW):
        files = "\n".join(f"- {code(one.file)} {_BECAME[one.became]}" for one in results.policy_files[:most])
        forms.append([*head, *_changes(results.policy_changes[:most]), *filter(None, [files])])
    if more := sum(max(len(found) - _FEW, 0) for found in (results.policy_changes, results.policy_files)):
        forms[1].append(f"… and {more} more.")
    return ["\n\n".join(form) for form in forms]


def fingerprint(results: Results) -> Forms:
    """What decides the bits, folded."""
    digests = {"params": results.params_digest, "policy": results.policy_digest, "code": results.code_digest}
    rows = [(code(key), code(value)) for key, value in results.fingerprint.items()]
    rows += [(f"SHA-256 of {key}", code(digest)) for key, digest in digests.items() if digest]
    if results.commit:
        rows.append(("commit", code(results.commit)))
    return [details("Fingerprint of the run", table(("", ""), rows)) if rows else "", ""]


_BECAME = {"new": "is new", "removed": "was removed", "changed": "was changed"}
_NOT_BAD = (Outcome.INCONCLUSIVE, Outcome.PASSED)


def _compared(one: Metric) -> tuple[str, ...]:
    levels, change = wording.change(one)
    direction = "" if one.higher_is_better else " (lower is better)"
    reading = f"**{wording.reading(one)}**" if one.outcome is Outcome.FAILED else wording.reading(one)
    return (code(one.metric) + direction, reading, levels, change, numerals.short(one.margin))


def _why_not_compared(results: Results) -> str:
    """The reason of the first metric that was to be compared, unless there was nothing to compare with."""
    if not results.base:
        return wording.cause(Reason.NO_BASE)
    open_ = (one for one in results.verdicts if one.gate == "quality_against_main" and one.statistic is None)
    return next(map(wording.why, open_), "No gate compared a metric with it.")


def _failure(one: Judged, evidence: bool) -> str:
    blocks = "blocks" if one.blocks else "does not block"
    told = f"{wording.why(one)} {wording.place(one)}".rstrip()
    lines = [f"**{SIGNS[one.outcome]} {wording.title(one)}** {one.outcome}, {blocks}. {told}"]
    if numbers := wording.measured(one):
        lines.append(f"Measured: {numbers}. Limit: {wording.basis(one)}.")
    if one.basis == "uncalibrated":
        lines.append("If this model trains well so, `switchback calibrate` measures a limit of its own.")
    if fix := wording.remedy(one):
        lines.append(f"**Try:** {fix}.")
    parts = ["\\\n".join(lines)]
    if evidence and one.facts:
        rows = [
            (code(fact.name), code(fact.value) if isinstance(fact.value, str) else numerals.short(fact.value))
            for fact in one.facts
        ]
        parts.append(details("Evidence", table(("what", "value"), rows, right=(1,))))
    return "\n\n".join(parts)


def _measured(one: Judged) -> str:
    return wording.measured(one) or numerals.MISSING


def _in_a_line(one: Judged) -> str:
    numbers = wording.measured(one)
    return f"- {SIGNS[one.outcome]} {wording.title(one)} {one.outcome}" + (f": {numbers}" if numbers else "")


def _loss(curve: Curve) -> str:
    early = charts.early(curve)
    return f"loss {charts.change(curve)}" + (f" ({early})" if early else "")


def _drawn(curve: Curve, runs: int, picture: bool) -> str:
    what = "Training loss" if curve.of == "loss" else f"{code(curve.name)} on {code(curve.split)}"
    seeds = plural(curve.seeds, "seed") if curve.seeds >= runs else f"{curve.seeds} of {plural(runs, 'seed')}"
    heading = f"**{what}** ({', '.join(filter(None, (seeds, charts.early(curve))))})"
    drawing = [charts.chart(curve)] if picture else []
    return "\n\n".join(part for part in (heading, *drawing, charts.points(curve)) if part)


def _changes(changes: Sequence[PolicyChange]) -> list[str]:
    """A table per file."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for one in changes:
        rows.setdefault(one.file, []).append((code(one.key), _setting(one.old), _setting(one.new)))
    return [table((file, "before", "now"), told, right=(1, 2)) for file, told in rows.items()]


def _setting(value: float | bool | str | None) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool | str) else numerals.short(value, 6)


def _spread(mean: float | None, sd: float | None) -> tuple[str, str]:
    decimals = numerals.places([mean], sd or 0.0)
    return numerals.fixed(mean, decimals), numerals.fixed(sd, decimals)
