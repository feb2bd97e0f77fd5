"""The docs as a site: `mkdocs.yml` names every page once and in the order of the index, and no link leaves the site."""

import re
from pathlib import Path

import public_names
import pytest
import yaml

import thalweg

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def named(entry):
    """The pages of a part of the navigation, in its order."""
    if isinstance(entry, str):
        return [entry]
    return [page for inner in (entry.values() if isinstance(entry, dict) else entry) for page in named(inner)]


@pytest.fixture(scope="module")
def navigation():
    return named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])


def test_every_page_is_named_once(navigation):
    assert sorted(navigation) == PAGES


@pytest.mark.parametrize("folder", ["", "findings/"])
def test_pages_stand_in_the_order_of_their_index(navigation, folder):
    rows = re.findall(r"^\|.*?\]\(([\w-]+\.md)\)", (DOCS / folder / "index.md").read_text(encoding="utf-8"), re.M)
    pages = [page for page in navigation if page.rpartition("/")[0] == folder.rstrip("/")]
    assert pages == [f"{folder}{name}" for name in ["index.md", *rows]]


@pytest.mark.parametrize("page", PAGES)
def test_links_stay_in_the_site(page):
    """What is beside docs/ is not on the site: its path stands in the text."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in link]
    targets = [((DOCS / page).parent / link).resolve() for link in links if link]
    lost = [str(target) for target in targets if not (target.is_file() and target.is_relative_to(DOCS))]
    assert not lost


def test_the_api_page_has_every_public_name():
    names = re.findall(r"^::: thalweg\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    parts = {part.__name__.rpartition(".")[2] for part in vars(public_names).values() if hasattr(part, "__path__")}
    assert sorted(names) == sorted(set(thalweg.__all__) - parts - {"__version__"})  # which has no docstring
