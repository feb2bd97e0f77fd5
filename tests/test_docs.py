"""Every docstring's example runs, pages name only what exists and is public, and the tree of files is up to date."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import public_names
import pytest

import thalweg

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(path for path in (ROOT / "src" / "thalweg").rglob("*.py") if path.name != "__init__.py")


def module_name(path):
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)


# One case for each part: a folder of the package, or a module beside them.
PARTS = sorted({path.relative_to(ROOT / "src" / "thalweg").parts[0] for path in SOURCES})


@pytest.mark.parametrize("part", PARTS)
def test_docstring_examples_run(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = {"getfixture": {"tmp_path": tmp_path}.__getitem__}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed = {}
    for path in SOURCES:
        if path.relative_to(ROOT / "src" / "thalweg").parts[0] == part:
            module = importlib.import_module(module_name(path))
            result = doctest.testmod(module, extraglobs=extra, optionflags=flags)
            if result.failed:
                failed[path.name] = f"{result.failed} of {result.attempted}"
    assert not failed, f"examples failed (see above): {failed}"


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "examples").glob("*.py"))], ids=lambda path: path.name)
def test_samples_import_public_names_only(path):
    """`thalweg` and its parts are public; what lies deeper may move without notice."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^\s*(?:from|import) (thalweg(?:\.\w+)+)", text, re.M)
    deep = sorted(name for name in found if name.count(".") > 1)
    assert not deep, f"{path.name} imports {deep}; export what readers need from its part."


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_a_page_mentions_exist(page):
    for name in set(re.findall(r"`(thalweg(?:\.\w+)+)`", page.read_text(encoding="utf-8"))):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:cut]))
            except ImportError:
                continue
            for attribute in parts[cut:]:
                assert hasattr(found, attribute), f"{page.name} mentions {name}, and there is no {attribute}."
                found = getattr(found, attribute)
            break


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there."


@pytest.mark.parametrize("name", thalweg.__all__)
def test_public_names_are_documented(name):
    text = getattr(thalweg, name).__doc__
    assert text, name
    assert len(text.split()) >= 5, f"{name}'s docstring is too short to help."


def test_the_tree_of_files_is_up_to_date():
    script = ROOT / ".ci" / "tree.py"
    found = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "part", ["", *sorted(path.parent.name for path in (ROOT / "src" / "thalweg").glob("*/__init__.pyi"))]
)
def test_the_users_file_uses_every_public_name(part):
    """`public_names.py` is what pyright checks as a user's file, so every name of every stub stands in it."""
    tree = ast.parse((ROOT / "tests" / "public_names.py").read_text(encoding="utf-8"))
    attributes = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    used = {
        node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == (part or "thalweg")
    }
    public = importlib.import_module(f"thalweg.{part}" if part else "thalweg").__all__
    assert not set(public) - used, "use these names in tests/public_names.py"


@pytest.mark.slow
def test_the_users_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public_names.main(tmp_path)
    assert (tmp_path / "report.html").is_file()
