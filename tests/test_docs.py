"""What the documents promise exists."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from ci_tools.cli import app, schemas
from ci_tools.config import leaves
from ci_tools.record import open_record
from model.params import Params

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = {command.callback.__name__ for command in app.registered_commands} | {"schema"}
SCHEMAS = {command.callback.__name__ for command in schemas.registered_commands}
TASKS = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def code(text):
    """Inline code and code blocks of a document."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"^    .*", text, re.MULTILINE), *re.findall(r"`[^`\n]+`", text)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
class TestDocument:
    def test_relative_links_lead_somewhere(self, path):
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if "://" not in link and not link.startswith(("#", "mailto:")):
                assert (path.parent / link.partition("#")[0]).exists(), link

    def test_commands_exist(self, path):
        for name, argument in re.findall(r"\bswitchback ([a-z]+)(?: ([a-z]+))?", code(path.read_text())):
            assert name in COMMANDS
            assert name != "schema" or argument in SCHEMAS

    def test_make_tasks_exist(self, path):
        for task in re.findall(r"\bmake ([a-z]+)", code(path.read_text())):
            assert task in TASKS


def test_readme_loop_runs_and_leaves_a_finished_record(tmp_path, monkeypatch):
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert sum(line.rstrip().endswith("# +") for line in block.splitlines()) <= 10

    class Rows(NamedTuple):
        x: torch.Tensor
        y: torch.Tensor

    def build(lr):
        model = torch.nn.Linear(3, 1)
        return model, torch.optim.AdamW(model.parameters(), lr)

    monkeypatch.chdir(tmp_path)
    rows = Rows(torch.ones(64, 3), torch.zeros(64, 1))
    exec(block, {"build": build, "rows": rows, "mse_loss": torch.nn.functional.mse_loss})
    record = open_record("runs/seed-1")
    assert (record.meta.status, record.trace.num_rows) == ("finished", 200)


def test_documented_settings_exist():
    keys = leaves(Params().model_dump(mode="json"))
    known = keys.keys() | {key.rpartition(".")[0] for key in keys}
    for path in DOCUMENTS:
        text = path.read_text()
        for key in re.findall(r"--set '?([a-z_.]+)=", text) + re.findall(r"`((?:data|train)\.[a-z_.]+)`", text):
            assert key in known or key.endswith(".npz"), key
