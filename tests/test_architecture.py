"""The shape of the package, as tests: what may import what, how deep and how long, and what nobody may use."""

import ast
import functools
from pathlib import Path

import pytest
from modules import TESTED_IN

from thalweg.names import TASKS

ROOT = Path(__file__).parents[1] / "src" / "thalweg"
MAX_LINES = 450
MAX_DEPTH = 16
MAX_FILES = 15
CATALOGS = {"heads", "optim", "models", "curvature"}  # one idea a file, as many as there are ideas

# A part may import itself and any part on an earlier line, never a later one. Parts on one line don't know each other.
ORDER = [
    {"errors", "version"},
    {"status", "batch", "distributed", "noise", "phases", "storage"},
    {"sharded"},
    {"vectors"},
    {"models", "heads", "data", "report", "gradients"},
    {"objective"},
    {"functions"},
    {"curvature"},
    {"optim"},
    {"certificates", "frameworks"},
    {"tasks"},
    {"names"},
    {"training"},
    {"online", "sklearn", "exports", "serving"},
    {"diagnosis"},
    {"comparison"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(ORDER) for part in parts}
# What must be quick to import, because `thalweg --help` or looking at a file needs it: nothing that these load at once,
# directly or through others, may load one of HEAVY.
QUICK = (
    *("errors", "storage.files", "storage.ledger", "report", "names", "tasks.spec", "training.recipe"),
    *("cli.main", "cli.options", "cli.progress", "cli.output"),
    *(f"tasks.{path.parent.name}.spec" for path in sorted(ROOT.glob("tasks/*/spec.py"))),
    *(f"tasks.{path.parent.name}.columns" for path in sorted(ROOT.glob("tasks/*/columns.py"))),
)
HEAVY = {"torch", "sacrebleu", "scipy", "sklearn", "numpy"}
# All that reads data does without torch, and so does what answers, but for these.
WITH_TENSORS = {"data.arrays.collate", "data.blocks.shards"}
# Mathematics: no files, clocks, terminals or environment. Two may: one opens a model's folder, one has a time limit.
PURE = {"status", "vectors", "batch", "gradients", "models", "heads", "objective", "functions", "curvature", "optim"}
WORLD = {"os", "time", "pathlib", "io", "shutil", "subprocess", "socket", "tempfile", "datetime", "rich"}
# The only modules that import by a name they are given.
BY_NAME = {
    "thalweg.names",
    "thalweg.optim.construct",
    "thalweg.certificates.checker.check",
    "thalweg.certificates.checker.conflicts",
    "thalweg.certificates.checker.halfspaces",
    "thalweg.certificates.checker.rules",
}
FORBIDDEN = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle", "joblib"}


def name_of(path: Path) -> str:
    return "thalweg." + ".".join(path.relative_to(ROOT).with_suffix("").parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py"}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Every module, parsed; once these tests run, since every process of the suite imports this file."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def part_of(name: str) -> str:
    return name.split(".")[1]


def at_once(tree: ast.AST):
    """The nodes that run when a module is imported, those inside `try` and `if` as well; not those of functions."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not is_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_once(node)


def imported(tree: ast.Module, *, top_level_only: bool = False) -> set[str]:
    """Every module that is imported, names inside it included as if they were modules."""
    names = set()
    for node in at_once(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@functools.cache
def imports() -> dict[str, set[str]]:
    return {name: {other for other in imported(tree) if other in FILES} - {name} for name, tree in trees().items()}


@functools.cache
def chain(name: str) -> tuple[str, ...]:
    """The longest chain of imports that begins at a module."""
    return (name, *max((chain(other) for other in imports()[name]), key=len, default=()))


def test_imports_flow_one_way():
    for name, others in imports().items():
        here = part_of(name)
        assert here in LEVEL, f"{here!r} has no place in ORDER; put it there before using it."
        for other in others:
            there = part_of(other)
            assert there == here or LEVEL[there] < LEVEL[here], f"{name}: {here} may not import {there}."


def test_no_import_leads_back():
    for name in FILES:
        seen, queue = set(), list(imports()[name])
        while queue:
            other = queue.pop()
            assert other != name, f"{name} imports itself by way of another module."
            if other not in seen:
                seen.add(other)
                queue.extend(imports()[other])


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
    for name, tree in trees().items():
        assert not {other.split(".")[0] for other in imported(tree)} & FORBIDDEN, f"{name} uses a pickle."
        assert "torch.load" not in imported(tree), f"{name} imports torch.load."
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
                assert (call.func.value.id, call.func.attr) != ("torch", "load"), f"{name} calls torch.load."
            if isinstance(call.func, ast.Name):
                assert call.func.id not in {"eval", "exec"}, f"{name} calls {call.func.id}."
            for keyword in call.keywords:
                is_on = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                assert keyword.arg != "allow_pickle" or is_on, f"{name} allows pickles."


def test_modules_are_imported_from_where_they_are():
    """A name taken from `thalweg` or from a part's `__init__` would hide an import from every other test here."""
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "thalweg":
                for alias in node.names:
                    there = {node.module, f"{node.module}.{alias.name}"}
                    assert there & FILES.keys(), f"{name} imports {alias.name} from the package {node.module}."
            if isinstance(node, ast.Import):
                inside = [alias.name for alias in node.names if alias.name.split(".")[0] == "thalweg"]
                assert not inside, f"{name}: write `from ... import`, not `import {inside[0]}`."
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
                is_other = isinstance(node.args[0], ast.Constant) and not str(node.args[0].value).startswith("thalweg")
                assert is_other or name in BY_NAME, f"{name} imports by name; `thalweg.names` does that."


@functools.cache
def loads(name: str) -> frozenset[str]:
    """The packages of others that importing a module loads at once."""
    found = imported(trees()[name], top_level_only=True)
    own = {other for other in found if other in FILES and other != name}
    return frozenset(other.split(".")[0] for other in found).union(*map(loads, own)) - {"thalweg"}


def test_quick_modules_load_nothing_heavy():
    for name in FILES:
        place = name.removeprefix("thalweg.")
        if place.startswith(QUICK):
            assert not loads(name) & HEAVY, f"{name} loads {loads(name) & HEAVY}."


def test_reading_data_and_answering_load_no_torch():
    for name in FILES:
        place = name.removeprefix("thalweg.")
        if place.startswith(("data.", "cli.answers", "cli.inspection")) and place not in WITH_TENSORS:
            assert "torch" not in loads(name), f"{name} loads torch; import it inside of a function."


def test_only_one_module_of_the_command_line_writes_to_the_standard_streams():
    """What steers a terminal is shown as symbols there, so nothing may print around it."""
    for name, tree in trees().items():
        if part_of(name) == "cli" and name != "thalweg.cli.output":
            used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)}
            around = {"print", "Console", "sys.stdout", "sys.stderr", "sys.stdout.write", "sys.stderr.write"}
            assert not (used | {other.split(".")[-1] for other in imported(tree)}) & around, name


def test_mathematics_does_not_touch_the_world():
    for name, tree in trees().items():
        if part_of(name) in PURE and name not in {*BY_NAME, "thalweg.models.pretrained", "thalweg.optim.minimum"}:
            touched = {other.split(".")[0] for other in imported(tree)} & WORLD
            assert not touched, f"{name} imports {touched}."


def test_only_a_task_knows_its_name():
    for name, tree in trees().items():
        if not name.startswith("thalweg.tasks."):
            for node in ast.walk(tree):
                if isinstance(node, ast.Compare):
                    values = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
                    assert not values & (TASKS.keys() - {"score"}), f"{name}, line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("__init__.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_package_files_hold_a_docstring_and_lazy_names_only(path):
    """Imports through a package's `__init__` would make loops; names are those of the stub beside it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first = {"sys"} if path.parent == ROOT else set()  # its path is put right before anything is imported
    assert imported(tree) <= {"lazy_loader", *first}
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
