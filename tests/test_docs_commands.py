"""Commands of the documents: programs, options and tasks that exist; marked where tests cannot execute them."""

import importlib.util
import shlex
import subprocess

import pytest
import typer
from markdown_it import MarkdownIt

from ci_tools.cli import app
from tests.documents import DOCUMENTS, NEEDS, ROOT, commands, markers

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
COMMANDS = typer.main.get_command(app).commands
SHELL = {"&", "&&", ";", "|", ">", ">>", "||"}


def calls(text):
    """The programs that a command line starts, each with its arguments."""
    words = shlex.shlex(text, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found = [[]]
    for word in words:
        if word in SHELL:
            found.append([])
        else:
            found[-1].append(word)
    return [call for call in found if call]


def refusal(arguments):
    """What `switchback` says against arguments before it does anything; empty where nothing."""
    command, path = typer.main.get_command(app), ["switchback"]
    try:
        while hasattr(command, "commands"):
            if not arguments or arguments[0].startswith("-"):
                break
            path.append(arguments[0])
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context(" ".join(path), list(arguments))
    except KeyError as error:
        return f"no command {error}"
    except SystemExit:  # --help and --version end here
        return ""
    except Exception as error:  # of click, which typer brings along in its own way
        return str(error) or type(error).__name__
    return ""


@each_document
def test_options_and_arguments_are_accepted(path):
    for command in commands(path):
        for program, *arguments in calls(command.text):
            if program == "switchback":
                assert refusal(arguments) == "", f"line {command.line}: {command.text}"


@each_document
def test_options_within_sentences_exist(path):
    inline = [child for token in MarkdownIt().parse(path.read_text()) for child in token.children or []]
    for words in [child.content.split() for child in inline if child.type == "code_inline"]:
        if words[0] == "switchback" and len(words) > 2 and words[1] in COMMANDS:
            known = {option for parameter in COMMANDS[words[1]].params for option in parameter.opts}
            known |= {option for parameter in COMMANDS[words[1]].params for option in parameter.secondary_opts}
            assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}, words


@each_document
def test_marked_commands_stand_in_the_document_and_say_what_they_need(path):
    for needs, begin in markers(path):
        assert any(command.text.startswith(begin) for command in commands(path)), begin
        assert needs in NEEDS


@each_document
def test_tasks_and_modules_of_marked_commands_exist(path):
    for command in commands(path):
        for program, *arguments in calls(command.text):
            if program == "make":
                done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
            if program == "python" and arguments[:1] == ["-m"]:
                assert importlib.util.find_spec(arguments[1]), command.text


@pytest.mark.parametrize("wrong", [["gate", "--selftest"], ["gates"], ["compare", "a"], ["run", "--set"]])
def test_wrong_use_would_be_found(wrong):
    assert refusal(wrong)


def test_few_commands_of_our_own_are_executed_by_no_test():
    """Each is somebody's trust in a sentence: this number should not grow without a reason."""
    marked = [begin for path in DOCUMENTS for _, begin in markers(path)]
    assert len(marked) <= 8, marked
