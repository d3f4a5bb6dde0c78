"""Strict settings: a TOML file, then the environment, checked against a pydantic model.

An unknown key is an error that names it and the nearest known one. Every field has a default and a description, so that
`sample_toml` can write the whole file with its defaults; a test keeps the shipped samples equal to that.
"""

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from crow_shared.errors import CrowError, Kind


class Environment(StrEnum):
    """Where the service runs; `prod` refuses defaults that are fit for one desk only."""

    LOCAL = "local"
    DEV = "dev"
    PROD = "prod"


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


Model = TypeVar("Model", bound=Section)


def load(
    model: type[Model],
    path: Path | None,
    environ: Mapping[str, str],
    *,
    prefix: str,
    aliases: Mapping[str, tuple[str, ...]],
) -> Model:
    """Reads `path` (None: defaults alone), lays the environment over it and checks the whole.

    `CROW_RECEIVER_GRPC__LISTEN` sets `[grpc] listen` for the prefix `CROW_RECEIVER_`; `aliases` maps further variables
    (`ENVIRONMENT`) to their place. Raises CrowError(NOT_FOUND) without the file, CrowError(INVALID) with every fault
    in one message.
    """
    tree = {} if path is None else _read(path)
    set_by = {place: variable for variable, place in _from_environment(environ, prefix, aliases).items()}
    for place, variable in set_by.items():
        _put(tree, place, environ[variable], variable)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        faults = []
        for detail in error.errors(include_url=False):
            setter = set_by.get(tuple(str(part) for part in detail["loc"]))
            where = f"environment variable {setter}" if setter else str(path) if path else "settings"
            faults.append(f"{where}: {_sentence(model, detail)}")
        raise CrowError(Kind.INVALID, "bad_settings", "; ".join(faults)) from None


def sample_toml(model: type[Section]) -> str:
    """The whole file with every key at its default and its description as a comment.

    Tables of which there may be several, or none, are there as comments.
    """
    return "\n".join(_sample_keys(model, ())).lstrip("\n") + "\n"


def _sample_keys(model: type[Section], place: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    tables: list[str] = []
    for name, field in model.model_fields.items():
        table, below = _table_of(field.annotation), (*place, name)
        if table is None:
            lines += _sample_line(name, field.description, field.default)
            continue
        several = field.annotation is not table
        heading = (table.__doc__ or "").strip().splitlines()[0]
        keys = _sample_keys(table, below)
        tables += ["", f"# {heading}"]
        if several:
            tables.append(f"# [[{'.'.join(below)}]]")
            tables += [line if line.startswith("#") else f"# {line}" for line in keys]
        else:
            tables += [f"[{'.'.join(below)}]", *keys]
    return lines + tables


def _table_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, or a tuple of which it holds; None for a plain value."""
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _sample_line(key: str, description: str | None, default: Any) -> list[str]:
    comment = [f"# {description}"] if description else []
    if default is None or default is PydanticUndefined:
        return [*comment, f"# {key} ="]
    return [*comment, f"{key} = {_toml(default)}"]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CrowError(Kind.NOT_FOUND, "settings_missing", f"there is no settings file {path}") from None
    except OSError as error:
        raise CrowError(Kind.UNAVAILABLE, "settings_unreadable", f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrowError(Kind.INVALID, "bad_settings", f"{path} is no valid TOML: {error}") from None


def _from_environment(
    environ: Mapping[str, str], prefix: str, aliases: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    places = {name: place for name, place in aliases.items() if name in environ}
    for name in environ:
        if name.startswith(prefix) and name not in aliases and name != f"{prefix}CONFIG":  # the file's own place
            places[name] = tuple(name.removeprefix(prefix).lower().split("__"))
    return places


def _put(tree: dict[str, Any], place: tuple[str, ...], value: str, variable: str) -> None:
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise CrowError(Kind.INVALID, "bad_settings", f"environment variable {variable}: {key} is no table")
    tree[place[-1]] = value


def _sentence(model: type[Section], detail: ErrorDetails) -> str:
    place = [str(part) for part in detail["loc"]]
    if detail["type"] != "extra_forbidden":
        said = detail["msg"].removeprefix("Value error, ")
        return ": ".join(filter(None, [".".join(place), said]))  # a whole model's fault has no place
    table = model
    for part in place[:-1]:
        if not part.isdigit():  # the number of one of several tables
            below = _table_of(table.model_fields[part].annotation)
            assert below is not None
            table = below
    near = difflib.get_close_matches(place[-1], table.model_fields, n=1)
    hint = f"; did you mean {'.'.join([*place[:-1], near[0]])}?" if near else ""
    return f"unknown key {'.'.join(place)}{hint}"
