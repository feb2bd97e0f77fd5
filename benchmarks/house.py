"""The shape of the package in figures: how long, how deep, how wide, and how quick it is to import.

python benchmarks/house.py [--out house.json]
"""

import argparse
import ast
import functools
import resource
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from table import Row, write_json

from thalweg import names
from thalweg.training.recipe.options import OPTIONS

ROOT = Path(__file__).parents[1] / "src" / "thalweg"
CATALOGS = {"heads", "optim", "models"}  # one idea a file, as many as there are ideas
SPECS = {f"tasks/{task}/spec.py" for task in names.TASKS}
SMALLEST_TABLE = 3  # fewer names are an argument, not a table
SUMMARY = "JSON_KEYS"  # the keys of a run's summary, some of which are called like options
REPEATS = 7

PATHS = {
    "thalweg." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}


def imports_of(tree: ast.Module) -> set[str]:
    """Return the modules of the package that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & PATHS.keys()


IMPORTS = {name: imports_of(tree) - {name} for name, tree in TREES.items()}


def num_in_loops() -> int:
    """Return how many modules import themselves by way of others."""
    rest = dict(IMPORTS)
    while ready := [name for name, others in rest.items() if not others & rest.keys()]:
        for name in ready:
            del rest[name]
    return len(rest)


@functools.cache
def chain(name: str) -> tuple[str, ...]:
    """Return the longest chain of imports that begins at a module; there must be no loop."""
    return (name, *max((chain(other) for other in IMPORTS[name]), key=len, default=()))


def tables_by_option() -> dict[str, set[str]]:
    """Return, for each option, the tables that name it: the fields of a section, and constants with several options."""
    tables = defaultdict(set)
    for path in PATHS.values():
        place = path.relative_to(ROOT).as_posix()
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            found: list[object] = []
            if isinstance(statement, ast.ClassDef) and place.startswith("training/recipe/"):
                found = [node.target.id for node in statement.body
                         if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]  # fmt: skip
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and SUMMARY not in ast.unparse(statement):
                for node in ast.walk(statement):
                    entries = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
                    found += [entry.value for entry in entries if isinstance(entry, ast.Constant)]
            named = [name for name in found if name in OPTIONS]
            if place in SPECS or len(named) >= SMALLEST_TABLE:
                for name in named:
                    tables[str(name)].add("the tasks' specs" if place in SPECS else place)
    return tables


def length_of(node: ast.AST) -> int:
    """Return the lines of a function without its docstring."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return 0
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    doc = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - doc


def cpu_seconds(*arguments: str) -> float:
    """Return the median CPU time of a new Python."""
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def measure() -> list[Row]:
    """Return all figures with their targets."""
    lines = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in
             [*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")]}  # fmt: skip
    tables = tables_by_option()
    option = max(tables, key=lambda name: len(tables[name]))
    longest = max(map(chain, PATHS), key=len) if not num_in_loops() else ()
    folders = defaultdict(int)
    for path in PATHS.values():
        folders[path.relative_to(ROOT).parent.as_posix()] += 1
    folder = max(folders.keys() - CATALOGS, key=lambda name: folders[name])
    file = max(lines, key=lambda name: lines[name])
    functions = {(name, getattr(node, "name", "")): length_of(node) for name, tree in TREES.items() for node in
                 ast.walk(tree)}  # fmt: skip
    function = max(functions, key=lambda key: functions[key])

    tables_named, where = sorted(tables[option]), f"lines ({function[1]})"

    def row(what: str, value: float, unit: str, limit: float, **details: object) -> Row:
        return Row("house", what, value, unit, f"<= {limit:g}", value <= limit, details)

    idle = cpu_seconds("-c", "pass")
    quick: Callable[[str], float] = lambda code: cpu_seconds("-c", code) - idle  # noqa: E731
    return [
        row("lines of the package (.py and .pyi)", sum(lines.values()), "lines", 39_000),
        row("tables that name one option, at most", len(tables[option]), f"({option})", 2, tables=tables_named),
        row("longest chain of imports", len(longest), "modules", 15, chain=longest),
        row("modules in an import loop", num_in_loops(), "modules", 0),
        row("files of the largest folder", folders[folder], f"({folder})", 15),
        row("longest file", lines[file], f"lines ({Path(file).name})", 450, file=file),
        row("longest function, without its docstring", functions[function], where, 65, function=function),
        row("import thalweg, CPU", quick("import thalweg"), "s", 0.05),
        row("thalweg --help, CPU", cpu_seconds("-m", "thalweg", "--help"), "s", 0.30),
        row("thalweg train --help, CPU", cpu_seconds("-m", "thalweg", "train", "--help"), "s", 0.40),
    ]  # fmt: skip


def main() -> int:
    """Measure, print, write; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "house.json")
    arguments = parser.parse_args()
    rows = measure()
    print(*(row.line() for row in rows), sep="\n")
    write_json(arguments.out, rows)
    return int(not all(row.met for row in rows))


if __name__ == "__main__":
    sys.exit(main())
