"""The pull request comment: can I merge? what changed? what failed, why, what to do? and what it rests on.

It is composed of our own words, numbers and names as code, from results.json alone, and fits GitHub's limit.
"""

from dataclasses import dataclass

from ci_tools.gates.verdict import Outcome
from ci_tools.report import answer, lock, sections
from ci_tools.report.answer import SIGNS, Answer
from ci_tools.report.links import Links
from ci_tools.report.markdown import code, units
from ci_tools.report.numerals import plural
from ci_tools.report.results import Results

LONGEST = 65_400
"""Characters: GitHub takes 65,536, and a hidden first line by which the comment is found again needs some."""


@dataclass
class _Section:
    """A part of the comment in forms of falling length."""

    name: str
    forms: sections.Forms
    rank: int
    """The lowest is shortened first."""
    form: int = 0

    @property
    def text(self) -> str:
        return self.forms[self.form]


def render(results: Results, links: Links | None = None, longest: int = LONGEST) -> str:
    """The comment as Markdown; failures first, details folded.

    Where it would be too long, parts are shortened in a fixed order, and a line says which.

    Args:
        results: what is told; its names may be hostile.
        links: where more is to be read.
        longest: characters it may have.
    """
    parts = [
        _Section("headline", [headline(results)], 99),
        _Section("changes", sections.against_main(results), 99),
        _Section("failures", sections.failures(results), 7),
        _Section("other verdicts", sections.others(results), 3),
        _Section("curves", sections.curves(results), 5),
        _Section("slices", sections.slices(results), 4),
        _Section("cost", sections.price(results), 2),
        _Section("links", sections.more(links or Links()), 99),
        _Section("policy", sections.policy(results), 8),
        _Section("lock", lock.section(results, links or Links()), 6),
        _Section("fingerprint", sections.fingerprint(results), 1),
    ]
    while units(text := _joined(parts)) > longest:
        shortest = min((one for one in parts if one.form < len(one.forms) - 1), key=lambda one: one.rank, default=None)
        if shortest is None:
            break
        shortest.form += 1
    return text


def nothing(head_sha: str, links: Links) -> str:
    """The comment on a commit whose run left no results of it that can be read."""
    told = (
        f"Commit {code(head_sha[:12])}: its experiment ended before there were results, or they cannot be read "
        "or are of something else. The log says why. If its machine was taken away, *Re-run failed jobs* goes on where "
        "it stopped."
    )
    return "\n\n".join(filter(None, ["## ⛔ Do not merge: nothing was judged", told, *sections.more(links)])) + "\n"


def answered(results: Results) -> Answer:
    """Whether it can be merged."""
    return answer.of(
        results.verdicts,
        results.exit_code,
        base=results.base,
        selected=results.selected,
        statuses=[run.status for run in results.runs],
    )


def headline(results: Results) -> str:
    """The answer to the first question, and the counts behind it."""
    of = {kind: sum(one.outcome is kind for one in results.verdicts) for kind in Outcome}
    counts = " · ".join(f"{SIGNS[kind]} {of[kind]} {kind}" for kind in reversed(Outcome) if of[kind])
    commit = f"Commit {code(results.head_sha[:12])}" if results.head_sha else "No commit"
    if results.commit != results.head_sha:  # GitHub merges a pull request into its base before it checks it out
        commit += f", checked out as {code(results.commit[:12])},"
    branch = f" of {code(results.branch)}" if results.branch else ""
    base = f", compared with {code(results.base)}" if results.base else ""
    lines = [f"## {answered(results)}", f"{counts or 'No verdict.'}\\\n{commit}{branch}{base}."]
    warnings = "\n".join(f"- ⚠️ {warning}" for warning in _warnings(results))
    return "\n\n".join([*lines, *([warnings] if warnings else [])])


def _warnings(results: Results) -> list[str]:
    found = []
    if results.policy_changes or results.policy_files or results.policy_unreadable:
        found.append("The policy of the gates changed, see below.")
    if results.refused:
        found.append("Bad input was found after the tests: the verdicts do not count.")
    if results.selected:
        found.append("Only some of the acceptance tests were asked for.")
    if results.dirty:
        found.append("The files differed from the commit.")
    if unfinished := [run for run in results.runs if run.status != "finished"]:
        seeds = ", ".join(f"{run.seed} ({run.status})" for run in unfinished[:5])
        found.append(f"Not every training finished: seed {seeds}{' …' if len(unfinished) > 5 else ''}.")
    if results.left_out:
        found.append(f"No room in results.json for {plural(results.left_out, 'more value')}.")
    return found


def _joined(parts: list[_Section]) -> str:
    shortened = [one.name for one in parts if one.form]
    told = [f"_Shortened to fit GitHub's limit: {', '.join(shortened)}. The HTML report holds all of it._"]
    return "\n\n".join([one.text for one in parts if one.text] + (told if shortened else [])) + "\n"
