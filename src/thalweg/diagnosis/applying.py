"""A repair put into a run's recipe: `thalweg train --apply runs/x/diagnosis.json#2`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg import names
from thalweg.diagnosis.fitting import with_changes
from thalweg.errors import InputError
from thalweg.storage.forms import anything, many, read_json, record, table
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import DIAGNOSIS
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, typed
from thalweg.training.recipe.trusted import require_trust
from thalweg.training.session.reading import on_top

# A repair is about the training; what is read, and what the run is called, are the run's own.
KEPT: Final = frozenset(name for name, option in OPTIONS.items() if option.compared == "fixed") - {"seed"} | {
    *("word_vectors", "targets"),
}
# Of these the file is no longer read where a repair takes the option out.
TAKEN_OUT: Final = frozenset(("word_vectors",))


def applied(reference: str, given: Options, *, trust: bool = False) -> Options:
    """Return the options of a run with the repairs of some of its findings on top, and those given on top of these.

    A repair is a change of options that this version knows, checked as if a person had typed it: a file of a stranger
    can neither name other data nor code of its own.

    Args:
        reference: the run's `diagnosis.json` (or the run's folder) and the findings' numbers, counted from 1:
            `runs/x/diagnosis.json#2`, or `#1,#2` for several; where two change the same option, the later one holds.
        given: options from the command line.
        trust: whether an optimizer that the run's recipe names by its import path may be imported.

    Raises:
        InputError: for a file that is missing or damaged, a number that no finding has, a repair that no option can
            make, or a value out of its range.
    """
    path, numbers = _parts(reference)
    run = Run(path.parent)
    changes: dict[str, Any] = {}
    for number, finding in _findings(path, numbers, run):
        changes |= _changes(finding, f"{path}#{number}", run)
    options = on_top(with_changes(Options(run.recipe.values()), changes), given)
    require_trust(options.get("optimizer", ""), given, run.folder, trust=trust)
    complete(options)  # what this refuses, it says of the options
    return options


def _parts(reference: str) -> tuple[Path, list[int]]:
    """Return the file and the numbers that a reference names."""
    file, separator, rest = reference.partition("#")
    numbers = [part.strip().removeprefix("#") for part in rest.split(",")]
    if not (file and separator) or not all(re.fullmatch(r"[0-9]{1,6}", number) for number in numbers):
        raise InputError(
            f"--apply must name a diagnosis and the number of one of its findings, such as runs/x/{DIAGNOSIS}#1 or "
            f"runs/x/{DIAGNOSIS}#1,#2; got {reference!r}."
        )
    path = Path(file)
    return path / DIAGNOSIS if path.is_dir() else path, [int(number) for number in numbers]


def _findings(path: Path, numbers: list[int], run: Run) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the findings with these numbers, of a diagnosis that is as it was written."""
    if not path.is_file():
        raise InputError(f"There is no diagnosis {path}; `thalweg diagnose {path.parent}` writes it.")
    if path.name in run.ledger:
        run.ledger.path(path.name)
    again = f"`thalweg diagnose {path.parent}` writes it again"
    listed = read_json(path, record(findings=many(table(anything()))), otherwise=again)["findings"]
    for number in numbers:
        if not 1 <= number <= len(listed):
            has = f"has {len(listed)} (counted from 1)" if listed else "has none"
            raise InputError(f"There is no finding {number} in {path}, which {has}.")
    return [(number, listed[number - 1]) for number in numbers]


def _changes(finding: Mapping[str, Any], where: str, run: Run) -> dict[str, Any]:
    """Return the options that a finding's repair changes; None: no longer given."""
    repair = finding.get("repair")
    repair = repair if isinstance(repair, dict) else {}
    options = repair.get("options")
    if not isinstance(options, dict) or not options:
        sentence = repair.get("sentence")
        what = f" Its repair: {sentence}" if isinstance(sentence, str) and sentence else ""
        raise InputError(f"{where} is not mended by an option, so there is nothing to apply.{what}")
    for name, value in options.items():
        if name not in OPTIONS:
            raise InputError(f"{where}: there is no option {name!r}; expected one that `thalweg train --help` lists.")
        if name in KEPT and not (value is None and name in TAKEN_OUT):
            raise InputError(f"{where}: a repair may not change {OPTIONS[name].flag}; give it on the command line.")
        if value is not None:
            typed(name, value, f"{where}: {name}")
            _require_known_code(name, value, where, run)
    return dict(options)


def _require_known_code(name: str, value: Any, where: str, run: Run) -> None:
    """Refuse an optimizer by its import path, unless the run had it: importing runs whatever is there."""
    if name == "optimizer" and not value.replace("-", "_").isidentifier() and value != run.recipe.training.optimizer:
        raise InputError(
            f"{where}: a repair may not name code to import, such as the optimizer {value!r}; if you trust it, give "
            "--optimizer on the command line."
        )
    if name == "optimizer_options":
        for key, entry in value.items():
            if not isinstance(entry, bool | int | float) and not (
                isinstance(entry, list) and all(isinstance(one, int | float) for one in entry)
            ):
                names.check(
                    names.PARTS.get(key, ()), str(entry), f"value of the optimizer's option {key!r} (in {where})"
                )
