"""The shape of the package, as tests: what may import what, how long a module may be, and what nobody may use."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "thalweg"
MAX_LINES = 400

# A part may import itself and any part on an earlier line, never a later one. Parts on one line don't know each other.
ORDER = [
    {"errors"},
    {"status", "vectors", "batch", "distributed"},
    {"models", "heads", "data", "report"},
    {"objective"},
    {"curvature"},
    {"optim"},
    {"certify"},
    {"tasks"},
    {"names"},
    {"training"},
    {"diagnose"},
    {"compare"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
NO_TORCH = {"errors", "report"}
# Modules inside a part that must stay quick to import, because `thalweg --help` or reading files needs them.
NO_TORCH_MODULES = {
    "training/recipe.py",
    "names.py",
    "cli/main.py",
    "cli/options.py",
    "cli/progress.py",
    "cli/output.py",
}
# A longer file needs a line of reason here.
LONGER = {}
FORBIDDEN = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle", "joblib"}

MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")
EVERY_MODULE = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full, as thalweg.part.module."
            assert node.module is not None
            inside = node.module == "thalweg"
            names |= {f"thalweg.{alias.name}" for alias in node.names} if inside else {node.module}
    return names


@EVERY_MODULE
def test_imports_flow_one_way(path):
    here = part_of(path)
    assert here in LEVEL, f"{here!r} has no place in ORDER; put it there before using it."
    for name in imported(path):
        if name.startswith("thalweg."):
            there = name.split(".")[1]
            assert there == here or LEVEL[there] < LEVEL[here], f"{path.name}: {here} may not import {there}."


@EVERY_MODULE
def test_modules_stay_short(path):
    num_lines = path.read_text(encoding="utf-8").count("\n")
    limit = MAX_LINES if path.name not in LONGER else 10_000
    assert num_lines <= limit, f"{path} has {num_lines} lines; the limit is {MAX_LINES}. Split it by idea."


@EVERY_MODULE
def test_no_module_unpickles(path):
    assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN, f"{path.name} uses a pickle."
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            assert (call.func.value.id, call.func.attr) != ("torch", "load"), f"{path.name} calls torch.load."
        if isinstance(call.func, ast.Name):
            assert call.func.id not in {"eval", "exec"}, f"{path.name} calls {call.func.id}."


@EVERY_MODULE
def test_quick_modules_import_no_torch(path):
    if part_of(path) in NO_TORCH or path.relative_to(ROOT).as_posix() in NO_TORCH_MODULES:
        heavy = {name.split(".")[0] for name in imported(path, top_level_only=True)} & {
            "torch",
            "torchmetrics",
            "numpy",
        }
        assert not heavy, f"{path.name} must not import {heavy} at the top."


@EVERY_MODULE
def test_no_loop_inside_a_part(path):
    """Following imports inside one part from a module never leads back to it."""
    own = "thalweg." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    files = {"thalweg." + ".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in MODULES}

    def inner(name):
        found = set()
        for node in ast.walk(ast.parse(files[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return {other for other in found if other in files and other != name and part_of(files[other]) == part_of(path)}

    seen, queue = set(), list(inner(own))
    while queue:
        name = queue.pop()
        assert name != own, f"{own} imports itself by way of another module."
        if name not in seen:
            seen.add(name)
            queue.extend(inner(name))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("__init__.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_package_files_are_empty_but_the_first(path):
    if path != ROOT / "__init__.py":
        assert path.read_text(encoding="utf-8") == "", "imports through a package's __init__ make loops"


def test_the_order_names_no_part_twice():
    assert sum(len(parts) for parts in ORDER) == len(LEVEL)
