"""The flags of `thalweg train`, made from the table of options."""

import ast
import dataclasses
import tomllib
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from thalweg.cli.complaints import number
from thalweg.training.recipe.option import Option
from thalweg.training.recipe.options import OPTIONS, READING
from thalweg.training.recipe.recipe import Options, one_source
from thalweg.training.recipe.spelled import seconds

_GROUPS = {"run": "The run", "data": "Data", "model": "Model", "training": "Training"}
_NOT_FLAGS = {"source"}  # given as the first argument
# Arguments of an optimizer arrive as text; `plain` reads them as TOML values.
_KINDS: dict[Any, Any] = {tuple[str, ...]: list[str], Mapping[str, Any]: dict[str, str]}


def converter(parse: Callable[[str], Any]) -> Callable[[type, Sequence[Any]], Any]:
    """Return a function of one text as what cyclopts calls."""
    return lambda kind, tokens: parse(tokens[0].value)  # noqa: ARG005


def _listed(kind: type, tokens: Sequence[Any]) -> list[str]:
    """Return the values of a list, given one by one or with commas; "none" alone is none."""
    del kind
    values = [value.strip() for token in tokens for value in token.value.split(",")]
    return [] if values == ["none"] else values


def _folder(text: str) -> Path:
    """Return the folder that a text names."""
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"expected the name of a folder, in UTF-8; got {text!r}.")
    return Path(text)


folder = converter(_folder)
duration = converter(seconds)
whole = converter(partial(number, int))
real = converter(partial(number, float))
# Readers of what stands on the command line, by the type of an option that has none of its own.
_READERS: dict[Any, Callable[..., Any]] = {
    int: whole, float: real, tuple[str, ...]: _listed
}  # fmt: skip


def section_options(section: str, without: Container[str] = (), only: Container[str] = OPTIONS) -> type:
    """Return a dataclass with the options of a section, each with what cyclopts needs; None is "not given"."""
    group = Group.create_ordered(_GROUPS[section])
    options = [option for option in OPTIONS.values() if option.section == section and option.name not in _NOT_FLAGS]
    options = [option for option in options if option.name in only and option.name not in without]
    fields = [(option.name, _annotated(option, group), dataclasses.field(default=None)) for option in options]
    made = dataclasses.make_dataclass(f"{section.title()}Options", fields, kw_only=True)
    made.__module__ = __name__  # else it counts as the standard library's, whose classes are not taken apart
    return made


def _annotated(option: Option, group: Group) -> Any:
    parameter = Parameter(
        help=option.help + ".",
        group=group,
        converter=converter(option.parse) if option.parse else _READERS.get(option.kind),
        negative=None if option.kind is bool else (),
        show_default=False,
    )
    return Annotated[_KINDS.get(option.kind, option.kind) | None, parameter]


RunOptions = section_options("run")
DataOptions = section_options("data")
ReadOptions = section_options("data", only=READING)
FormatOptions = section_options("data", only=("kind", "header"))
ModelOptions = section_options("model")
TrainingOptions = section_options("training")
ComparedOptions = section_options(
    "training", without=[name for name, option in OPTIONS.items() if option.compared == "budget"]
)


def to_options(sources: Sequence[str], *sections: Any) -> Options:
    """Return the options that were given on the command line, the files in one."""
    given: dict[str, Any] = {}
    for section in filter(None, sections):
        given |= vars(section)
    given["source"] = one_source(sources, given.get("task"))
    return Options({name: plain(value) if isinstance(value, Mapping) else value for name, value in given.items()})


def plain(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options with their values read as TOML (0.9, true, [0.9, 0.95]); what is not TOML stays text.

    Example:
        >>> plain({"momentum": "0.9", "nesterov": "true", "fused": "no", "betas": "(0.9, .99)"})
        {'momentum': 0.9, 'nesterov': True, 'fused': 'no', 'betas': [0.9, 0.99]}
    """

    def value(text: str) -> Any:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
            return _of_python(text)

    return {name: value(text) for name, text in options.items()}


def _of_python(text: str) -> Any:
    """Return what a text says as Python writes it, such as (0.9, 0.99) or True; a text else."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, tuple | list):
        return list(value)
    return value if isinstance(value, bool | int | float) else text
