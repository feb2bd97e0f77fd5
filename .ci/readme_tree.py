"""Rewrite the file tree in README.md from the first sentence of each module; with --check, only say whether it fits."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, END = "<!-- tree -->", "<!-- end of tree -->"
OTHERS = {
    "tests/": "the same tree; test_architecture.py holds the direction of imports, test_docs.py runs every sample",
    "benchmarks/": "what the figures come from; each prints a table and writes JSON",
    "docs/": "pages for readers; architecture.md is the plan as built, log.md what was tried and did not help",
    "examples/": "short scripts that the tests run",
    ".ci/": "what must pass before a change lands",
}


def first_sentence(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.split("\n\n")[0].replace("\n", " ").rstrip(".")


def tree() -> str:
    """Return the tree as text."""
    package = ROOT / "src" / "thalweg"
    lines = ["src/thalweg/"]
    folders = sorted(path for path in package.rglob("*") if path.is_dir() and path.name != "__pycache__")
    for folder in [package, *folders]:
        depth = len(folder.relative_to(package).parts)
        files = sorted(path for path in folder.iterdir() if path.suffix in {".py", ".html", ".css", ".js"})
        files = [path for path in files if path.stat().st_size]
        if depth and files:
            lines.append("  " * depth + folder.name + "/")
        for path in files:
            name = "  " * (depth + 1) + path.name
            text = first_sentence(path) if path.suffix == ".py" else "part of the report's page"
            lines.append(f"{name:<32} {text}")
    lines += [f"{name:<32} {text}" for name, text in OTHERS.items()]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the tree, or check it."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    new = f"{before}{START}\n```\n{tree()}\n```\n{END}{after}"
    if "--check" in sys.argv:
        raise SystemExit(0 if new == text else "README's file tree is not up to date; run python .ci/readme_tree.py")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
