"""Every sample in README and docs runs, every docstring's example runs, and what they name exists."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(path for path in (ROOT / "src" / "thalweg").rglob("*.py") if path.name != "__init__.py")


def module_name(path):
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)


def samples(page):
    """The Python blocks of a page; one marked `<!-- not run -->` on the line before is left out."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"(<!-- not run -->\s*)?^```python\n(.*?)^```", text, re.S | re.M)
    return [match[2] for match in found if not match[1]]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if samples(page)], ids=lambda page: page.name)
def test_python_samples_run(page, tmp_path, monkeypatch):
    """The blocks of one page run one after the other in one empty folder, sharing their names."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for sample in samples(page):
        exec(compile(sample, f"{page.name} sample", "exec"), names)
    assert names


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_docstring_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(module_name(path))
    extra = {"getfixture": {"tmp_path": tmp_path}.__getitem__}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, extraglobs=extra, optionflags=flags)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {path.name} failed (see above)"


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
