"""The shipped acceptance tests. They judge a finished pipeline; here only that they leave no gate out."""

import importlib
import pkgutil
from pathlib import Path

import ci_tools.gates
from ci_tools.gates import Gate

CONTRACT = Path(__file__).parents[1] / "model"


def gates_in(names):
    return {
        one.name: one for name in names for one in vars(importlib.import_module(name)).values() if isinstance(one, Gate)
    }


def test_every_gate_is_required_of_a_run(monkeypatch):
    monkeypatch.chdir(CONTRACT.parents[1])
    known = gates_in(found.name for found in pkgutil.iter_modules(ci_tools.gates.__path__, "ci_tools.gates."))
    required = gates_in(f"tests.model.{path.stem}" for path in CONTRACT.glob("test_*.py"))
    assert required == known
    assert len(known) >= 20


def test_contract_is_short_enough_to_be_read():
    for path in CONTRACT.glob("test_*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


def test_contract_is_left_to_the_gate_command(request):
    assert "tests/model" in request.config.getini("norecursedirs")
