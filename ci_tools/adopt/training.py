"""How a repository trains: its script, the options of it, and what runs the loop."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ci_tools.adopt.sources import Save, Source, reached, read
from ci_tools.errors import ConfigError

Framework = Literal["loop", "lightning", "transformers"]
_PACKAGES: dict[str, Framework] = {
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "transformers": "transformers",
}
_SEEDS = ("seed", "random_seed", "manual_seed", "rng_seed")
_ELSEWHERE = {"tests", "test", "docs", "examples", "benchmarks", "notebooks"}
"""Folders whose scripts do not train what is released."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of the script that takes a number."""

    name: str
    """As a key of params.yaml."""
    flag: str
    default: int | float


@dataclass(frozen=True, kw_only=True)
class Training:
    """What was found out about it."""

    script: PurePosixPath
    command: str
    """Starts it, without options."""
    framework: Framework
    options: tuple[Option, ...]
    """Those that take a number, but for the seed."""
    seed_flag: str
    """Empty where the script takes no seed."""
    sources: tuple[PurePosixPath, ...]
    """The script and what of the repository it imports."""
    inputs: tuple[PurePosixPath, ...]
    """Files and folders of the repository that options name by default."""
    records: bool
    """Whether it writes a run record already."""
    saves: tuple[Save, ...]
    """Where it writes weights or a model of its own, with every seed to the same path."""


def find(root: Path, names: Sequence[str], chosen: str = "") -> Training:
    """The script that trains, and what it takes.

    Args:
        root: of the repository.
        names: of its files.
        chosen: path of the script; empty: the one that most looks like it.

    Raises:
        ConfigError: `chosen` is no Python file of the repository, or none, or several look like it.
    """
    sources = read(root, names)
    script = _named(chosen, sources) if chosen else _likely(sources)
    own = reached(script, sources)
    options = {_key(flag): (flag, default) for source in own for flag, default in source.options()}
    seeds = [options[name][0] for name in _SEEDS if name in options]
    package = script.path.parent / "__init__.py"
    return Training(
        script=script.path,
        command=_command(script, sources),
        framework=_framework(own),
        options=tuple(
            Option(name=name, flag=flag, default=default)
            for name, (flag, default) in options.items()
            if isinstance(default, int | float) and not isinstance(default, bool)
            if name not in _SEEDS and name.isidentifier()  # others are no keys, e.g. model.width
        ),
        seed_flag=seeds[0] if seeds else "",
        sources=tuple(dict.fromkeys([*(source.path for source in own), *({package} & sources.keys())])),
        inputs=tuple(_inputs(root, names, (default for _, default in options.values()))),
        records=any(name.startswith("ci_tools.record") for source in own for name in source.imports),
        saves=tuple(save for source in own for save in source.saves()),
    )


def _named(chosen: str, sources: Mapping[PurePosixPath, Source]) -> Source:
    found = sources.get(PurePosixPath(chosen))
    if found is None:
        rule, fix = "it is named by its path from the repository's root", "correct it, or add the file"
        raise ConfigError("no Python file of this repository", where=f"--script {chosen}", rule=rule, fix=fix)
    return found


def _likely(sources: Mapping[PurePosixPath, Source]) -> Source:
    """The one script that trains: best one with the loop in itself, `train` in its name, and not deep in folders."""
    fix = "name it, e.g. `switchback init --script train.py`"
    rule = "it runs as a script, and it or what it imports calls .backward() or a Trainer"
    ranks: dict[tuple[bool, bool, int], list[Source]] = {}
    for source in sources.values():
        own = reached(source, sources) if source.starts and not _ELSEWHERE & set(source.path.parts[:-1]) else []
        if any(map(_trains, own)):
            rank = (_trains(source), "train" in source.path.stem, -len(source.path.parts))
            ranks.setdefault(rank, []).append(source)
    if not ranks:
        raise ConfigError("no training script found", where="the repository", rule=rule, fix=fix)
    best = ranks[max(ranks)]
    if len(best) > 1:
        names = ", ".join(str(source.path) for source in best[:_SHOWN])
        raise ConfigError(f"several scripts train: {names}", where="the repository", fix=fix)
    return best[0]


def _trains(source: Source) -> bool:
    return source.has_loop or (_framework([source]) != "loop" and source.mentions("Trainer"))


def _framework(sources: Iterable[Source]) -> Framework:
    packages = {name.partition(".")[0] for source in sources for name in source.imports}
    return next((framework for package, framework in _PACKAGES.items() if package in packages), "loop")


def _command(script: Source, sources: Mapping[PurePosixPath, Source]) -> str:
    """As a module where it belongs to a package, so that what it imports is found from the repository's root.

    A script that imports its neighbours as if they stood at the root finds them only where it runs as a file.
    """
    path, tops = script.path, {name.partition(".")[0] for name in script.imports}
    at_root = {place.parts[0].removesuffix(".py") for place in sources}
    as_file = any(path.with_name(f"{top}.py") in sources for top in tops - at_root)
    in_package = path.with_name("__init__.py") in sources and not as_file
    if not (in_package or script.imports_by_place):
        return f"python {shlex.quote(str(path))}"
    parts = path.with_suffix("").parts
    installed = parts[0] == "src" and PurePosixPath("src/__init__.py") not in sources
    return f"python -m {shlex.quote('.'.join(parts[installed:]))}"


def _inputs(root: Path, names: Sequence[str], defaults: Iterable[object]) -> Iterator[PurePosixPath]:
    for default in defaults:
        path = PurePosixPath(default) if isinstance(default, str) and default else PurePosixPath(".")
        inside = path != PurePosixPath(".") and not path.is_absolute() and ".." not in path.parts
        if inside and any(PurePosixPath(name).is_relative_to(path) for name in names) and (root / path).exists():
            yield path


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")
