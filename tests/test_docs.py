"""What the documents promise exists, and what they say of the gates is so.

`python -m tests.test_docs` puts the tables of a full campaign and the order of causes into docs/gates.md.
"""

import importlib
import json
import math
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import typer
from ruamel.yaml import YAML

from benchmarks.faults import score
from ci_tools import config, gates
from ci_tools.cli import app
from ci_tools.cli_schema import app as schemas
from ci_tools.config import leaves
from ci_tools.gates import training
from ci_tools.gates.causes import CAUSES_FIRST
from ci_tools.gates.gradients import gradient_noise
from ci_tools.gates.labels import label_noise
from ci_tools.gates.numerics import numerical_instability
from ci_tools.gates.overfitting import overfitting
from ci_tools.gates.policy import Metric, Policy
from ci_tools.gates.quality import quality_against_main, simpler_model, slices_against_main
from ci_tools.gates.statistics import looks, tail_of_look
from ci_tools.record import open_record
from ci_tools.repro.counterfactual import MEANINGS
from model.params import Params
from tests.gates.test_plugin import OWN_GATE

ROOT = Path(__file__).parents[1]
GATES_PAGE = ROOT / "docs/gates.md"
RESULTS = ROOT / "benchmarks/results"
NOT_MEASURED = "Not measured yet."
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMANDS = set(typer.main.get_command(app).commands)
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


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_readme_loop_runs_and_leaves_a_finished_record(tmp_path, monkeypatch):
    (block,) = blocks(ROOT / "README.md", "python")
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


def test_loop_with_evidence_leaves_what_the_gates_need(tmp_path, monkeypatch):
    (block,) = blocks(ROOT / "docs/reproduce.md", "python")
    (readme,) = blocks(ROOT / "README.md", "python")

    class Rows(NamedTuple):
        x: torch.Tensor
        y: torch.Tensor

    def draw(n):
        x = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
        return Rows(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())

    def build(lr):
        model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
        return model, torch.optim.AdamW(model.parameters(), lr)

    monkeypatch.chdir(tmp_path)
    names = {"build": build, "rows": draw(640), "validation": draw(200), "classes": 3, "log": math.log}
    names |= {"inf": math.inf, "cat": torch.cat, "cross_entropy": torch.nn.functional.cross_entropy}
    imports = [line for line in readme.splitlines() if line.startswith("from ")]
    exec("\n".join([*imports, block]), names)
    run = training.read(open_record("runs/seed-1"))
    for gate in (gradient_noise, label_noise, overfitting, numerical_instability):
        assert math.isfinite(gate(run).reading.statistic), gate.name


def shipped_gates():
    modules = [f"ci_tools.gates.{one.name}" for one in pkgutil.iter_modules(gates.__path__)]
    found = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return {gate.name: gate for gate in found if isinstance(gate, gates.Gate)}


class TestGatesPage:
    text = GATES_PAGE.read_text()

    def rows(self, heading):
        """Cells of the table under a heading, without its head."""
        section = re.split(r"^#+ ", self.text.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
        return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]

    def test_table_holds_every_gate_with_its_limits_and_unit(self):
        table = {name.strip("`"): cells for name, *cells in self.rows("All gates")}
        known = shipped_gates()
        assert table.keys() == known.keys()
        from_policy = {
            quality_against_main: "margin",
            slices_against_main: "slice_margin",
            simpler_model: "simpler_margin",
        }
        assert Metric.model_fields.keys() > set(from_policy.values())
        for name, (_, limit, calibrated, *_) in table.items():
            gate = known[name]
            largest = f"`{from_policy[gate]}`" if gate in from_policy else f"{gate.limit:g}"
            assert limit == f"{largest} {gate.unit}", name
            assert calibrated == (f"{gate.floor:g}" if gate.calibrated else "—"), name

    def test_statistic_of_every_gate_is_explained(self):
        assert set(re.findall(r"\*\*`(\w+)`\*\*", self.text)) == shipped_gates().keys()

    def test_example_policy_is_valid_and_names_gates(self):
        (block,) = blocks(GATES_PAGE, "yaml")
        policy = config.validate(YAML(typ="safe", pure=True).load(block), Policy, where="docs/gates.md")
        assert policy.gates.keys() < shipped_gates().keys()

    def test_own_gate_is_the_one_that_is_tested(self):
        assert blocks(GATES_PAGE, "python") == [OWN_GATE]

    def test_causes_that_diagnosis_can_name(self):
        assert [cause for _, cause in self.rows("Diagnosis")] == list(
            dict.fromkeys(meaning.cause for meaning in MEANINGS.values())
        )

    def test_errors_of_the_looks(self):
        plan = Policy().against_main
        numbers = looks(plan.seeds, plan.max_seeds)
        tails = [f"{tail_of_look(seeds, numbers, plan.confidence):.4f}" for seeds in numbers]
        said = f"each side may err with {tails[0]} at the first look and {tails[1]} at the second."
        settings = f"With {plan.seeds}, {plan.max_seeds} and {plan.confidence}"
        assert f"{settings}, {said}" in " ".join(self.text.split())

    @pytest.mark.parametrize("name", ["against_main", "causes", "faults"])
    def test_generated_part_is_up_to_date(self, name):
        assert between(self.text, name) == GENERATED[name]()


def between(text, name):
    """What stands between two markers."""
    return re.findall(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", text, re.DOTALL)[0]


def causes():
    return textwrap.fill(", ".join(f"`{name}`" for name in CAUSES_FIRST), 120)


def measured(name, tables):
    """The tables of a committed campaign, and what made them."""
    path = RESULTS / f"{name}-cpu.json"
    if not path.exists():
        return NOT_MEASURED
    result = json.loads(path.read_text())
    origin = f"By `{result['command']}` at commit {result['commit'][:9]}, {result['date'][:10]}."
    return "\n\n".join([*tables(result["facts"]), origin])


def against_main(facts):
    lines = [
        "| main against | true drop, margins | passed | inconclusive | failed | 95 % | seeds, mean |",
        "|---" * 7 + "|",
    ]
    for name, case in facts.items():
        if isinstance(case, dict):
            shares = [f"{100 * case[f'{outcome} share']:.1f} %" for outcome in ("passed", "inconclusive", "failed")]
            low, high = case["95 % interval of failed"]
            drop, seeds = f"{case['true drop in margins']:.2f}", f"{case['mean seeds']:.1f}"
            cells = [name, drop, *shares, f"{100 * low:.1f} to {100 * high:.1f}", seeds]
            lines.append(f"| {' | '.join(cells)} |")
    return ["\n".join(lines)]


OTHER = {
    "limits of other tasks": "The same with each task's limits taken from the clean runs of the other tasks:",
    "default limits": "The same without a calibration, by the default limits:",
}


def faults(facts):
    """All rates under calibrated limits, and without the confusion matrix under the other ones."""
    short = {basis: score.markdown(facts[basis]).partition("\n\n| planted")[0] for basis in facts if basis in OTHER}
    others = [part for basis, text in short.items() for part in (OTHER[basis], text)]
    return [score.markdown(facts["calibrated"]), *others]


GENERATED = {
    "against_main": lambda: measured("against_main", against_main),
    "causes": causes,
    "faults": lambda: measured("faults", faults),
}


if __name__ == "__main__":
    page = GATES_PAGE.read_text()
    for part, generate in GENERATED.items():
        page = page.replace(f"-->\n{between(page, part)}\n<!-- /{part} ", f"-->\n{generate()}\n<!-- /{part} ")
    GATES_PAGE.write_text(page)
