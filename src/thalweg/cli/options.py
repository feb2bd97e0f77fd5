"""The options of `thalweg train`, made from the recipe's own fields so that there is one list of them."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from thalweg.training.recipe import recipe as recipes

_GROUPS = {"run": "The run", "data": "Data", "model": "Model", "training": "Training"}
_NOT_FLAGS = {"source"}  # given as the first argument
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(kind: type, tokens: Sequence[Any]) -> float:
    """Return a duration such as "60s", "5m", "1.5h" or "90" in seconds.

    Raises:
        ValueError: if it is none.
    """
    del kind
    text = tokens[0].value
    match = re.fullmatch(r"([0-9.]+)\s*(s|m|min|h|)", text.strip())
    try:
        return float(match[1]) * _UNITS[match[2]] if match else float("nan") / 0
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"expected a duration such as 60s, 5m or 1h; got {text!r}.") from None


def batch_size(kind: type, tokens: Sequence[Any]) -> int:
    """Return a batch size; "full" is 0, the full data in one batch.

    Raises:
        ValueError: if it is neither a number nor "full".
    """
    del kind
    text = tokens[0].value
    if text == "full":
        return 0
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'expected a number of examples or "full"; got {text!r}.') from None


_CONVERTERS = {"time": seconds, "batch_size": batch_size}


def section_options(name: str) -> type:
    """Return a dataclass like the recipe's section, with what cyclopts needs on each field."""
    section = type(recipes.Recipe().sections()[name])
    types = get_type_hints(section)
    # More arguments of an optimizer arrive as text; `plain` reads them as TOML values.
    types |= {field: dict[str, str] | None for field, kind in types.items() if str(kind).startswith("dict")}
    group = Group.create_ordered(_GROUPS[name])
    fields = []
    for field in dataclasses.fields(section):
        if field.name in _NOT_FLAGS:
            continue
        parameter = Parameter(
            help=field.metadata["help"] + ".",
            group=group,
            converter=_CONVERTERS.get(field.name),
            negative=() if types[field.name] != (bool | None) else None,
            show_default=False,
        )
        fields.append((field.name, Annotated[types[field.name], parameter], dataclasses.field(default=None)))
    options = dataclasses.make_dataclass(section.__name__.replace("Recipe", "Options"), fields, kw_only=True)
    options.__module__ = __name__  # else it counts as the standard library's, whose classes are not taken apart
    return options


RunOptions = section_options("run")
DataOptions = section_options("data")
ModelOptions = section_options("model")
TrainingOptions = section_options("training")


def to_recipe(source: str | None, *sections: Any) -> recipes.Recipe:
    """Return the options that were given as a recipe; the others stay None."""
    recipe = recipes.Recipe()
    recipe.data.source = source
    for section in sections:
        if section is None:
            continue
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if value is not None:
                recipe.set(field.name, plain(value) if isinstance(value, Mapping) else value)
    return recipe


def plain(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options with their values read as TOML (0.9, true, [0.9, 0.95]); what is no TOML stays text.

    Example:
        >>> plain({"momentum": "0.9", "nesterov": "true", "fused": "no"})
        {'momentum': 0.9, 'nesterov': True, 'fused': 'no'}
    """
    values = {}
    for name, text in options.items():
        try:
            values[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name] = text
    return values
