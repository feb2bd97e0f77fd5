"""Write the tree of the package, one line a module, into docs/architecture.md; `--check` only compares."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "thalweg"
PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- tree -->\n```\n", "```\n<!-- end of tree -->"


def tree() -> str:
    """Return every folder and module with the first line of its docstring."""
    lines = ["src/thalweg/"]
    add(PACKAGE, 1, lines)
    return "\n".join(lines) + "\n"


def add(folder: Path, depth: int, lines: list[str]) -> None:
    """Append a folder's modules, then its folders."""
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            lines.append(row(path.name, summary(path), depth))
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"):
        lines.append(row(f"{inner.name}/", summary(inner / "__init__.py"), depth))
        add(inner, depth + 1, lines)


def row(name: str, text: str, depth: int) -> str:
    """Return a line of the tree."""
    return f"{'  ' * depth + name:<34} {text}".rstrip()


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else ""
    return (found or "").split("\n")[0].rstrip(".")


def main(arguments: list[str]) -> int:
    """Write or compare; return the exit code."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    after = rest.partition(END)[2]
    text = before + START + tree() + END + after
    if "--check" in arguments:
        if text != PAGE.read_text(encoding="utf-8"):
            print("docs/architecture.md is not up to date; run `python .ci/tree.py`.")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
