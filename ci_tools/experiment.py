"""The experiment of the repository at hand: params.yaml, its schema, and the files that its stages depend on."""

import hashlib
import importlib
import io
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from ci_tools.config import Config, leaves, read_yaml, validate
from ci_tools.errors import ConfigError, DataError, DependencyUnavailable, SwitchbackError

PARAMS = Path("params.yaml")
_REFUSED = (ConfigError.exit_code, DependencyUnavailable.exit_code)


def schema() -> type[Config] | None:
    """The class that `[tool.switchback] params` in pyproject.toml names; None where nothing is named.

    Raises:
        ConfigError: the name is not `module:Class`, or does not lead to a `ci_tools.config.Config`.
    """
    where, name = "pyproject.toml [tool.switchback] params", _setting("params")
    if name is None:
        return None
    module, _, attribute = str(name).partition(":")
    if not (module and attribute):
        raise ConfigError(f"must name a class, got {name!r}", where=where, fix='write "module:Class"')
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(f"{module} cannot be imported ({error})", where=where, fix="correct the module") from error
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise ConfigError(f"{name} is not a class derived from ci_tools.config.Config", where=where)
    return found


def check() -> None:
    """Validate params.yaml where the repository has a schema.

    Raises:
        ConfigError: params.yaml is missing or breaks a rule.
    """
    if schema() is not None:
        values()


def values() -> dict[str, Any]:
    """What params.yaml says, with the defaults of its schema where the repository has one.

    Raises:
        ConfigError: params.yaml is missing or breaks a rule.
    """
    raw, known = read_yaml(PARAMS), schema()
    return raw if known is None else validate(raw, known, where=PARAMS).model_dump(mode="json")


def value(key: str) -> Any:
    """One value of params.yaml by its dotted key.

    Raises:
        ConfigError: no such key.
    """
    try:
        return leaves(values())[key]
    except KeyError:
        raise ConfigError(f"{key}: unknown key", where=PARAMS, fix="add it, or name another one") from None


def change(settings: Sequence[str]) -> list[str]:
    """Apply `key=value` settings to params.yaml in place; comments and order stay.

    Nothing is written unless the result is valid.

    Returns:
        One line `key old → new` per value that differs.

    Raises:
        ConfigError: a setting has no `=`, names an unknown key, or its value breaks a rule.
    """
    read_yaml(PARAMS)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 120
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    known = schema()
    changes = [_assign(params, setting, create=known is not None) for setting in settings]
    text = io.StringIO()
    yaml.dump(params, text)
    if known is not None:
        validate(YAML(typ="safe", pure=True).load(text.getvalue()), known, where="--set")
    _replace(text.getvalue().encode())
    return [f"{key} {shown(old)} → {shown(new)}" for key, old, new in changes if old != new]


@contextmanager
def changed(settings: Sequence[str]) -> Iterator[list[str]]:
    """`change` params.yaml for the body and from then on; it becomes what it was where the body refuses to go on.

    That is, where it raises an error with exit code 2 or 4. After any other end the settings stay: the same command
    resumes what was interrupted. What somebody else wrote meanwhile stays in any case.

    Returns:
        As `change`; nothing is read or written without settings.

    Raises:
        ConfigError: as `change`.
    """
    if not settings:
        yield []
        return
    before = _as_it_is()
    lines = change(settings)
    after = _as_it_is()
    try:
        yield lines
    except SwitchbackError as error:
        if error.exit_code in _REFUSED and _as_it_is() == after:
            _replace(before)
        raise


def shown(value: object) -> str:
    """One value as a person reads it in a line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def write_fingerprint(threads: int, table: str, folder: Path) -> None:
    """Write `stack.json` (the machine) and `inputs.json` ({path: sha256, bytes} of the table, if any).

    Raises:
        DataError: the table does not exist or cannot be read.
    """
    from ci_tools.repro.fingerprint import capture

    inputs = {table: _content(Path(table))} if table else {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("stack.json", capture(threads)), ("inputs.json", inputs)):
        (folder / name).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _as_it_is() -> bytes:
    """The content of params.yaml; empty where there is none."""
    return PARAMS.read_bytes() if PARAMS.is_file() else b""


def _replace(content: bytes) -> None:
    """Write params.yaml, whole or not at all."""
    draft = PARAMS.with_name(f".{PARAMS.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        os.replace(draft, PARAMS)
    finally:
        draft.unlink(missing_ok=True)


def _content(path: Path) -> dict[str, str | int]:
    try:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}
    except FileNotFoundError:
        raise DataError("no such file", where=path, fix="correct data.table.path in params.yaml") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=path, fix="name a readable file") from None


def _setting(name: str) -> object:
    try:
        with open("pyproject.toml", "rb") as file:
            project = tomllib.load(file)
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML ({error})", where="pyproject.toml", fix="correct it there") from None
    return project.get("tool", {}).get("switchback", {}).get(name)


def _assign(params: dict[str, Any], setting: str, create: bool) -> tuple[str, object, object]:
    """Set one dotted key; `create` allows keys that the file leaves to the schema's defaults."""
    key, equals, text = setting.partition("=")
    if not (key and equals):
        raise ConfigError(f"{setting!r} is not a setting", where="--set", fix="write key=value, train.steps=100 say")
    *sections, name = key.split(".")
    section: Any = params
    for part in sections:
        if create and isinstance(section, dict):
            section.setdefault(part, {})
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or (name not in section and not create):
        raise ConfigError(f"{key}: unknown key", where="--set", fix=f"use a key of {PARAMS}")
    old = section.get(name)
    # Text stays text: a label named 1 or >50K needs no second layer of quotes.
    section[name] = text if isinstance(old, str) else _parsed(text)
    if isinstance(section, CommentedMap):
        _let_go(section, name)
    return key, old, section[name]


def _let_go(section: CommentedMap, name: str) -> None:
    """Forget the place of comments between a key and a list below it, where no list stands below it any longer.

    ruamel.yaml keeps that place, with nothing in it, and writes `[1]` there in a way that nothing reads.
    """
    comments = section.ca.items.get(name)
    if comments and not (comments[3] and section[name]):
        comments[3] = None


def _parsed(text: str) -> object:
    """A YAML value; text that YAML cannot read, or would make a date of, stays text."""
    try:
        value = YAML().load(text) if text else ""
        json.dumps(value)
    except (YAMLError, TypeError):
        return text
    return value
