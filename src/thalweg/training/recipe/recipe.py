"""What the user gave (`Options`), and everything that defines a run (`Recipe`), read from and written to TOML."""

import difflib
import json
import math
import numbers
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from thalweg import names
from thalweg.data.containers.places import LONGEST_NAME, is_there, joined
from thalweg.errors import InputError, shown
from thalweg.storage.regular import read_regular
from thalweg.training.recipe.option import Option
from thalweg.training.recipe.options import OPTIONS, SECTIONS
from thalweg.training.recipe.sections_data import DataSection, RunSection
from thalweg.training.recipe.sections_training import ModelSection, TrainingSection

_MAX_BYTES: Final = 2**21  # of a recipe
# A key's parts, whose time to be read grows with the square of their number.
_PARTS: Final = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)++""")
_MOST_PARTS: Final = 64


@final
class Options(Mapping[str, Any]):
    """The options that were given, by name; the others, and those that are None, are absent. It never changes.

    A name that no option has, or a value of another type, is an InputError.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        given = {name: value for name, value in {**(values or {}), **more}.items() if value is not None}
        for name in given:
            if name not in OPTIONS:
                raise InputError(f"There is no option {name!r}{_nearest(name, OPTIONS)}")
        self._values = {name: typed(name, given[name], name) for name in OPTIONS if name in given}

    def with_(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> "Options":
        """Return these options with others put over them; None takes an option out."""
        return Options({**self._values, **(values or {}), **more})

    def __getitem__(self, name: str) -> Any:
        assert name in OPTIONS, name
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.items())})"


def one_source(places: Sequence[str | os.PathLike[str]], task: str | None = None) -> str | None:
    """Return the source that stands for the files that were named; None where there are none.

    Two files of texts are read line by line for a task that has a source and a target.

    Example:
        >>> one_source(["a.csv"]), one_source(["old.txt", "new.txt"], "translate"), one_source([])
        ('a.csv', 'old.txt | new.txt', None)
    """
    if not places:
        return None
    if not all(map(str, places)):
        raise InputError("The name of a file is empty; give the files, or none for the task's built-in set.")
    is_pair = task in names.TASKS and "source" in names.task_columns(task).roles
    return joined([str(place) for place in places], pairs_lines=is_pair)


def named_source(data: Any, task: str | None = None) -> str | None:
    """Return the source that a name or a list of names stands for; None for what holds data itself.

    Raises:
        InputError: for a list of texts that are no names of files.

    Example:
        >>> named_source("a.csv"), named_source(["test.en", "test.de"]), named_source([{"text": "fine"}])
        ('a.csv', 'test.en | test.de', None)
    """
    if isinstance(data, str | Path):
        return str(data)
    if not isinstance(data, list | tuple) or not data or not all(isinstance(one, str | Path) for one in data):
        return None
    if any(len(str(one)) > LONGEST_NAME or (" " in str(one) and not is_there(str(one))) for one in data):
        raise InputError(
            f"Expected names of files, got a list of texts, the first {str(data[0])[:60]!r}; give texts with "
            'what is to be learned, such as {"text": [...], "label": [...]}.'
        )
    return one_source(data, task)


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that defines a run; it is complete, and it never changes.

    0, "" and () mean "off" or "not used". `thalweg.training.recipe.complete` makes it from options.
    """

    run: RunSection
    data: DataSection
    model: ModelSection
    training: TrainingSection

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with these values, one for every option."""
        sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for name, option in OPTIONS.items():
            sections[option.section][name] = typed(name, values[name], name)
        return Recipe(**{section: SECTIONS[section](**fields) for section, fields in sections.items()})

    def with_(self, **values: Any) -> "Recipe":
        """Return the recipe with other values of some options.

        Example:
            >>> from thalweg.training.recipe.complete import complete
            >>> recipe = complete(Options(task="classify", source="docstrings"))
            >>> recipe.with_(steps=7).training.steps
            7
        """
        assert values.keys() <= OPTIONS.keys(), values
        return Recipe.of(self.values() | values)

    def values(self) -> dict[str, Any]:
        """Return all options by name."""
        return {name: value for section in self.to_dict().values() for name, value in section.items()}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return sections of plain values."""
        return asdict(self)

    def to_toml(self) -> str:
        """Return the recipe as TOML, with a comment on every line."""
        lines = ['# A thalweg recipe. `thalweg train recipe.toml` repeats the run; 0 and "" mean off or not used.', ""]
        for name, values in self.to_dict().items():
            lines += [f"[{name}]  # {(SECTIONS[name].__doc__ or '').splitlines()[0]}"]
            texts = {option: f"{option} = {_toml_value(value)}" for option, value in values.items()}
            column = min(44, max(map(len, texts.values())))
            lines += [f"{text:<{column}}  # {OPTIONS[option].help}" for option, text in texts.items()] + [""]
        return "\n".join(lines)


def read_recipe(path: str | Path) -> Recipe:
    """Read the complete recipe of a run.

    An earlier version did not write the options that it did not have. Those that were off then, and say nothing about
    the network, take the value for that.

    Raises:
        InputError: as `read_options`, and if any other option is missing.
    """
    options = read_options(path)
    options = Options({**{name: option.default for name, option in OPTIONS.items() if _was_off(option)}, **options})
    if gone := [name for name in OPTIONS if name not in options]:
        raise InputError(
            f"{path} lacks options ({', '.join(gone[:3])}): it is damaged, or of another version of thalweg; restore "
            "it, use that version, or train the run again."
        )
    return Recipe.of(options)


def _was_off(option: Option) -> bool:
    """Whether a run whose recipe does not have an option did what its default does."""
    off = {"data": ("", (), "auto"), "training": ("", "none", ())}.get(option.section)
    if off is None:
        return option.name == "start_from"
    # Nothing reads it where it was not given, or its default is what was done before there was the option.
    added = "distill_weight bleu_tokenizer carry stride vocabularies long max_ratio bpe_dropout batch_tokens"
    if option.name in {*added.split(), "min_frequency"}:
        return True
    return option.default is False or option.default in off  # 0 is no sign: it is a seed, or as many lags as fit


def read_options(path: str | Path) -> Options:
    """Read the options that a recipe file gives, all of them or some.

    An InputError tells of a missing file, one that is not TOML, an unknown section or option, or a value of another
    type.
    """
    try:
        text = read_regular(path, _MAX_BYTES).decode()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the name and the folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {error}.") from None
    return read_toml(text, str(path))


def read_toml(text: str, where: str) -> Options:
    """Read options from TOML text; `where` names it in messages. Raises as `read_options`."""
    try:
        if any(found[0].count(".") > _MOST_PARTS for found in _PARTS.finditer(text)):
            raise ValueError(f"a key has more than {_MOST_PARTS} parts")
        parsed = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too, or as many brackets
        raise InputError(f"{where} is not valid TOML: {error}.") from None
    given = {}
    for section, values in parsed.items():
        if section not in SECTIONS or not isinstance(values, dict):
            raise InputError(
                f"{where}: there is no section [{section}]; expected {', '.join(f'[{s}]' for s in SECTIONS)}."
            )
        known = [name for name, option in OPTIONS.items() if option.section == section]
        for name, value in values.items():
            if name not in known:
                raise InputError(f"{where}: section [{section}] has no option {name!r}{_nearest(name, known)}")
            given[name] = typed(name, value, f"{where}: [{section}] {name}")
    return Options(given)


_WORDS: dict[type, str] = {
    str: "a string", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of strings",
    Mapping: "a table",
}  # fmt: skip


def typed(name: str, value: Any, where: str) -> Any:
    """Return the value in the option's type, or refuse it; `where` names it in the message."""
    kind = OPTIONS[name].kind
    kind = getattr(kind, "__origin__", kind)
    parts = [*value, *value.values()] if isinstance(value, Mapping) else value
    if any(map(_is_no_text, parts if isinstance(parts, list | tuple) else [parts])):
        raise InputError(f"{where} must be UTF-8, as a recipe is; got {value!r}: rename the file, or link to it.")
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # a whole number beyond the largest of them
            return math.inf if value > 0 else -math.inf  # pyright: ignore[reportOperatorIssue]
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if kind is str and isinstance(value, os.PathLike):
        return str(value)
    if OPTIONS[name].may_be_number and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return str(value)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    if kind is Mapping and isinstance(value, Mapping):
        return dict(value)
    if kind in (float, int) or not isinstance(value, kind):
        raise InputError(f"{where} must be {_WORDS[kind]}; got {shown(value)}.")
    return value


def _is_no_text(value: Any) -> bool:
    """Whether a value holds bytes that are no UTF-8, which Python writes as halves of surrogate pairs."""
    return isinstance(value, str | os.PathLike) and any("\ud800" <= letter <= "\udfff" for letter in str(value))


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _toml_value(value: Any) -> str:
    """Return a plain value as TOML (JSON's text form is TOML's, for what recipes hold)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # the shortest text that reads back as the same number; nan and inf are TOML, too
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_value(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(entry) for entry in value) + "]"
    # JSON escapes the same characters; DEL is the one that TOML wants escaped and JSON leaves.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
