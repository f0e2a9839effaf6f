"""Settings of offline runs in YAML files, read strictly into dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.strict_yaml import read_yaml
from ov_seg_ros.core.voxels import VoxelGrid
from training.value_ranges import FINITE, ValueRange

T = TypeVar("T")

LABEL_SPACES = Path(__file__).resolve().parent.parent / "config" / "label_spaces"
RECIPES = Path(__file__).resolve().parent.parent / "config" / "recipes"

_WITHIN_REACH = ValueRange(-1e6, 1e6)


@dataclass(frozen=True)
class GridSettings:
    """See ``core.voxels.VoxelGrid``, which is built at once: a grid that cannot be is refused where it is read."""

    kind: str = "cartesian"
    voxel_size: tuple[float, float, float] = (0.2, 0.2, 0.2)
    range_min: tuple[float, float, float] = (-100.0, -100.0, -6.0)
    range_max: tuple[float, float, float] = (100.0, 100.0, 18.0)

    def __post_init__(self) -> None:
        FINITE.check(self, "voxel_size")
        _WITHIN_REACH.check(self, "range_min", "range_max")
        self.build()

    def build(self) -> VoxelGrid:
        """The grid."""
        return VoxelGrid(**dataclasses.asdict(self))


def load_keys(path: Path, below: tuple[Path, ...] = ()) -> Any:
    """Content of a YAML recipe; ``extends: other.yaml`` takes over the keys of a recipe beside it, at every depth.

    Args:
        path: of the recipe.
        below: recipes that extend it.

    Raises:
        ConfigError: missing file, no YAML, a key that stands twice, or recipes that extend each other.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise ConfigError(f"recipe {path} does not exist; recipes that come along: {known}")
    if path in below:
        raise ConfigError(
            f"recipe {path} extends itself, by way of {', '.join(str(p) for p in below[1:]) or 'no other'}"
        )
    content = read_yaml(path, "recipe")
    if isinstance(content, dict) and "extends" in content:
        base = load_keys(path.parent / str(content.pop("extends")), (*below, path))
        return _merged(base, content)
    return content


def _merged(base: Any, changes: Any) -> Any:
    """``base`` with the keys of ``changes``, mapping by mapping; lists and values are replaced whole."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: _merged(base[key], value) if key in base else value for key, value in changes.items()}}


def parse_settings(settings: type[T], content: Any, where: str) -> T:
    """Builds a (nested) dataclass from YAML content, strictly.

    Raises:
        ConfigError: naming the key, what came and what was expected.
    """
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected keys of {settings.__name__}, got {content!r}")
    known = {f.name: f for f in dataclasses.fields(settings)}  # type: ignore[arg-type]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}; {hint}")
    required = {n for n, f in known.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(required - set(content)):
        raise ConfigError(f"{where}: missing key {', '.join(missing)}")
    hints = typing.get_type_hints(settings)
    values = {key: _parse_value(hints[key], value, f"{where}: {key}") for key, value in content.items()}
    try:
        return settings(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _parse_value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse_settings(typing.cast("type[Any]", hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        items = typing.get_args(hint)
        kinds = [items[0]] * len(value) if items[-1] is Ellipsis else list(items)
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected {len(kinds)} values, got {value!r}")
        return tuple(_parse_value(kind, v, where) for kind, v in zip(kinds, value, strict=True))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected keys and values, got {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        remedy = _float_remedy(value) if hint is float else ""
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}{remedy}")
    return value


def _float_remedy(value: Any) -> str:
    """What to write instead of a number that YAML takes for text: its floats need a point and a signed exponent."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    mantissa, exponent, power = repr(number).partition("e")
    point = "" if "." in mantissa else ".0"
    return f", which is text in YAML: write {mantissa}{point}{exponent}{power}" if math.isfinite(number) else ""


def check_name(name: str) -> None:
    """Makes sure that the name of a recipe can be that of a file or folder.

    Raises:
        ConfigError: it is empty, leads to another folder, or holds what cannot be printed.
    """
    if not name.strip(" .") or "/" in name or "\\" in name or not name.isprintable():
        raise ConfigError(f"name must be that of one folder, without / and \\, got {name!r}: results go there")


def plain(value: Any) -> Any:
    """Nested settings in JSON types: tuples become lists."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value
