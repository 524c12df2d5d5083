"""Where in the repository a verdict points to: the setting that most often cures it, or the test that broke."""

import ast
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from ci_tools.gates.verdict import Outcome, Verdict

_SETTINGS = {
    "divergence": ("lr", "clip_norm", "warmup"),
    "slow_convergence": ("lr",),
    "plateau": ("steps",),
    "overfitting": ("early_stopping", "weight_decay", "dropout"),
    "numerical_instability": ("precision",),
    "gradient_noise": ("batch_size", "accumulate"),
    "gradient_spikes": ("clip_norm",),
    "update_ratio": ("lr",),
    "dead_units": ("lr",),
    "data_leakage": ("split",),
    "drift": ("data",),
}
"""By gate, keys of params.yaml under whatever section; the first that is there is meant."""
_DEMANDS = {
    "quality_floor": "floor",
    "quality_against_main": "margin",
    "slices_against_main": "slice_margin",
    "simpler_model": "simpler_margin",
}
"""By gate, the key of gates.yaml that says what is demanded of a metric."""


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    file: str
    line: int


def of(verdict: Verdict, root: Path = Path()) -> Place | None:
    """The place that a verdict points to; None where there is none to tell."""
    if verdict.outcome is Outcome.ERROR or verdict.statistic is None:
        return _test(verdict.test, root)
    if verdict.gate in _DEMANDS:
        metric = verdict.subject.partition(", ")[0]
        return _line(root, "gates.yaml", ["metrics", metric, _DEMANDS[verdict.gate]])
    for key in _SETTINGS.get(verdict.gate, ()):
        if place := _line(root, "params.yaml", [key]):
            return place
    return _test(verdict.test, root)


def _line(root: Path, file: str, path: list[str]) -> Place | None:
    """Line of a YAML key: of the whole path, or of the first key of that name anywhere where the path is one key."""
    try:
        tree = YAML().load((root / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return None
    line = _find(tree, path[0]) if len(path) == 1 else _descend(tree, path)
    return None if line is None else Place(file, line)


def _find(tree: Any, key: str) -> int | None:
    if not isinstance(tree, CommentedMap):
        return None
    if key in tree:
        return int(tree.lc.key(key)[0]) + 1
    return next((line for value in tree.values() if (line := _find(value, key)) is not None), None)


def _descend(tree: Any, path: list[str]) -> int | None:
    line = None
    for key in path:
        if not isinstance(tree, CommentedMap) or key not in tree:
            return line
        line, tree = int(tree.lc.key(key)[0]) + 1, tree[key]
    return line


def _test(node: str, root: Path) -> Place | None:
    """The definition of an acceptance test, by its node id."""
    file, _, name = node.partition("::")
    name = name.rpartition("::")[2].partition("[")[0]
    if not file.endswith(".py"):
        return None
    try:
        tree = ast.parse((root / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    found = (item.lineno for item in ast.walk(tree) if isinstance(item, ast.FunctionDef) and item.name == name)
    return Place(file, next(found, 1))
