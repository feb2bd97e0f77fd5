"""What strangers write into texts, labels and names of columns and files stays text on every page about them."""

import csv
from html.parser import HTMLParser

import pytest

from thalweg import train
from thalweg.cli.main import run

HOSTILE = [
    "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- <script>", "]]><svg onload=alert(1)>",
    "<a href=javascript:alert(1)>", "{{7*7}} ${7*7}", "<iframe src=//example.com>", "\u2028<base href=//example.com>",
    "<link rel=stylesheet href=http://example.com>", "&lt;script&gt;alert(1)&lt;/script&gt;",
    "'\" onmouseover=alert(1) '",
]  # fmt: skip
TEXT, LABEL, FILE = (
    "text</script><script>alert(1)",
    '"><img src=x onerror=alert(1)>',
    "<img src=x onerror=alert(1)>.csv",
)
LOADED = ("src", "href", "xlink:href", "action", "srcset", "data", "formaction")
PAGES = {
    "report": lambda path, _: [],
    "evaluation": lambda path, folder: [["evaluate", folder, path, "--report", folder / "evaluation.html"]],
    "certificate": lambda _, folder: [["certify", folder, "--seconds", "1", "--quiet"]],
    "diagnosis": lambda _, folder: [["diagnose", folder, "--seconds", "1", "--quiet"]],
    "comparison": lambda path, folder: [[
        "compare", path, "--optimizers", "sgd,adamw", "--model", "linear", "--steps", "2", "--trials", "0", "--seeds",
        "1", "--text-column", TEXT, "--label-column", LABEL, "--out", folder / "compared", "--quiet",
    ]],
}  # fmt: skip


class Parts(HTMLParser):
    """Everything of a page that a browser would run or load."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.found = 0, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        if tag in ("img", "iframe", "link", "base", "object", "embed", "form", "a"):
            self.found.append((tag, attrs))
        for name, value in attrs:
            if name.startswith("on") or (name in LOADED and not (value or "").startswith(("#", "data:"))):
                self.found.append((tag, name, value))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / FILE
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = ([f"{HOSTILE[k % len(HOSTILE)]} {k}", f"{HOSTILE[k % 2]}{k % 2}"] for k in range(60))
        csv.writer(file).writerows([[TEXT, LABEL], *rows])
    options = {"model": "mlp", "width": 4, "hidden": 4, "steps": 2, "optimizer": "adamw"}
    return path, train(path, out=path.parent, text_column=TEXT, label_column=LABEL, **options).folder


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_and_loads_nothing_but_its_own(trained, capsys, page):
    path, folder = trained
    before = {one: one.read_bytes() for one in path.parent.rglob("*.html")} if PAGES[page](path, folder) else {}
    for arguments in PAGES[page](path, folder):
        with pytest.raises(SystemExit) as ended:
            run(list(map(str, arguments)))
        assert ended.value.code == 0, capsys.readouterr().err
    changed = [one for one in path.parent.rglob("*.html") if one.read_bytes() != before.get(one)]
    assert changed
    for one in changed:
        content = one.read_text(encoding="utf-8")
        parts = Parts(content)
        assert (parts.scripts, parts.found) == (3, [])
        assert "<!--" not in content
        assert "@import" not in content
