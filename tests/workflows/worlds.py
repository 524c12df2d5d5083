"""Everything that an expression may come to, over all values of what nobody knows beforehand.

A variable, an output or an input may hold anything. For a condition only few values matter: the empty text, true,
false, and whatever it compares with; so each unknown value is tried with those. More is reached in this way than in any
one run, never less.
"""

import copy
import itertools
import json
from dataclasses import dataclass, field

from tests.workflows.language import Language, NotUnderstood, expression_of

OWN_RUNNER = '["self-hosted", "linux", "gpu"]'
USUAL = ("", "true", "false")
RESULTS = ("success", "failure", "cancelled", "skipped")
MOST = 4096
"""Worlds of one expression; more means that it cannot be judged by trying."""


@dataclass(frozen=True)
class Worlds:
    """What is known, and what each unknown value may be."""

    language: Language
    known: dict
    """Contexts by name."""
    unknown: dict = field(default_factory=dict)
    """Possible values by path, `needs.train.result` for instance."""
    statuses: tuple = ("success",)
    """As which all that came before may have ended."""

    def with_unknown(self, more, statuses=None):
        return Worlds(self.language, self.known, self.unknown | more, tuple(statuses or self.statuses))

    def values(self, written):
        """Each value that something written in a workflow may have, once."""
        if isinstance(written, list):
            found = [list(one) for one in itertools.product(*map(self.values, written))]
        elif isinstance(written, dict):
            parts = itertools.product(*map(self.values, written.values()))
            found = [dict(zip(written, one, strict=True)) for one in parts]
        elif (expression := expression_of(written)) is None:
            return [written]
        else:
            found = self.of(expression)
        return list({json.dumps(value): value for value in found}.values())

    def of(self, expression):
        """Each value of an expression; worlds in which it has none are left out."""
        paths, literals = self.language.reads(expression)
        choices = {}
        for path in paths:
            choices |= self._choices(path, literals)
        worlds = itertools.product(self.statuses, *choices.values())
        if len(self.statuses) * _product(map(len, choices.values())) > MOST:
            raise NotUnderstood(f"{expression}: depends on too much to try every case")
        found, refused = [], None
        for status, *chosen in worlds:
            contexts = self._contexts(dict(zip(choices, chosen, strict=True)), paths)
            try:
                found.append(self.language.value(expression, contexts, status))
            except NotUnderstood as error:
                refused = error
        if not found and refused:
            raise refused
        return found

    def may(self, condition):
        """Whether a condition holds in any world."""
        return any(value not in (False, None, "", 0) for value in self.of(condition))

    def _choices(self, path, literals):
        """The unknown values that a path reads, with what they may be."""
        root, _, rest = path.partition(".")
        if path.startswith("github.event.inputs."):
            return {path: self.unknown.get(f"inputs.{path.rpartition('.')[2]}", ("",))}
        if root in self.known:
            return {}
        if not rest or "*" in rest:
            return {one: values for one, values in self.unknown.items() if one.startswith(f"{root}.")}
        if path in self.unknown:
            return {path: self.unknown[path]}
        runner = (OWN_RUNNER,) if root == "vars" and "RUNNER" in path else ()
        results = RESULTS if rest.endswith((".outcome", ".conclusion")) else ()
        return {path: tuple(dict.fromkeys((*USUAL, *literals, *runner, *results)))}

    def _contexts(self, chosen, paths):
        contexts = {root: self.known[root] for root in {path.partition(".")[0] for path in paths} & self.known.keys()}
        if any(path.startswith("github.") for path in chosen):
            contexts["github"] = copy.deepcopy(contexts["github"])
        for path, value in chosen.items():
            *folders, name = path.split(".")
            place = contexts
            for folder in folders:
                place = place.setdefault(folder, {})
            place[name] = value
        return contexts


def _product(numbers):
    total = 1
    for number in numbers:
        total *= number
    return total
