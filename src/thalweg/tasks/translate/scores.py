"""BLEU, chrF, chrF++ and TER of translations as sacreBLEU computes them, with its signatures, and intervals of them."""

import importlib.util
import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import numpy as np

from thalweg.certificates.new_texts.resampling import Samples, of_sums
from thalweg.errors import InputError

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU
    from sacrebleu.metrics.base import Metric

NAMES: Final[Mapping[str, str]] = {"bleu": "BLEU", "chrf": "chrF", "chrf_plus_plus": "chrF++", "ter": "TER"}
"""The metrics by their keys, as people write them."""
EXPLANATIONS: Final[dict[str, tuple[str, str]]] = {
    "loss": ("lower", "Nats per token of the true translation, label smoothing included."),
    "token_accuracy": ("higher", "Token accuracy (teacher forcing)."),
    "perplexity": ("lower", "exp(loss), without label smoothing."),
    "bleu": ("higher", "BLEU from 0 to 100: n-grams of up to four words shared with the references."),
    "chrf": ("higher", "chrF from 0 to 100: n-grams of up to six characters shared with the reference."),
    "chrf_plus_plus": ("higher", "chrF++ from 0 to 100: chrF with n-grams of up to two words as well."),
    "ter": ("lower", "TER: edits (moves of phrases, too) to the reference per 100 of its words."),
    "exact_match": ("higher", "Fraction of translations that match the reference exactly."),
}
"""The metrics of a translator: which end is better, and what each is."""
QUICK: Final = ("bleu", "chrf")  # those that take little time
MIN_WORDS: Final = 4  # BLEU counts runs of up to so many
MIN_UNSPACED: Final = 0.2  # of the characters; above it a text is taken to be written without spaces
TER_SECONDS: Final = 30.0
TER_SECONDS_EACH: Final = 0.005  # for a translation, if that is more; usual ones take a tenth of it
MAX_READ: Final = 200  # references that are looked at for that

_EXTRAS: Final = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}  # what some tokenizers need
_IDEOGRAPHS: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA: Final = re.compile("[\u3040-\u30ff]")


@final
@dataclass(frozen=True, eq=False)
class Scores:
    """What translations score.

    Args:
        values: by the keys of `NAMES`, from 0 to 100 (TER from 0, without an upper end); and "exact_match", in [0, 1].
        samples: what each translation adds to them, by which they can be drawn again.
        signatures: how each was computed, as sacreBLEU prints it ("BLEU|nrefs:1|case:mixed|...").
        notes: what was left out, in sentences.
    """

    values: dict[str, float]
    samples: Samples
    signatures: dict[str, str]
    notes: tuple[str, ...] = ()


def score(
    translations: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: str = "13a",
    metrics: Iterable[str] = tuple(NAMES),
) -> Scores:
    """Return the figures of sacreBLEU's `corpus_score`, and the fraction of translations that are a reference.

    The figures are sacreBLEU's own, in odd cases too: where no translation and no reference has four words, BLEU is 0.
    TER is left out where it takes too long: texts of the same few words again and again take seconds each.

    Args:
        translations: at least one.
        references: one list or several, each with a reference for each translation.
        tokenizer: of BLEU, one of `thalweg.names.BLEU_TOKENIZERS`.
        metrics: which of `NAMES`.

    Source: Papineni et al. (2002), BLEU; Post (2018), A Call for Clarity in Reporting BLEU Scores; Popovic (2015),
    chrF; Popovic (2017), chrF++; Snover et al. (2006), A Study of Translation Edit Rate.
    """
    measures = {name: _metric(name, tokenizer) for name in metrics}
    rows = {name: _rows(name, one, translations, references) for name, one in measures.items()}
    told = tuple(f"{NAMES[name]} is left out: it takes too long on these texts." for name in rows if not rows[name])
    rows = {name: part for name, part in rows.items() if part}
    measures = {name: measures[name] for name in rows}
    found = {name: one._aggregate_and_compute(rows[name]) for name, one in measures.items()}
    exact = np.array([text in wanted for text, *wanted in zip(translations, *references, strict=True)], dtype=float)
    edges = np.cumsum([len(part[0]) for part in rows.values()])

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        parts = zip(measures.items(), np.split(sums, edges, axis=1)[:-1], strict=True)
        drawn = {name: _scores(one, part) for (name, one), part in parts}
        return drawn | {"exact_match": sums[:, -2] / sums[:, -1]}

    sums = np.column_stack([*(np.array(part, dtype=float) for part in rows.values()), exact, np.ones(len(exact))])
    samples = of_sums(sums, figures, unit="texts", shares={"exact_match": (int(exact.sum()), len(exact))})
    values = {name: float(one.score) for name, one in found.items()} | {"exact_match": float(exact.mean())}
    signatures = {name: f"{found[name].name}|{one.get_signature()}" for name, one in measures.items()}
    return Scores(values, samples, signatures, told)


def _rows(
    name: str, metric: "Metric", translations: Sequence[str], references: Sequence[Sequence[str]]
) -> list[list[float]]:
    """Return what `corpus_score` itself adds up and computes from, a row a translation; none where TER takes too long.

    Its rows are found one by one, by a search that is quick on most texts and takes seconds on others.
    """
    if name != "ter":
        return metric._extract_corpus_statistics(translations, references)
    end = time.perf_counter() + max(TER_SECONDS, TER_SECONDS_EACH * len(translations))
    rows: list[list[float]] = []
    for text, *wanted in zip(translations, *references, strict=True):
        if time.perf_counter() > end:
            return []
        rows += metric._extract_corpus_statistics([text], [[one] for one in wanted])
    return rows


def _metric(name: str, tokenizer: str) -> "Metric":
    from sacrebleu.metrics import BLEU, CHRF, TER

    makers: dict[str, Callable[[], Metric]] = {
        "bleu": lambda: BLEU(tokenize=tokenizer, force=True),  # no advice about texts that end in " ."
        "chrf": CHRF,
        "chrf_plus_plus": lambda: CHRF(word_order=2),
        "ter": TER,
    }
    return makers[name]()


def _scores(metric: "Metric", sums: np.ndarray) -> np.ndarray:
    """Return the metric of each row of sums."""
    return np.array([metric._compute_score_from_stats(row).score for row in sums.tolist()])


def sentence_chrf(translations: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Return sacreBLEU's chrF of each translation by itself, from 0 to 100, `[translations]`."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    each = zip(translations, zip(*references, strict=True), strict=True)
    return np.array([metric.sentence_score(text, wanted).score for text, wanted in each])


def has_runs_of_four(references: Iterable[Sequence[str]], tokenizer: str = "13a") -> bool:
    """Whether any reference has four words, as BLEU counts them; without one, BLEU says nothing."""
    split: BLEU = _metric("bleu", tokenizer)  # type: ignore[assignment]
    return any(len(split.tokenizer(text).split()) >= MIN_WORDS for text in itertools.chain.from_iterable(references))


def require_tokenizer(name: str) -> None:
    """Raise an InputError where a tokenizer of BLEU needs a package or a file that is not here."""
    flag = f"--bleu-tokenizer {name}"
    if name in _subword_models():
        if importlib.util.find_spec("sentencepiece") is None:
            raise InputError(f"{flag} needs a package that is not installed: pip install sentencepiece.")
        place = _subword_models()[name]
        if not place.is_file() or not place.stat().st_size:
            raise InputError(
                f"{flag} needs the file {place}, which is not there; sacreBLEU downloads it: "
                f"python -c \"from sacrebleu.metrics import BLEU; BLEU(tokenize='{name}')\""
            )
    try:
        _metric("bleu", name)
    except (ImportError, RuntimeError, OSError, AssertionError) as error:  # whatever is missing, or another version
        what = f"pip install '{_EXTRAS[name]}'" if name in _EXTRAS else str(error).strip()
        raise InputError(f"{flag} needs packages that are not installed, or others than there are: {what}.") from None


def _subword_models() -> dict[str, Path]:
    """Return where sacreBLEU has the files of the tokenizers that split words by a model."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    return {name: Path(SACREBLEU_DIR) / "models" / Path(one["url"]).name for name, one in SPM_MODELS.items()}


def notes(references: Sequence[Sequence[str]], tokenizer: str) -> list[str]:
    """Return what has to be known of BLEU on such references, in sentences; mostly nothing."""
    found = []
    unsplit = _unsplit(itertools.islice(itertools.chain.from_iterable(references), MAX_READ))
    if unsplit and tokenizer in ("13a", "intl", "none"):
        language, better = unsplit
        found.append(
            f"--bleu-tokenizer {tokenizer} does not split {language} texts into words, so BLEU takes whole phrases for "
            f"words; give --bleu-tokenizer {better} (thalweg evaluate takes it, too)."
        )
    elif not has_runs_of_four(references, tokenizer):
        found.append("No reference has four words, so BLEU, which counts runs of four, says nothing; chrF does.")
    return found


def _unsplit(texts: Iterable[str]) -> tuple[str, str] | None:
    """Return the language of texts that have no spaces between words, and a tokenizer for it."""
    text = "".join("".join(texts).split())
    kana, ideographs = len(_KANA.findall(text)), len(_IDEOGRAPHS.findall(text))
    if kana + ideographs < MIN_UNSPACED * max(1, len(text)):
        return None
    return ("Japanese", "ja-mecab (or char)") if kana > 0.1 * ideographs else ("Chinese", "zh")
