"""The shape of the package, as tests: what may import what, how deep and how long, and what nobody may use."""

import ast
import functools
from pathlib import Path

import pytest
from modules import TESTED_IN

ROOT = Path(__file__).parents[1] / "src" / "thalweg"
MAX_LINES = 450
MAX_DEPTH = 15
MAX_FILES = 15
CATALOGS = {"heads", "optim", "models"}  # one idea a file, as many as there are ideas

# A part may import itself and any part on an earlier line, never a later one. Parts on one line don't know each other.
ORDER = [
    {"errors"},
    {"status", "vectors", "batch", "distributed"},
    {"models", "heads", "data", "report"},
    {"objective"},
    {"curvature"},
    {"optim"},
    {"certificates"},
    {"tasks"},
    {"names"},
    {"training"},
    {"online"},
    {"diagnosis"},
    {"comparison"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
NO_TORCH = {"errors", "report"}
# Modules inside a part that must stay quick to import, because `thalweg --help` or reading files needs them.
NO_TORCH_MODULES = {
    "training/recipe/complete.py",
    "training/recipe/options.py",
    "training/recipe/recipe.py",
    "training/recipe/rules.py",
    "names.py",
    "cli/main.py",
    "cli/options.py",
    "cli/progress.py",
    "cli/output.py",
}
FORBIDDEN = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle", "joblib"}


def name_of(path: Path) -> str:
    return "thalweg." + ".".join(path.relative_to(ROOT).with_suffix("").parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def part_of(name: str) -> str:
    return name.split(".")[1]


def imported(tree: ast.Module, *, top_level_only: bool = False) -> set[str]:
    """Every module that is imported, names inside it included as if they were modules."""
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


IMPORTS = {name: {other for other in imported(tree) if other in FILES} - {name} for name, tree in TREES.items()}


@functools.cache
def chain(name: str) -> tuple[str, ...]:
    """The longest chain of imports that begins at a module."""
    return (name, *max((chain(other) for other in IMPORTS[name]), key=len, default=()))


def test_imports_flow_one_way():
    for name, others in IMPORTS.items():
        here = part_of(name)
        assert here in LEVEL, f"{here!r} has no place in ORDER; put it there before using it."
        for other in others:
            there = part_of(other)
            assert there == here or LEVEL[there] < LEVEL[here], f"{name}: {here} may not import {there}."


def test_no_import_leads_back():
    for name in FILES:
        seen, queue = set(), list(IMPORTS[name])
        while queue:
            other = queue.pop()
            assert other != name, f"{name} imports itself by way of another module."
            if other not in seen:
                seen.add(other)
                queue.extend(IMPORTS[other])


def test_chains_of_imports_stay_short():
    longest = max(map(chain, FILES), key=len)
    assert len(longest) <= MAX_DEPTH, "\n".join(longest)


def test_modules_stay_short():
    for name, path in FILES.items():
        num_lines = path.read_text(encoding="utf-8").count("\n")
        assert num_lines <= MAX_LINES, f"{name} has {num_lines} lines; the limit is {MAX_LINES}. Split it by idea."


def test_folders_stay_small():
    for folder in {path.parent for path in FILES.values()}:
        if folder.relative_to(ROOT).as_posix() not in CATALOGS:
            num_files = len(list(folder.glob("*.py")))
            assert num_files <= MAX_FILES, f"{folder.name} has {num_files} files; the limit is {MAX_FILES}."


def test_no_module_unpickles():
    for name, tree in TREES.items():
        assert not {other.split(".")[0] for other in imported(tree)} & FORBIDDEN, f"{name} uses a pickle."
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
                assert (call.func.value.id, call.func.attr) != ("torch", "load"), f"{name} calls torch.load."
            if isinstance(call.func, ast.Name):
                assert call.func.id not in {"eval", "exec"}, f"{name} calls {call.func.id}."


def test_quick_modules_import_no_torch():
    for name, path in FILES.items():
        if part_of(name) in NO_TORCH or path.relative_to(ROOT).as_posix() in NO_TORCH_MODULES:
            modules = {other.split(".")[0] for other in imported(TREES[name], top_level_only=True)}
            assert not modules & {"torch", "torchmetrics", "numpy"}, f"{name} must not import them at the top."


@pytest.mark.parametrize("path", sorted(ROOT.rglob("__init__.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_package_files_hold_a_docstring_and_lazy_names_only(path):
    """Imports through a package's `__init__` would make loops; names are those of the stub beside it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert imported(tree) <= {"lazy_loader"}
    assert path.with_suffix(".pyi").exists() == bool(imported(tree))


def test_the_order_names_no_part_twice():
    assert sum(len(parts) for parts in ORDER) == len(LEVEL)


def test_every_module_is_named_by_one_test_file():
    tests, listed = Path(__file__).parent, set()
    for path in FILES.values():
        place = path.relative_to(ROOT)
        own = tests / place.parent / f"test_{place.stem}.py"
        keys = [key for key in (place.as_posix(), f"{place.parent.as_posix()}/") if key in TESTED_IN]
        assert own.exists() or keys, f"{place} has no test file; write one, or name it in tests/modules.py."
        assert not own.exists() or place.as_posix() not in TESTED_IN, f"{place} has a test file of its own."
        listed |= set() if own.exists() else {keys[0]}
    assert listed == TESTED_IN.keys(), "these lines of tests/modules.py name nothing"
    for name in TESTED_IN.values():
        assert (tests / name).is_file(), f"{name} is named in tests/modules.py, and is not there."
