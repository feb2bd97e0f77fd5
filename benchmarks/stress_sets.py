"""Sets made of public data that are hard in one way each: rare labels, noisy labels, long texts, a million rows.

Training parts are cut down or changed; test parts keep all examples that they have of a rare label, so that its
recall and F1 can be measured. Everything is decided by fixed seeds, hashes or places.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from public_sets import DATA, Parts, PublicSet, clinc150, lines_of, open_text, write_csv

SEED = 20
RARE_INTENT = "translate"
WORDS = 250  # of a text of the books
SECTION = 60_000  # words of a section of a book
TOPICS = (
    *("story", "characters", "comedy", "plot", "director", "action", "script"),
    *("performances", "drama", "documentary", "romantic", "love", "family"),
)
NOISE = 0.25
MILLION, MILLION_TEST, PIECES, OWN = 1_000_000, 50_000, (5, 5, 5, 5, 6), 0.85

Rows = list[list[str]]


def write_parts(folder: Path, **parts: Rows) -> Parts:
    """Write each part, shuffled: files that are sorted by label are no part of the question."""
    files = {}
    for part, rows in parts.items():
        files[part] = write_csv(folder / f"{part}.csv", random.Random(SEED).sample(rows, len(rows)))
    return files


def write_rare200(folder: Path) -> Parts:
    """Write TREC with one question in 200 about an abbreviation; those left out of the training part are tested on."""
    train, test = (
        [[row[2], row[0]] for row in lines_of(DATA / "trec_qc" / name)] for name in ("train.tsv.xz", "test.tsv")
    )
    others = [row for row in train if row[1] != "ABBR"]
    rare = [row for row in train if row[1] == "ABBR"]
    num_kept = round(len(others) / 199)
    return write_parts(folder, train=others + rare[:num_kept], test=test + rare[num_kept:])


def write_rare1000(folder: Path) -> Parts:
    """Write CLINC150's ten domains, and one intent as a label of its own, one training text in a thousand."""
    parts = {part: [[text, _domain_or_rare(intent)] for text, intent in rows] for part, rows in clinc150().items()}
    others = [row for row in parts["train"] if row[1] != RARE_INTENT]
    rare = [row for row in parts["train"] if row[1] == RARE_INTENT]
    num_kept = round(len(others) / 999)
    return write_parts(folder, train=others + rare[:num_kept], test=parts["test"] + rare[num_kept:])


def domains() -> dict[str, str]:
    """Return each intent's domain."""
    content = json.loads(open_text(DATA / "clinc150" / "domains.json"))
    return {intent: domain for domain, intents in content.items() for intent in intents}


def _domain_or_rare(intent: str) -> str:
    return intent if intent == RARE_INTENT else domains()[intent]


EIGHT = ("banking", "credit_cards", "kitchen_and_dining", "home", "auto_and_commute", "travel", "utility", "work")


def write_eight(folder: Path) -> Parts:
    """Write CLINC150's domains: eight with 8 % of the texts each, the two others as one label with 36 %."""
    of, parts = domains(), {}
    for part, total in (("train", 8000), ("test", 2500)):
        rows = clinc150()[part]
        random.Random(SEED).shuffle(rows)
        left = Counter(dict.fromkeys(EIGHT, total * 8 // 100) | {"other": total * 36 // 100})
        parts[part] = []
        for text, intent in rows:
            label = of[intent] if of[intent] in EIGHT else "other"
            if left[label] > 0:
                left[label] -= 1
                parts[part].append([text, label])
    return write_parts(folder, **parts)


def reviews() -> list[tuple[str, str, float]]:
    """Return each film review of two sets once: text, label, and a number in [0, 1) from the hash of its letters."""
    found: dict[str, tuple[str, str, float]] = {}
    for source, text, label in (("sentence_polarity", 1, 0), ("sst2", 0, 1)):
        for name in ("train.tsv.xz", "dev.tsv", "test.tsv"):
            for row in lines_of(DATA / source / name):
                letters = re.sub(r"\W+", "", row[text].lower())
                place = int(hashlib.sha256(letters.encode()).hexdigest()[:12], 16) / 16**12
                found.setdefault(letters, (row[text], row[label], place))
    return list(found.values())


def write_noisy(folder: Path) -> Parts:
    """Write film reviews under 28 labels: first of 13 topics or none, and verdict; a quarter drawn at random."""
    draw, parts = random.Random(SEED), {"train": [], "test": []}
    labels = [f"{topic} {verdict}" for topic in (*TOPICS, "other") for verdict in "01"]
    for text, verdict, place in reviews():
        words = set(text.lower().split())
        label = f"{next((topic for topic in TOPICS if topic in words), 'other')} {verdict}"
        noisy = draw.choice(labels) if draw.random() < NOISE else label
        parts["test" if place < 0.2 else "train"].append([text, noisy])
    return write_parts(folder, **parts)


def book_halves() -> dict[str, tuple[str, str]]:
    """Return the first and the second half of each book, cut at the end of a line."""
    halves = {}
    for path in sorted((DATA / "gutenberg_nltk").glob("*.txt*")):
        text = open_text(path).replace("\r\n", "\n")
        cut = text.index("\n", len(text) // 2)
        halves[path.name.partition(".")[0]] = (text[:cut], text[cut:])
    return halves


def split_in_place(rows: Rows) -> dict[str, Rows]:
    """Return the first four fifths to train on and the last to test on."""
    cut = len(rows) * 4 // 5
    return {"train": rows[:cut], "test": rows[cut:]}


def write_books(folder: Path) -> Parts:
    """Write texts of 250 words from the first halves of the books; a label is a section of a book.

    The last fifth of each section is the test part. The second halves are for the sealed set of authors.
    """
    parts: dict[str, Rows] = {"train": [], "test": []}
    for book, (half, _) in book_halves().items():
        words = half.split()
        num_sections = max(1, round(len(words) / SECTION))
        size = -(-len(words) // num_sections)
        for number, start in enumerate(range(0, len(words), size)):
            section = words[start : start + size]
            texts = [" ".join(section[at : at + WORDS]) for at in range(0, len(section) - WORDS // 2, WORDS)]
            for part, rows in split_in_place([[text, f"{book} {number}"] for text in texts]).items():
                parts[part] += rows
    return write_parts(folder, **parts)


def write_million(folder: Path) -> Parts:
    """Write texts of 26 words: five pieces of film reviews, each of the label's own kind with a chance of 0.85."""
    draw = random.Random(SEED)
    words: dict[str, list[list[str]]] = {"0": [], "1": []}
    for text, label, _ in reviews():
        if len(text.split()) >= max(PIECES):
            words[label].append(text.split())
    parts = {"train": MILLION, "test": MILLION_TEST}
    return {
        part: write_csv(folder / f"{part}.csv", (_recombined(draw, words) for _ in range(num_rows)))
        for part, num_rows in parts.items()
    }


def _recombined(draw: random.Random, words: dict[str, list[list[str]]]) -> Sequence[str]:
    label, pieces = "01"[draw.random() < 0.5], []
    for size in PIECES:
        source = words[label if draw.random() < OWN else "10"[int(label)]]
        review = source[int(draw.random() * len(source))]
        start = int(draw.random() * (len(review) - size + 1))
        pieces += review[start : start + size]
    return " ".join(pieces), label


STRESS: tuple[PublicSet, ...] = (
    PublicSet("rare200", "TREC, one label 1 in 200", "rare_f1", write_rare200, rare=("ABBR",)),
    PublicSet("rare1000", "CLINC150 domains, one label 1 in 1,000", "rare_f1", write_rare1000, rare=(RARE_INTENT,)),
    PublicSet("eight", "CLINC150 domains, eight labels at 8 %", "accuracy", write_eight, rare=EIGHT),
    PublicSet("noisy", "film reviews, 28 labels, a quarter random", "accuracy", write_noisy),
    PublicSet("books", "sections of books, 250 words a text", "accuracy", write_books),
)
LARGE: tuple[PublicSet, ...] = (
    PublicSet("million", "a million texts of 26 words, 2 labels", "accuracy", write_million, "large"),
)
