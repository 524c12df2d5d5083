"""Strict configuration: frozen models, and errors that name file, key, rule, value and fix."""

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ci_tools.errors import ConfigError
from ci_tools.harmless import in_log, one_line

_LONGEST = 80
"""Characters of a value that an error quotes."""
_POSITION = re.compile(r" at line \d+ column \d+$")


class Config(BaseModel):
    """Base of every configuration section: frozen, unknown keys refused, field docstrings are the schema's text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


C = TypeVar("C", bound=Config)
_SHOWN = 5
"""Keys that one message names, beside the first."""


def load(path: str | Path, model: type[C]) -> C:
    """Read one YAML file (YAML 1.2, so `1e-3` is a number) into a validated section.

    Raises:
        ConfigError: the file is missing, is not YAML, or a key breaks a rule; the message names the key.
    """
    return validate(read_yaml(path), model, where=path)


def validate(raw: Mapping[str, Any], model: type[C], where: object) -> C:
    """Validate plain values; `where` names their origin in the error.

    Raises:
        ConfigError: the first broken rule, and the keys that break others.
    """
    try:
        # Through JSON, strict mode takes a list for a tuple but still refuses "3" for 3.
        return model.model_validate_json(json.dumps(raw))
    except RecursionError:
        raise ConfigError("is nested too deep", where=where, fix="use plain numbers, strings and lists") from None
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(str(error), where=where, fix="use plain numbers, strings and lists") from error
        raise _explain(error, model, where) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Parse a YAML mapping.

    Raises:
        ConfigError: missing file, broken YAML, or something other than a mapping at the top.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=path, fix="run from the repository root, or create it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", where=path) from None
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f"{path}:{line + 1}" if line is not None else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"not valid YAML ({problem})", where=at, fix="correct the syntax there") from None
    if not isinstance(raw, dict):
        raise ConfigError("must hold a mapping of sections", where=path, fix="write `section:` lines at the top")
    return raw


def digest(config: BaseModel | Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the values; key order and formatting do not matter."""
    values = config.model_dump(mode="json") if isinstance(config, BaseModel) else config
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping to dotted keys; law: leaves({"a": {"b": 1}}) == {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _explain(error: ValidationError, model: type[BaseModel], where: object) -> ConfigError:
    first, *others = error.errors(include_url=False)
    key = _key(first)
    got, fix = first.get("input"), ""
    # A position would be that in the JSON which `validate` makes, and nobody else sees.
    rule = _POSITION.sub("", first["msg"].removeprefix("Value error, "))
    if first["type"] == "extra_forbidden":
        siblings = list(_section(model, first["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(first["loc"][-1]), siblings, n=1)
        rule = "unknown key"
        meant = ".".join(map(str, [*first["loc"][:-1], *near]))
        fix = f"did you mean `{meant}`?" if near else f"use one of {', '.join(siblings)}"
    elif first["type"] == "missing":
        rule, fix = "required key is missing", "add it"
    what = (f"{key}: " if key else "") + f"{rule[0].lower()}{rule[1:]}"
    if first["type"] not in ("extra_forbidden", "missing", "json_invalid") and not isinstance(got, dict):
        what += f", got {one_line(repr(got), _LONGEST)}"
    if others:
        keys = dict.fromkeys(_key(one) for one in others)
        what += f" (also wrong: {', '.join(list(keys)[:_SHOWN])}{' …' if len(keys) > _SHOWN else ''})"
    return ConfigError(in_log(what), where=where, fix=in_log(fix))


def _key(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))


def _section(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The nested model that a pydantic error location points into."""
    parts = iter(loc)
    for part in parts:
        field = model.model_fields.get(str(part))
        kind = field.annotation if field else None
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            next(parts, None)  # the key
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            break
        model = kind
    return model
