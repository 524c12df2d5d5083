import importlib
import pkgutil

import pytest

from ci_tools import gates
from ci_tools.report import catalogue
from tests.report.parsed import LINKED, tokens, words


def shipped():
    modules = [importlib.import_module(f"ci_tools.gates.{one.name}") for one in pkgutil.iter_modules(gates.__path__)]
    found = [value for module in modules for value in vars(module).values()]
    return {gate.name for gate in found if isinstance(gate, gates.Gate)}


def test_every_gate_that_is_shipped_is_explained():
    assert catalogue.entries().keys() == shipped()


@pytest.mark.parametrize("gate", sorted(shipped()))
def test_sentences_are_short_and_fit_a_cell(gate):
    entry = catalogue.entries()[gate]
    assert entry.meaning[0].isupper()
    assert entry.meaning.endswith(".")
    assert 20 < len(entry.meaning) < 140
    assert entry.unit
    for text in entry:
        assert not set(text) & set("|\n")
        assert {token.type for token in tokens(text)} <= {"paragraph_open", "paragraph_close", "text", "code_inline"}
        assert not [found for found in words(text) if LINKED.search(found)]
