import json
import math
import random
import re

import pytest
from browser import HOSTILE, LOUD
from comparison_cases import made

from thalweg.report.comparison.entries import amount, budget_of, looks, memory, score_of
from thalweg.report.comparison.page import render
from thalweg.report.comparison.profiles import profiles_panel


def words_of(page):
    """The text of a page's body, without the scripts and the tags."""
    body = page[page.index("<main>") : page.index("</main>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def figures_of(page):
    return json.loads(page.split('id="figures">')[1].split("</script>")[0])["figures"]


def test_the_page_says_what_was_compared_and_what_it_comes_to():
    comparison = made()
    words = words_of(render(comparison))
    assert "adamw, soap, lbfgs, sgd:momentum=0.9 on reviews.csv" in words
    assert comparison["sentence"] in words.replace("&#39;", "'")
    assert "each first tuned in 8 trials of 60 s; then compared over 3 runs of 60 s from other starts." in words
    assert "All tuning together 1,160 s" in words
    assert len(figures_of(render(comparison))) == 4


def test_several_data_sets_have_profiles_and_a_section_each():
    page = render(made(sets=("a.csv", "b.csv"), failed_set="broken.csv", failed_entrant="lbfgs"))
    assert re.findall(r'<h2 id="data-\d" dir="auto">(.*?)</h2>', page) == ["a.csv", "b.csv", "broken.csv"]
    words = words_of(page)
    assert "broken.csv failed, and is left out of everything else: column" in words
    assert "a.csv: lbfgs failed: needs a gradient that this head has not." in words
    assert "Over all data sets" in words
    assert len(figures_of(page)) == 9


def test_profiles_are_steps_that_end_at_what_was_solved():
    comparison = {
        "data": [{"name": "a"}, {"name": "b"}, {"name": "c", "failed": "x"}],
        "rows": [{"name": "x"}, {"name": "y"}],
        "profiles": {
            "entrants": ["x", "y"],
            "ratios": [1.0, 3.0],
            "shares": {"x": [0.5, 1.0], "y": [0.5, 0.5], "z": [1.0]},
        },
    }
    (panel,) = profiles_panel(comparison, looks(comparison))
    first, second = panel.figure.data
    assert (list(first.x), list(first.y)) == ([1.0, 3.0, 3.9000000000000004], [0.5, 1.0, 1.0])
    assert list(second.y) == [0.5, 0.5, 0.5]
    assert first.line.shape == "hv"
    assert "Lines over 2 data sets tell little about others." in panel.text
    for nothing in (None, {}, {"ratios": [], "shares": {}}, {"ratios": [1.0], "shares": {}}):
        assert profiles_panel({**comparison, "profiles": nothing}, looks(comparison)) == []


def test_a_comparison_of_nothing_is_a_page():
    assert "Nothing has run." in words_of(
        render({"version": 1, "data": [], "profiles": None, "rows": [], "sentence": "Nothing has run."})
    )
    assert "Comparison" in words_of(render({}))


def test_names_stay_text_wherever_they_come():
    comparison = made(names=HOSTILE, sets=("<b>d</b>", LOUD), failed_set=LOUD)
    for data in comparison["data"]:
        data["notes"] = [LOUD]
        data |= {"target_from": LOUD, "evaluation": LOUD, "task": LOUD, "metric": LOUD, "settings": {LOUD: LOUD}}
    page = render(comparison)
    assert len(re.findall("<script", page)) == 3
    body = page[page.index("<main>") : page.index("</main>")]
    assert not re.search(r"<(script|img|iframe|svg|b>|sup|br)", body)
    drawn = json.dumps(figures_of(page)).replace("<extra>", "").replace("</extra>", "").replace("<br>", "")
    assert "<" not in drawn


def test_two_entrants_of_one_label_are_called_by_their_names():
    comparison = made(names=("adamw", "adamw:lr=1"))
    for entrant in comparison["data"][0]["entrants"]:
        entrant["label"] = "adamw"
    assert [look.label for look in looks(comparison).values()] == ["adamw", "adamw:lr=1"]
    comparison["data"][0]["entrants"][1]["label"] = "tuned AdamW"
    assert [look.label for look in looks(comparison).values()] == ["adamw", "tuned AdamW"]


def test_eight_colors_are_used_again_with_another_dash():
    found = list(looks({"rows": [{"name": str(i)} for i in range(20)]}).values())
    assert len({(look.color, look.dash) for look in found}) == 20


CASES = {
    "validation loss": ({}, "validation loss"),
    "training loss": ({"scored_on": "train", "scored_by": "loss"}, "training loss"),
    "of heads": ({"vary": "head", "metric": "macro_f1"}, "validation macro f1"),
    "as said": ({"vary": "head", "metric": "rmse", "scored_by": "loss"}, "validation loss"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_entrants_are_scored_by(case):
    data, name = case
    assert score_of(data).name == name


def test_amounts_and_budgets_are_written_for_people():
    found = [amount(value, "s") for value in (None, 60.0, 0.0123456, 1234.5, 18.24)]
    assert found == ["–", "60 s", "0.0123 s", "1,230 s", "18.2 s"]
    assert [memory(size) for size in (None, 976, 20_508_924, 3.2e9)] == ["–", "0.976 kB", "20.5 MB", "3.2 GB"]
    assert [budget_of({"budget": budget}) for budget in ({"steps": 1}, {"seconds": 2.5}, {}, None)] == [
        "1 step",
        "2.5 s",
        "",
        "",
    ]


def spoiled(value, choose, depth=0):
    """The comparison with some of its values replaced by what may stand there when something went wrong."""
    if depth > 1 and choose(40) == 0:
        return (None, math.nan, math.inf, -1.0, "", "text", [], {})[choose(8)]
    if isinstance(value, dict):
        return {key: spoiled(entry, choose, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [spoiled(entry, choose, depth + 1) for entry in value]
    return value


def test_no_value_breaks_the_page():
    comparison = made(sets=("a", "b"), num_seeds=2, num_trials=3)
    for data in comparison["data"]:
        for seed in (seed for entrant in data["entrants"] for seed in entrant["seeds"]):
            seed["curve"] = {key: values[::6] for key, values in seed["curve"].items()}
    for number in range(10):
        page = render(spoiled(comparison, random.Random(number).randrange))
        assert "Infinity" not in page.split('id="figures">')[-1].split("</script>")[0]
        assert "</html>" in page


def test_the_page_is_no_slower_to_open_for_many_runs():
    page = render(made(names=[f"entrant {i}" for i in range(12)], num_seeds=20, num_trials=20))
    assert len(page.split('id="figures">')[1].split("</script>")[0]) < 1_200_000
