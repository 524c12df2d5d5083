"""What the documents promise exists."""

import re
from pathlib import Path

import pytest

from ci_tools.cli import app, schemas

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
