"""Public data that nobody looks at or runs on before the end, so that nothing can have been chosen by them."""

import re
from collections.abc import Iterator
from pathlib import Path

from public_sets import DATA, PARTS, Parts, PublicSet, lines_of, open_text, pairs, write_csv
from stress_sets import book_halves, split_in_place

GENRES = {"weblog", "newsgroup", "email", "reviews", "answers"}
MIN_WORDS = 20  # of a paragraph


def utterances(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the intent and the lines of words and tags of each utterance of SNIPS."""
    intent, lines = "", []
    for line in [*open_text(DATA / "snips" / name).split("\n"), ""]:
        if line.startswith("# intent"):
            intent = line.partition("=")[2].strip()
        elif line.strip():
            lines.append(line)
        elif lines:
            yield intent, lines
            lines = []


SNIPS = {"train": "train.conll.xz", "test": "test.conll"}


def write_intents(folder: Path) -> Parts:
    """Write the words of an utterance and its intent."""
    return {
        part: write_csv(
            folder / f"{part}.csv",
            ([" ".join(line.split("\t")[0] for line in lines), intent] for intent, lines in utterances(name)),
        )
        for part, name in SNIPS.items()
    }


def write_slots(folder: Path) -> Parts:
    """Write words and their slots, without intents."""
    files = {}
    for part, name in SNIPS.items():
        files[part] = folder / f"{part}.conll"
        files[part].write_text("".join("\n".join(lines) + "\n\n" for _, lines in utterances(name)), encoding="utf-8")
    return files


def write_authors(folder: Path) -> Parts:
    """Write paragraphs of the second halves of the books with their authors; the last fifths are the test part."""
    parts: dict[str, list[list[str]]] = {"train": [], "test": []}
    for book, (_, half) in book_halves().items():
        paragraphs = [" ".join(text.split()) for text in re.split(r"\n\s*\n", half)]
        rows = [[text, book.partition("-")[0]] for text in paragraphs if len(text.split()) >= MIN_WORDS]
        for part, chosen in split_in_place(rows).items():
            parts[part] += chosen
    return {part: write_csv(folder / f"{part}.csv", rows) for part, rows in parts.items()}


def write_ewt_genres(folder: Path) -> Parts:
    """Write the sentences of the treebank with their genre, the first word of their document's name."""
    files = {}
    for part in PARTS:
        rows, genre = [], ""
        for line in open_text(DATA / "ud_english_ewt" / f"en_ewt-ud-{part}.conllu.xz").split("\n"):
            name, _, value = line.partition(" = ")
            if name == "# sent_id":
                genre = value.partition("-")[0]
            elif name == "# text" and genre in GENRES:
                rows.append([value, genre])
        files[part] = write_csv(folder / f"{part}.csv", rows)
    return files


STSB = {"train": "sts-train.csv.xz", "dev": "sts-dev.csv", "test": "sts-test.csv"}


def write_stsb_genres(folder: Path) -> Parts:
    """Write the first sentence of each pair with the genre of the pair."""
    return {
        part: write_csv(folder / f"{part}.csv", ([row[5], row[0]] for row in lines_of(DATA / "stsb" / name)))
        for part, name in STSB.items()
    }


def write_languages(folder: Path) -> Parts:
    """Write English and German sentences in turn: of each pair one, every tenth pair of the training part."""
    files = {}
    for part in PARTS:
        found = lines_of(DATA / "tatoeba_pairs" / f"eng-deu.{part}.tsv.xz")[:: 10 if part == "train" else 1]
        files[part] = write_csv(
            folder / f"{part}.csv", ([row[place % 2], ("eng", "deu")[place % 2]] for place, row in enumerate(found))
        )
    return files


SEALED: tuple[PublicSet, ...] = (
    PublicSet("snips", "SNIPS intents, 7 labels", "accuracy", write_intents, sealed=True),
    PublicSet("authors", "Gutenberg paragraphs, 8 authors", "accuracy", write_authors, sealed=True),
    PublicSet("ewt-genre", "English EWT sentences, 5 genres", "accuracy", write_ewt_genres, sealed=True),
    PublicSet("stsb-genre", "STS-B sentences, 3 genres", "accuracy", write_stsb_genres, sealed=True),
    PublicSet("language", "Tatoeba sentences, 2 languages", "accuracy", write_languages, sealed=True),
    PublicSet("snips-slots", "SNIPS slots", "span_f1", write_slots, "tag", sealed=True),
    PublicSet("stsb-test", "STS-B test part", "pearson", pairs(**STSB), "score", sealed=True),
)
