"""What is compared: entrants, as a person names them. Imports no torch."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from thalweg import names
from thalweg.comparison.spaces import IMPLIED
from thalweg.errors import InputError, shown
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, typed

EXTRA = {"optimizer": "optimizer_options", "schedule": "schedule_options"}  # where settings go that no option has


@final
@dataclass(frozen=True)
class Entrant:
    """One of those that are compared: a value of the option that is varied, with settings of its own.

    Args:
        name: what the user typed, or its label; no other entrant has it.
        option: what is varied: "optimizer", "head" ...
        fixed: settings by name: options of the recipe, and arguments of the optimizer, which no option has.
    """

    name: str
    option: str
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def options(self, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return its settings, and others that were tuned, as options of the recipe."""
        found: dict[str, Any] = {}
        extra: dict[str, dict[str, Any]] = {}
        own = EXTRA.get(self.option, "optimizer_options")
        for name, value in {**self.fixed, **(settings or {})}.items():
            if name in OPTIONS:
                found[name] = value
            else:
                extra.setdefault(own if name in self.fixed else "optimizer_options", {})[name] = value
        for name, values in extra.items():
            found[name] = {**found.get(name, {}), **values}
        return found


def read_entrants(option: str, given: str | Iterable[str]) -> tuple[Entrant, ...]:
    """Return entrants from text such as "adamw,adamw:weight_decay=0.1,pytorch_optimizer.SOAP".

    Args:
        option: what is varied, an option of the recipe.
        given: text with commas between entrants, or a list of such texts. After the value come settings, each behind
            a colon; values are read as TOML. The setting `label` is the name in tables and pictures.

    Raises:
        InputError: for an option or a value that does not exist, or two entrants that are the same.

    Example:
        >>> [entrant.name for entrant in read_entrants("optimizer", "adamw,adamw:betas=[0.9,0.95]")]
        ['adamw', 'adamw:betas=[0.9,0.95]']
        >>> read_entrants("optimizer", "adamw,adamw:betas=[0.9,0.95]")[1].options()
        {'optimizer': 'adamw', 'optimizer_options': {'betas': [0.9, 0.95]}}
    """
    names.check(OPTIONS, option, "option")
    texts = [given] if isinstance(given, str) else list(given)
    parts = [part.strip() for text in texts for part in _split(text, ",")]
    found: list[Entrant] = []
    for part in filter(None, parts):
        entrant = _entrant(option, part)
        for other in found:
            if _plain(other) == _plain(entrant):
                raise InputError(
                    f"{entrant.name!r} and {other.name!r} are the same entrant; leave one out, or give them other "
                    f"settings, such as {entrant.name}:lr=0.01."
                )
            if other.name == entrant.name:
                raise InputError(f"Two entrants have the label {entrant.name!r}; give each one of its own.")
        found.append(entrant)
    if not found:
        raise InputError(f"There is nothing to compare: give values of --{option.replace('_', '-')}, with commas.")
    return tuple(found)


def _plain(entrant: Entrant) -> dict[str, Any]:
    """Return an entrant's settings with the optimizer's name as it is known, which may be written in capitals."""
    fixed, name = dict(entrant.fixed), entrant.fixed.get("optimizer")
    return fixed | {"optimizer": name.lower()} if isinstance(name, str) and "." not in name else fixed


def read_vary(text: str) -> tuple[Entrant, ...]:
    """Return the entrants of text such as "head=softmax,vmf"; raises as `read_entrants`."""
    option, equals, values = text.partition("=")
    if not equals:
        raise InputError(f"--vary takes an option and its values, such as head=softmax,vmf; got {text!r}.")
    return read_entrants(option.strip().lstrip("-").replace("-", "_"), values)


def _entrant(option: str, text: str) -> Entrant:
    value, settings = "", []
    for piece in _split(text, ":"):
        if not settings and not _is_setting(piece):  # a colon inside the value, as in trained:PATH
            value = f"{value}:{piece}" if value else piece
        else:
            settings.append(piece)
    fixed, label = {option: read_value(option, value)}, text
    if not isinstance(fixed[option], str):  # a number alone says nothing in a sentence
        label = f"{option}={text}"
    for piece in settings:
        name, equals, setting = piece.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise InputError(f"{text!r}: expected NAME=VALUE behind the colon, such as lr=0.01; got {piece!r}.")
        if name in fixed:
            raise InputError(f"{text!r}: {name} is given twice; name it once.")
        if name == "label":
            label = str(_toml(setting.strip()))
        else:
            fixed[name] = read_value(name, setting.strip())
    if option == "optimizer" and "line_search" not in fixed:
        fixed |= IMPLIED.get(str(fixed[option]), {})
    return Entrant(label, option, fixed)


def _is_setting(piece: str) -> bool:
    return piece.partition("=")[0].strip().replace("-", "_").replace("_", "a").isalnum() and "=" in piece


def read_value(name: str, text: str) -> Any:
    """Return the value of an option, or of an argument that no option has, from its text."""
    option = OPTIONS.get(name)
    if option is None:
        return _toml(text)
    if option.parse is not None:
        try:
            return option.parse(text)
        except ValueError as error:
            raise InputError(f"{option.flag}: {error}") from None
    value = typed(name, text if option.kind is str else _toml(text), option.flag)
    if option.choices is not None:
        names.check(option.choices, value, option.what or name.replace("_", " "))
    if option.range is not None and not option.range.holds(value):
        raise InputError(f"{option.flag} {option.range.says}; got {shown(value)}.")
    return value


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, or a number of thousands of digits
        return text


def _split(text: str, mark: str) -> list[str]:
    """Split at a mark that stands in no brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == mark and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def common(options: Options, entrants: Iterable[Entrant]) -> Options:
    """Return the options that are the same for all; an InputError tells of one that is varied as well."""
    varied = {entrant.option for entrant in entrants}
    for name in varied & set(options):
        raise InputError(f"{OPTIONS[name].flag} is what is compared; leave it out, and name its values once.")
    return options
