"""What is found out about a stranger's training script, without running or importing it."""

from pathlib import PurePosixPath

import pytest

from ci_tools.adopt.sources import Save
from ci_tools.adopt.training import Option, find
from ci_tools.errors import ConfigError

LOOP = "import torch\ndef fit(model):\n    loss(model).backward()\n"
GUARD = '\nif __name__ == "__main__":\n    fit(1)\n'
OPTIONS = """
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--amp", action="store_true", default=False)
parser.add_argument("--name", default="run")
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--seed", type=int, default=0)
"""


@pytest.fixture
def repository(tmp_path):
    """Write files; returns what is found among them."""

    def write(files, chosen=""):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return find(tmp_path, list(files), chosen)

    return write


def test_script_with_a_loop_of_its_own(repository):
    found = repository({"train.py": LOOP + GUARD, "predict.py": "import torch" + GUARD, "setup.py": ""})
    assert (found.script, found.command, found.framework) == (PurePosixPath("train.py"), "python train.py", "loop")


def test_script_without_a_guard_trains_where_it_stands(repository):
    assert repository({"a.py": "import torch\nfor x in y:\n    loss(x).backward()\n"}).script.name == "a.py"
    assert repository({"a.py": "import torch\ndef f(x):\n    loss(x).backward()\nf(1)\n", "b.py": LOOP + GUARD}).script


def test_loop_may_stand_in_a_module_that_the_script_imports(repository):
    files = {"main.py": "from lib.engine import fit" + GUARD, "lib/__init__.py": "", "lib/engine.py": LOOP}
    found = repository(files | {"other.py": "import torch" + GUARD})
    assert found.script.name == "main.py"
    assert set(map(str, found.sources)) == {"main.py", "lib/__init__.py", "lib/engine.py"}


def test_module_of_a_package_runs_as_one(repository):
    files = {
        "src/net/__init__.py": "",
        "src/net/train.py": "from . import data\n" + LOOP + GUARD,
        "src/net/data.py": "",
    }
    found = repository(files)
    assert found.command == "python -m net.train"
    assert set(map(str, found.sources)) == set(files)


def test_package_named_src_is_one(repository):
    files = {"src/__init__.py": "", "src/train.py": "from src import data\n" + LOOP + GUARD, "src/data.py": ""}
    found = repository(files)
    assert found.command == "python -m src.train"
    assert set(map(str, found.sources)) == set(files)


def test_script_of_a_package_that_imports_its_neighbours_by_name_runs_as_a_file(repository):
    files = {"net/__init__.py": "", "net/train.py": "import data\n" + LOOP + GUARD, "net/data.py": ""}
    assert repository(files).command == "python net/train.py"
    assert repository(files | {"data.py": ""}).command == "python -m net.train"


def test_script_in_a_plain_folder_finds_what_stands_beside_it(repository):
    found = repository({"code/my train.py": "import data\n" + LOOP + GUARD, "code/data.py": "", "data.py": ""})
    assert found.command == "python 'code/my train.py'"
    assert "code/data.py" in map(str, found.sources)


@pytest.mark.parametrize(
    ("text", "framework"),
    [
        ("import lightning as L\nL.Trainer().fit(model)", "lightning"),
        ("from pytorch_lightning import Trainer\nTrainer().fit(model)", "lightning"),
        ("from transformers import Trainer\nTrainer(model).train()", "transformers"),
    ],
)
def test_frameworks_are_told_apart(repository, text, framework):
    assert repository({"train.py": text + GUARD}).framework == framework


def test_numbers_among_the_options_are_the_experiment(repository):
    found = repository({"train.py": LOOP + OPTIONS + GUARD})
    assert found.options == (
        Option(name="lr", flag="--lr", default=1e-3),
        Option(name="batch_size", flag="--batch-size", default=64),
    )
    assert found.seed_flag == "--seed"


def test_option_whose_name_is_no_key_keeps_its_default(repository):
    options = "".join(f'parser.add_argument("--{name}", default=1)\n' for name in ("model.width", "3d", "lr"))
    assert [option.name for option in repository({"train.py": LOOP + options + GUARD}).options] == ["lr"]


def test_options_of_click(repository):
    options = '@click.option("--lr", default=0.1)\n@click.option("--fast/--slow")\ndef main(lr, fast):\n    fit(lr)\n'
    found = repository({"train.py": LOOP + options + GUARD})
    assert [option.flag for option in found.options] == ["--lr"]


def test_script_without_a_seed(repository):
    assert repository({"train.py": LOOP + GUARD}).seed_flag == ""


def test_inputs_are_the_files_that_options_name(repository):
    options = "\n".join(f'parser.add_argument("--{i}", default="{path}")' for i, path in enumerate(
        ["images", "images/index.csv", "gone.csv", "/etc/passwd", "../up", ".", ""]
    ))  # fmt: skip
    found = repository({"train.py": LOOP + options + GUARD, "images/index.csv": "a", "images/1.png": ""})
    assert set(map(str, found.inputs)) == {"images", "images/index.csv"}


def test_script_that_records_already_is_known(repository):
    assert repository({"train.py": "from ci_tools.record import Recorder\n" + LOOP + GUARD}).records
    assert not repository({"train.py": LOOP + GUARD}).records


@pytest.mark.parametrize(
    ("line", "call", "path"),
    [
        ("torch.save(model.state_dict(), 'model.pt')", "torch.save", "model.pt"),
        ("torch.save(model, f=Path('out') / 'last' / 'it.pt')", "torch.save", "out/last/it.pt"),
        ("save_file(tensors, 'model.safetensors', metadata={'a': 'b'})", "save_file", "model.safetensors"),
        ("safetensors.torch.save_file(tensors, filename='x')", "safetensors.torch.save_file", "x"),
        ("torch.onnx.export(model, (x,), 'model.onnx', dynamo=True)", "torch.onnx.export", "model.onnx"),
    ],
)
def test_weights_that_every_seed_writes_to_one_place_are_found(repository, line, call, path):
    (save,) = repository({"train.py": "import own\n" + LOOP + GUARD, "own.py": f"import torch\n\n{line}\n"}).saves
    assert save == Save(script=PurePosixPath("own.py"), line=3, call=call, path=path)


@pytest.mark.parametrize(
    "line",
    [
        "torch.save(model, run.path / 'model.pt')",
        "torch.save({'model': model}, f'model-{seed}.pt')",
        "torch.save(model, args.out)",
        "numpy.save('losses.npy', losses)",
        "torch.onnx.export(model, (x,), buffer, input_names=['x'], kind='program')",
        "torch.load('model.pt')",
    ],
)
def test_what_a_seed_may_have_for_itself_and_what_holds_no_weights_is_left_alone(repository, line):
    assert repository({"train.py": LOOP + f"{line}\n" + GUARD}).saves == ()


def test_train_in_the_name_decides(repository):
    assert repository({"finetune.py": LOOP + GUARD, "train.py": LOOP + GUARD}).script.name == "train.py"


def test_scripts_of_tests_and_examples_are_passed_by(repository):
    files = {"tests/train.py": LOOP + GUARD, "examples/train.py": LOOP + GUARD, "deep/down/fit.py": LOOP + GUARD}
    assert repository(files).script.name == "fit.py"


def test_several_candidates_are_named_and_one_can_be_chosen(repository):
    files = {"a.py": LOOP + GUARD, "b.py": LOOP + GUARD}
    with pytest.raises(ConfigError, match=r"several scripts train: a\.py, b\.py\. Fix: .*--script"):
        repository(files)
    assert repository(files, "b.py").script.name == "b.py"


@pytest.mark.parametrize("files", [{}, {"train.py": "import torch"}, {"train.py": "def (:"}, {"notes.txt": LOOP}])
def test_repository_that_trains_nothing_is_refused(repository, files):
    with pytest.raises(ConfigError, match="no training script found"):
        repository(files)


def test_chosen_file_must_be_one_of_the_repository(repository):
    with pytest.raises(ConfigError, match=r"--script gone\.py: no Python file of this repository"):
        repository({"train.py": LOOP + GUARD}, "gone.py")


@pytest.mark.parametrize("other", ["pattern = '\\d'", "-" * 100_000 + "1", "if " + "not " * 5_000 + "1: pass"])
def test_odd_sources_beside_it_do_no_harm(repository, other):
    assert repository({"train.py": LOOP + GUARD, "other.py": other}).script.name == "train.py"


def test_sources_that_import_each_other_come_to_an_end(repository):
    found = repository({"train.py": "import a\n" + LOOP + GUARD, "a.py": "import b", "b.py": "import a, train"})
    assert set(map(str, found.sources)) == {"train.py", "a.py", "b.py"}
