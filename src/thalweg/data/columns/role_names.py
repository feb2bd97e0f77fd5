"""The names that people give to columns, by what the columns hold."""

import re
from collections.abc import Sequence
from typing import Final

from thalweg.data.columns.times.month_names import plain_letters


def _words(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_LANGUAGES: Final = _words(
    "arabic chinese czech danish dutch english finnish french german greek hebrew hindi hungarian italian "
    "japanese korean norwegian polish portuguese romanian russian spanish swedish turkish ukrainian "
    "ar cs da de deu el en eng es fi fr fra ger hi hu it ja ko nl no pl pt ro ru spa sv tr uk zh"
)

ROLE_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "text": _words(
        "text sentence review message question content body comment utterance document description tweet query "
        "headline title abstract summary sms post passage article news phrase email mail transcript input prompt "
        "docstring premise statement snippet"
    ),
    "label": _words(
        "label labels category categories class classes intent intents sentiment topic topics target emotion polarity "
        "tag tags genre stars rating type kind domain spam is_spam toxic gold gold_label annotation author language "
        "lang section department priority status output y"
    ),
    "first": _words(
        "sentence1 sentence_1 text1 text_1 text_a sentence_a question1 question_1 s1 premise first left query "
        "phrase1 phrase_a phrase"
    ),
    "other": _words(
        "sentence2 sentence_2 text2 text_2 text_b sentence_b question2 question_2 s2 hypothesis second right document "
        "phrase2 phrase_b other other_text"
    ),
    "number": _words(
        "score similarity similarity_score sim relatedness rating stars grade points number value target label "
        "sentiment toxicity readability y"
    ),
    "source": ("source", "src", "source_text", "input", "from", "original", *_LANGUAGES),
    "target": ("target", "tgt", "trg", "target_text", "translation", "output", "to", *_LANGUAGES),
    "tokens": _words("tokens words token word form forms"),
    "tags": _words("tags ner_tags ner slots bio tag labels label upos pos_tags pos xpos chunk chunk_tags"),
    "time": _words(
        "date time year month day datetime timestamp ds week hour quarter period index id step t when moment dt ts "
        "created_at observed_at epoch unix datum zeit zeitpunkt zeitstempel jahr monat tag woche quartal stunde fecha "
        "hora ano anio mes dia jour heure annee mois trimestre semaine giorno mese settimana ora unnamed row"
    ),
    "series_id": _words(
        "unique_id series_id series item_id store item shop id sku product product_id symbol ticker stock station "
        "sensor device meter country region city state branch location site store_id shop_id item_name group entity "
        "name customer customer_id filiale laden artikel"
    ),
}
# Names in the plural and in other languages, by the names above that mean the same.
_MEANINGS: Final = {
    name: meaning
    for meaning, names in {
        "text": "texto texte testo tekst texts",
        "comment": "kommentar kommentare comentario comentarios commentaire commento comments",
        "message": "nachricht mensaje mensagem messaggio",
        "description": "beschreibung descripcion descrição descricao descrizione verwendungszweck",
        "title": "titel titulo título titre titolo",
        "question": "frage pregunta pergunta domanda",
        "label": "etiqueta etikett etichetta rótulo etiquette étiquette",
        "category": "kategorie kategorien categoria categoría categorie catégorie kategoria",
        "class": "klasse klassen clase classe",
        "topic": "thema tema thème",
        "sentiment": "stimmung sentimiento sentimento sentiments",
        "genre": "genres",
        "emotion": "emotions",
        "rating": "bewertung bewertungen valoracion calificacion avaliacao valutazione waardering ocena betyg "
        "评分 評価 평점",
        "grade": "nota voto noten",
        "score": "punktzahl puntuacion pontuacao punteggio",
        "points": "punkte puntos pontos punti",
    }.items()
    for name in names.split()
}
# What only looks like a number: codes of a catalog, which may be labels, and what is neither a label nor an amount.
_CODES: Final = frozenset(
    _words("code codes zip zipcode postcode postleitzahl plz icd cpt naics sic nace hs hts ndc atc mcc")
)
_NO_AMOUNTS: Final = frozenset(
    _words("version latitude longitude lat lon lng phone telephone fax ip isbn ean gtin upc sku")
)

# How the names of a pair end, and pairs of whole names.
_ENDINGS: Final = (("1", "2"), ("a", "b"))
_PAIRS: Final = (("premise", "hypothesis"), ("first", "second"), ("left", "right"), ("query", "document"))
_UNNAMED: Final = "column"  # what columns without a header are called, with their number

# What `name_score` gives: from 1 down to the first of these for a usual name, then for parts of one.
WHOLE_NAME: Final = 0.6
LAST_WORD: Final = 0.5  # as in "review_text"
ANY_WORD: Final = 0.3  # as in "text_id"

ALL_NAMES: Final = frozenset(name for names in ROLE_NAMES.values() for name in names)


def normalized(name: str) -> str:
    """A column's name in lower case, its words joined by underscores: "review_text" for "Review Text", "reviewText"."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^\w]+", "_", plain_letters(name)).strip("_")


def is_side(name: str, role: str) -> bool:
    """Whether a name says source or target by itself, as "src" does and "english" does not."""
    return normalized(name) in ROLE_NAMES[role] and normalized(name) not in _LANGUAGES


def name_score(name: str, role: str | Sequence[str]) -> float:
    """How well a column's name fits a role, from 0 (not at all) to 1 (the role's usual name).

    Args:
        name: the column's name as it stands in the file.
        role: a key of `ROLE_NAMES`; or names of a role of your own as `normalized` has them, the most usual one first.

    Example:
        >>> name_score("text", "text") > name_score("Review Text", "text") > name_score("column1", "text")
        True
    """
    names, name = ROLE_NAMES[role] if isinstance(role, str) else role, normalized(name)
    name = name if name in names else _MEANINGS.get(name, name)
    if name in names:
        return 1.0 - (1.0 - WHOLE_NAME) * names.index(name) / len(names)
    parts = [part for part in name.split("_") if len(part) > 2]
    if parts and parts[-1] in names:
        return LAST_WORD
    return ANY_WORD if any(part in names for part in parts) else 0.0


def are_twins(first: str, second: str) -> bool:
    """Whether two names are those of a pair.

    Example:
        >>> are_twins("Text A", "Text B"), are_twins("premise", "hypothesis"), are_twins("title", "text")
        (True, True, False)
    """
    first, second = normalized(first), normalized(second)
    same_stem = first[:-1] == second[:-1] != _UNNAMED
    words = list(zip(first.split("_"), second.split("_"), strict=False))
    other = [pair for pair in words if pair[0] != pair[1]]
    same_words = first.count("_") == second.count("_") > 0 and len(other) == 1 and other[0] in _ENDINGS  # "#1 String"
    return (same_stem and (first[-1:], second[-1:]) in _ENDINGS) or same_words or (first, second) in _PAIRS


def is_code(name: str) -> bool:
    """Whether numbers of this name are those of a catalog, such as postal codes and classes of diseases.

    Example:
        >>> is_code("hs_code"), is_code("ICD-9"), is_code("code quality")
        (True, True, False)
    """
    return _last_word(name) in _CODES


def is_amount(name: str) -> bool:
    """Whether numbers of this name may be more and less: those of codes, versions and places are not."""
    return not is_code(name) and _last_word(name) not in _NO_AMOUNTS


def _last_word(name: str) -> str:
    words = [word.rstrip("0123456789") for word in normalized(name).split("_")]
    return next((word for word in reversed(words) if word), "")
