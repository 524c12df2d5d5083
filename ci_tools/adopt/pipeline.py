"""dvc.yaml and params.yaml of an adopted repository: its own training script as a stage, once per seed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ci_tools.adopt.plan import extended, text_of
from ci_tools.adopt.training import Training
from ci_tools.config import read_yaml

_OURS = {
    "seeds": "seeds: [1, 2, 3] # one run each; the first is the release",
    "threads": "threads: 1 # CPU threads of one operation, as Recorder's",
}
"""Keys of params.yaml that the pipeline itself reads, and the lines that set them."""
_HEAD = """\
# The pipeline. `switchback run` walks it, judges what it leaves and reports.
stages:
  fingerprint: # the machine: cheap, so looked at every time
    cmd: switchback fingerprint --threads-key threads --out fingerprint
    always_changed: true
    outs:
      - fingerprint/stack.json:
          cache: false

  train:
    matrix:
      seed: ${seeds}
"""


def params_yaml(training: Training, path: Path) -> str:
    """The experiment: the file that there is, with the keys that the pipeline needs; else the script's own defaults.

    Raises:
        ConfigError: there is a params.yaml, and it is no YAML mapping.
    """
    if path.exists():
        known = read_yaml(path)
        return extended(text_of(path), [line for key, line in _OURS.items() if key not in known])
    lines = ["# The experiment.", *_OURS.values()]
    if training.options:
        lines.append(f"train: # options of {training.script}")
        lines += [f"  {option.name}: {option.default!r}" for option in training.options]
    return extended("", lines)


def dvc_yaml(training: Training, params: Mapping[str, Any]) -> str:
    """The stages: the machine's fingerprint, then one training per seed.

    Args:
        training: what is started; it gets those options of which `params` has the value under `train`.
        params: what params.yaml says; training depends on all of it, because the script may read it by itself.
    """
    section = params.get("train")
    passed = [one for one in training.options if isinstance(section, Mapping) and one.name in section]
    options = [f"{training.seed_flag or '--seed'} ${{item.seed}}"]
    options += [f"{one.flag} ${{train.{one.name}}}" for one in passed]
    keys = [key for key in params if key not in _OURS]
    return "".join(
        [
            f"{_HEAD}    cmd: {_scalar(' '.join([training.command, *options]))}\n",
            _listed("deps", ["fingerprint/stack.json", *training.sources, *filter(_is_input, training.inputs)]),
            _listed("params", keys),
            _listed("outs", ["runs/seed-${item.seed}"]),
        ]
    )


def _listed(key: str, entries: Iterable[object]) -> str:
    """A list of a stage; nothing where it is empty."""
    lines = [f"      - {_scalar(str(entry))}\n" for entry in entries]
    return "".join([f"    {key}:\n", *lines]) if lines else ""


def _is_input(path: PurePosixPath) -> bool:
    """Whether no stage writes there: an option that names the folder of the runs names no input."""
    return path.parts[0] not in ("runs", "fingerprint")


def _scalar(text: str) -> str:
    """The text as YAML reads it again: quoted where it would be something else without."""
    try:
        plain = YAML(typ="safe", pure=True).load(f"- {text}") == [text]
    except YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)
