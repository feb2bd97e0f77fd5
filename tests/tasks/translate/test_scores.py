"""Figures of translations: equal to sacreBLEU's on any texts, drawn again, by hand, with their signatures and notes."""

import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from thalweg import names
from thalweg.errors import InputError
from thalweg.tasks.translate import scores
from thalweg.tasks.translate.scores import NAMES, QUICK, has_runs_of_four, notes, require_tokenizer, score

MANY = [f"the cat number {n} sat on the mat, did it not? ({n % 7})" for n in range(40)]
NEAR = [text.replace("cat", "dog").replace("mat", "rug") if i % 3 else text for i, text in enumerate(MANY)]
CASES = {
    "perfect": (MANY, [MANY]),
    "near": (NEAR, [MANY]),
    "half of them empty": ([text if i % 2 else "" for i, text in enumerate(MANY)], [MANY]),
    "all empty": ([""] * 5, [MANY[:5]]),
    "empty references": (MANY[:3], [["", "", ""]]),
    "both empty": (["", ""], [["", ""]]),
    "nothing shared": (["xyzzy qqq"] * 4, [["eins zwei", "drei", "vier fünf sechs sieben", "acht"]]),
    "single words": (["eins", "zwei"], [["eins", "drei"]]),
    "one of them": (["the cat sat on a mat"], [["the cat sat on the mat"]]),
    "the same again and again": (["the the the the the the"] * 6, [MANY[:6]]),
    "two references": (NEAR, [MANY, [text.upper() for text in NEAR]]),
    "three references": (NEAR[:9], [MANY[:9], MANY[1:10], NEAR[:9]]),
    "odd characters": (
        ["Grüße, 世界! 🦊", "שלום עולם", "a\u2028b c d", "&quot;x&amp;y&quot;"],
        [["Grüße, 世界!", "שלום", "a b c d", '"x&y"']],
    ),
    "spaces": (["  a  b  c  d  ", " . . . ."], [["a b c d", ". . . ."]]),
}  # fmt: skip
METRICS = {"bleu": BLEU, "chrf": CHRF, "chrf_plus_plus": lambda: CHRF(word_order=2), "ter": TER}


@pytest.mark.parametrize("case", CASES)
def test_figures_and_signatures_are_those_of_sacrebleu(case):
    translations, references = CASES[case]
    found = score(translations, references)
    assert list(found.values) == [*NAMES, "exact_match"]
    for name, make in METRICS.items():
        metric = make()
        expected = metric.corpus_score(translations, references)
        assert found.values[name] == expected.score  # exactly: it is the same arithmetic
        assert found.signatures[name] == f"{expected.name}|{metric.get_signature()}"
    right = [text in wanted for text, *wanted in zip(translations, *references, strict=True)]
    assert found.values["exact_match"] == pytest.approx(sum(right) / len(right))
    assert found.samples.values == pytest.approx(found.values, rel=1e-12)
    for name, (low, high) in found.samples.intervals(draws=200).items():
        assert low <= found.values[name] <= high


def test_half_of_the_translations_emptied_is_not_perfect():
    texts, references = CASES["half of them empty"]
    assert score(texts, references, metrics=("chrf",)).values["chrf"] == pytest.approx(55.5, abs=4.0)


def test_drawn_figures_are_those_of_the_drawn_texts():
    translations, references = CASES["two references"]
    rows = np.random.default_rng(0).integers(0, len(translations), len(translations))
    weights = np.bincount(rows, minlength=len(translations))[None].astype(float)
    drawn = {name: float(one[0]) for name, one in score(translations, references).samples.figures(weights).items()}
    again = [[texts[row] for row in rows] for texts in (translations, *references)]
    assert drawn == pytest.approx(score(again[0], again[1:]).values, rel=1e-12)


def test_ter_is_left_out_where_it_takes_too_long(monkeypatch):
    monkeypatch.setattr(scores, "TER_SECONDS", -1.0)
    monkeypatch.setattr(scores, "TER_SECONDS_EACH", -1.0)
    found = score(NEAR, [MANY])
    assert list(found.values) == ["bleu", "chrf", "chrf_plus_plus", "exact_match"]
    assert found.values["bleu"] == BLEU().corpus_score(NEAR, [MANY]).score
    assert found.samples.values.keys() == found.values.keys()
    assert found.signatures.keys() == {"bleu", "chrf", "chrf_plus_plus"}
    assert found.notes == ("TER is left out: it takes too long on these texts.",)
    assert score(NEAR[:1], [MANY[:1]], metrics=QUICK).notes == ()


def test_bleu_by_hand():
    written = ["the cat sat on the mat", "it was a fine day", "no"]
    wanted = ["the cat sat on the mat", "it is a fine day", "yes"]
    # Fractions of the runs of one to four words that are in the reference; both sides have the same length.
    by_hand = 100 * math.exp(np.mean(np.log([10 / 12, 7 / 9, 5 / 7, 3 / 5])))
    assert score(written, [wanted], metrics=QUICK).values["bleu"] == pytest.approx(by_hand, rel=1e-12)


def test_chrf_of_single_translations():
    translations, references = CASES["three references"]
    expected = [
        CHRF().corpus_score([text], [[one[i]] for one in references]).score for i, text in enumerate(translations)
    ]
    assert scores.sentence_chrf(translations, references) == pytest.approx(expected)


@pytest.mark.parametrize("tokenizer", ["13a", "intl", "zh", "char", "none"])
def test_the_tokenizer_is_the_one_that_was_asked_for(tokenizer):
    translations, references = ["我喜欢这只猫。", "l'œuvre (n° 1)"], [["我喜欢那只猫。", "l'œuvre n° 1"]]
    require_tokenizer(tokenizer)
    found = score(translations, references, tokenizer=tokenizer, metrics=("bleu",))
    assert found.values["bleu"] == BLEU(tokenize=tokenizer).corpus_score(translations, references).score
    assert f"|tok:{tokenizer}|" in found.signatures["bleu"]


def test_every_tokenizer_is_one_of_sacrebleu():
    assert {*names.BLEU_TOKENIZERS, "spm"} == set(BLEU.TOKENIZERS)
    assert scores._subword_models().keys() >= {"flores101", "flores200", "spBLEU-1K"}


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("flores200", "--bleu-tokenizer flores200 needs a package that is not installed: pip install sentencepiece"),
        ("ja-mecab", r"--bleu-tokenizer ja-mecab needs packages .* pip install 'sacrebleu\[ja\]'"),
        ("ko-mecab", r"--bleu-tokenizer ko-mecab needs packages .* pip install 'sacrebleu\[ko\]'"),
    ],
)
def test_a_tokenizer_whose_package_is_missing_is_refused(tokenizer, message, monkeypatch):
    for module in ("ja_mecab", "ko_mecab"):  # whether they are installed here or not
        monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{module}.MeCab", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        require_tokenizer(tokenizer)


def test_a_tokenizer_whose_file_is_missing_is_not_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"needs the file .*flores200sacrebleuspm, which is not there; .*download"):
        require_tokenizer("flores200")


@pytest.mark.parametrize(
    ("references", "tokenizer", "said"),
    [
        ([["ein ganz normaler Satz mit Wörtern"]], "13a", ""),
        ([["eins", "zwei drei"]], "13a", "No reference has four words"),
        ([["eins, zwei!"]], "13a", ""),  # with punctuation there are four
        ([["我喜欢这只猫。它很可爱。"]], "13a", "does not split Chinese texts into words.* --bleu-tokenizer zh"),
        ([["私はこの猫が好きです。"]], "intl", "does not split Japanese texts .* --bleu-tokenizer ja-mecab"),
        ([["我喜欢这只猫。它很可爱。"]], "zh", ""),
        ([["one sentence with one 猫 in it"]], "13a", ""),
        ([["zwei"], ["und noch eine andere"]], "13a", ""),
    ],
)  # fmt: skip
def test_what_has_to_be_known_of_bleu_is_said(references, tokenizer, said):
    found = notes(references, tokenizer)
    assert bool(found) == bool(said)
    if said:
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(found[0])
    assert has_runs_of_four([["a b c d"]])
