"""What is wrong with a command line, in a sentence: what was expected, what was got, what to do."""

import difflib
import errno
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.exceptions import UnknownCommandError

from thalweg.data.builtin.catalog import SAMPLES

STANDARD_INPUT: Final = "/dev/stdin"
_ASSEMBLED: Final[dict[str, tuple[App, tuple[Any, ...]]]] = {}
_KINDS: Final = {"int": "a whole number", "float": "a number", "bool": "no value"}
_REMEDIES: Final = {
    errno.ENOENT: "check the name and the folder",
    errno.ENOTDIR: "check the name and the folder",
    errno.EISDIR: "name a file in it",
    errno.EEXIST: "it is no folder; choose another place",
    errno.ELOOP: "check where the link leads",
    errno.ENAMETOOLONG: "check the name and the folder",
    errno.EACCES: "allow it, or choose another file or folder",
    errno.EPERM: "allow it, or choose another file or folder",
    errno.EROFS: "choose another file or folder",
    errno.ENOSPC: "make room there, or choose another place",
    errno.EDQUOT: "make room there, or choose another place",
    errno.EFBIG: "raise the limit (ulimit -f), or choose another place",
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the limit",
    errno.EBADF: "give a file, a pipe or /dev/null",
    errno.ENXIO: "name a file",
    errno.ESPIPE: "name a file",
    errno.ESTALE: "check the disk, and start the same command again",
}
NAMED_WRONGLY: Final = frozenset(
    {
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EROFS,
        errno.EEXIST,
    }
)
"""What the system says of a name that cannot be used; anything else is no mistake of the user's."""

_OPTIMIZERS: Final = "an argument of the optimizer is given as --optimizer-options.{name} VALUE"


def number(kind: Callable[[str], Any], text: str) -> Any:
    """Return the number that a text spells, or raise a ValueError that says what was expected, and how to write it."""
    try:
        return kind(text)
    except ValueError:
        hint = ""
        if kind is float and re.fullmatch(r"[+-]?\d+,\d+", text.strip()):
            hint = f"; write {text.strip().replace(',', '.')}"
        elif kind is float and re.fullmatch(r"[\d.]+ ?%", text.strip()):
            hint = f"; write {float(text.strip(' %')) / 100:g}"
        elif kind is int and re.fullmatch(r"\d+(\.0*)?(e\d{1,2})?", text.strip(), re.IGNORECASE):
            hint = f"; write {int(float(text))}"
        raise ValueError(f"expected {_KINDS[kind.__name__]}; got {text!r}{hint}.") from None


def sentence(error: CycloptsError, app: App) -> str:
    """Return what the parser found wrong, in a sentence of ours."""
    chain = list(error.command_chain or ())
    command = chain[0] if chain else ""
    tokens = list(error.root_input_tokens or ())
    match error:
        case UnknownCommandError():
            return _unknown_command(tokens, app)
        case UnknownOptionError():
            return _unknown_option(error.token.keyword or error.token.value, command, app)
        case UnusedCliTokensError():
            return _left_over(list(error.unused_tokens or ()), tokens, command)
        case CoercionError():
            return _wrong_value(error)
        case MissingArgumentError():
            return _missing(error, command)
        case RepeatArgumentError():
            return f"{error.token.keyword} is given twice; give it once."
    text = " ".join(f"{error}".split()).rstrip(".")
    return f"The command line cannot be read ({text}); {_help(command)} shows what it takes."


def unusable(error: OSError) -> str:
    """Return what the system could not do with a file or a folder.

    Example:
        >>> unusable(OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300))[:40]
        'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    """
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    shown = f"{name[:80]}{'...' if len(name) > 80 else ''}: " if name else ""
    return f"{shown}{error.strerror or error}; {_REMEDIES.get(error.errno or 0, 'check the disk')}."


def with_standard_input(tokens: Sequence[str]) -> list[str]:
    """Return arguments in which "-", where it stands for a file to be read as a whole, is that file's name.

    Example:
        >>> with_standard_input(["predict", "runs/a", "--file", "-"]), with_standard_input(["predict", "runs/a", "-"])
        (['predict', 'runs/a', '--file', '/dev/stdin'], ['predict', 'runs/a', '-'])
    """
    command = tokens[0] if tokens else ""
    found = [f"--file={STANDARD_INPUT}" if command == "predict" and one == "--file=-" else one for one in tokens]
    for place, one in enumerate(found):
        if one == "-" and (command in ("evaluate", "data") or (command == "predict" and found[place - 1] == "--file")):
            found[place] = STANDARD_INPUT
    return found


def misplaced(tokens: Sequence[str], app: App) -> str:
    """Return what is wrong with arguments that the parser would take for texts or files; "" if nothing is.

    These are options of other commands among the texts to be answered, and values behind an option that has its own.
    """
    command, *rest = tokens or [""]
    rest = rest[: rest.index("--")] if "--" in rest else rest
    if command == "predict":
        own = [*_options_of("predict", app), *app.help_flags, *app.version_flags]
        for one in rest:
            name = one.partition("=")[0]
            if re.fullmatch(r"--[a-z][a-z-]+", name) and name not in (*own, *app.help_flags, *app.version_flags):
                return f"{_unknown_option(name, command, app)} A text that begins so comes after -- alone."
            if re.fullmatch(r"-[a-z][a-z-]+", name) and f"-{name}" in own:
                return f"{_unknown_option(name, command, app)} A text that begins so comes after -- alone."
    elif command in ("train", "data", "evaluate"):
        takes = {
            name: 0 if argument.hint in (bool, bool | None) else argument.token_count()[0]
            for argument in _arguments(command, app)
            for name in _names(argument)
        }
        for place, one in enumerate(rest):
            last, name = rest[place - 1] if place else "", one.partition("=")[0]
            is_known = name in takes or name in (*app.help_flags, *app.version_flags) or Path(one).exists()
            if re.fullmatch(r"--[a-z][a-z-]*", name) and not is_known and takes.get(last, 0) == 0:
                return _unknown_option(name, command, app)
            if one.startswith("-") or any(mark in one for mark in "*?[+") or Path(one).exists() or one in SAMPLES:
                continue
            last, before = (rest[place - back] if place >= back else "" for back in (1, 2))
            if takes.get(last) == 0 or (takes.get(before) == 1 and takes.get(last) is None):
                return _left_over([one], [command, *rest], command)
    return ""


def _unknown_command(tokens: list[str], app: App) -> str:
    commands = [name for name in app if not name.startswith("-")]
    word = tokens[0] if tokens else ""
    if word.startswith("-"):
        return (
            f"Options come after the command; got {word} first. Write, for example, thalweg train {' '.join(tokens)}."
        )
    if Path(word).exists():
        return f"There is no command {word!r}, which is a file; did you mean thalweg train {word}?"
    close = difflib.get_close_matches(word, commands, n=1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(commands)}."
    return f"There is no command {word!r}; {hint}"


def _unknown_option(name: str, command: str, app: App) -> str:
    name = name.partition("=")[0]
    own = _options_of(command, app)
    said = f"thalweg {command} has no option {name}".replace("  ", " ")
    if re.fullmatch(r"-[a-zA-Z]\w*", name):
        full = f"-{name}"
        return f"{said}; options have two dashes{f': {full}' if full in own else ''}. {_help(command)} lists them."
    if close := difflib.get_close_matches(
        name[2:], [one[2:] for one in own], n=1, cutoff=0.75 if len(name) > 6 else 0.6
    ):
        return f"{said}; did you mean --{close[0]}?"
    if others := [other for other in app if not other.startswith("-") and name in _options_of(other, app)]:
        return (
            f"{said}; it is one of thalweg {' and thalweg '.join(others)}. {_help(command)} lists those of {command}."
        )
    if command in ("train", "compare") and name.startswith("--no-") and f"--{name[5:]}" in own:
        return f"{said}; leave out --{name[5:]}."
    if command == "train" and re.fullmatch(r"--[a-z][\w-]*", name):
        extra = _OPTIMIZERS.format(name=name[2:].replace("-", "_"))
        return f"{said}; {_help(command)} lists them, and {extra}."
    return f"{said}; {_help(command)} lists them."


def _left_over(unused: list[str], tokens: list[str], command: str) -> str:
    listed = " ".join(map(repr, unused))
    place = tokens.index(unused[0]) if unused and unused[0] in tokens else 0
    before = tokens[:place]
    if before and before[-1].startswith("--") and "=" not in before[-1]:
        flag = before[-1]
        return f"{flag} takes no value; got {listed}. Give {flag} alone, or leave it out."
    if len(before) > 1 and before[-2].startswith("--"):
        return (
            f"{before[-2]} takes one value; got {before[-1]!r} and also {listed}. Leave out the rest, or put a value "
            "with spaces in quotation marks."
        )
    return (
        f"There is no place for {listed}: thalweg {command} takes fewer arguments. A name with spaces stands in "
        f"quotation marks; {_help(command)} shows the arguments."
    )


def _wrong_value(error: CoercionError) -> str:
    token, argument = error.token, error.argument
    flag = token.keyword if token is not None and token.keyword else str(argument.name if argument else "the argument")
    got = "" if token is None else token.value
    if (said := str(error.msg or "")).startswith("expected"):
        return f"{flag}: {said}"
    kind = str(error.target_type)
    if error.target_type is bool or "bool" in kind:
        return f"{flag} takes no value; got {got!r}. Give {flag} alone, or leave it out."
    if "dict" in kind or "Mapping" in kind:
        return f"{flag} takes a name and a value, such as {flag}.NAME VALUE; got {got!r}."
    words = _KINDS.get(getattr(error.target_type, "__name__", ""), "another kind of value")
    return f"{flag}: expected {words}; got {got!r}."


def _missing(error: MissingArgumentError, command: str) -> str:
    argument = error.argument
    about = " ".join(str(argument.parameter.help or "").split()).rstrip(".") if argument is not None else ""
    flag = error.keyword or (str(argument.name) if argument is not None else "an argument")
    if flag.startswith("--"):
        return f"{flag} needs a value{f': {about[:1].lower()}{about[1:]}' if about else ''}."
    what = f" ({about[:1].lower()}{about[1:]})" if about else ""
    return f"thalweg {command} needs {flag}{what}; {_help(command)} shows the arguments."


def _arguments(command: str, app: App) -> Sequence[Any]:
    """Return what a command takes; it is put together once, which takes longer than to read a command line."""
    if command not in app:
        return ()
    if command not in _ASSEMBLED or _ASSEMBLED[command][0] is not app:
        _ASSEMBLED[command] = app, tuple(app[command].assemble_argument_collection(parse_docstring=False))
    return _ASSEMBLED[command][1]


def _options_of(command: str, app: App) -> list[str]:
    return [name for argument in _arguments(command, app) for name in _names(argument) if name.startswith("--")]


def _names(argument: Any) -> Iterable[str]:
    return (*argument.names, *argument.parameter.get_negatives(argument.field_info.annotation))


def _help(command: str) -> str:
    return f"thalweg {command} --help" if command else "thalweg --help"
