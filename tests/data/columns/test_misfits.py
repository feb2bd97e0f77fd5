"""Tables as people have them: the right task and numbers, or a refusal that says what a column looks like."""

# ruff: noqa: E501  (rows of tables as they are)

import calendar
import datetime as dt
import random

import pytest

from thalweg import names
from thalweg.data.columns.choice import choose_columns
from thalweg.data.columns.facts import ColumnFacts, column_facts
from thalweg.data.columns.guess import guess_task
from thalweg.data.columns.misfits import described, is_called_answer, looks, of_labels, of_series, of_words
from thalweg.data.files.base import Row
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

NUM_ROWS = 60
WORDS = [
    "river",
    "stone",
    "bridge",
    "water",
    "late",
    "early",
    "train",
    "city",
    "market",
    "house",
    "garden",
    "window",
    "summer",
    "winter",
    "friend",
    "letter",
]
RANDOM = random.Random(1)


def text(num_words=8):
    return " ".join(RANDOM.choice(WORDS) for _ in range(num_words))


def rows(make):
    return [make(i) for i in range(NUM_ROWS)]


TEXTS = rows(lambda i: f"{text()} {i}")
DAYS = [dt.date(2022, 1, 1) + dt.timedelta(i) for i in range(NUM_ROWS)]


def csv(delimiter=",", **columns):
    fields = [[f'"{value}"' if delimiter in str(value) else str(value) for value in one] for one in columns.values()]
    return "\n".join(map(delimiter.join, [columns, *zip(*fields, strict=True)])) + "\n"


def opened(folder, content, name="table.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return open_source(path)


def comma(number, decimals=2):
    return f"{number:,.{decimals}f}".translate(str.maketrans(",.", ".,"))


# A table -> its task, and what its sentence says.
RIGHT = {
    "decimal commas": (csv(";", date=DAYS, sales=rows(lambda i: comma(52.58 + i))), "forecast", "52,58 is read as 52.58"),
    "dollars": (csv(date=DAYS, sales=rows(lambda i: f"${990 + i / 4:,.2f}")), "forecast", "in '$': $990.00 is read as 990"),
    "seasons": (csv(season=rows(lambda i: f"{1950 + i}/{(51 + i) % 100:02}"), goals=rows(lambda i: 20 + i * 7 % 11)), "forecast", "column 'goals', in the order"),
    "percent": (csv(date=DAYS, rate=rows(lambda i: f"{i} %")), "forecast", "in '%': 0 % is read as 0"),
    "apostrophes": (csv(date=DAYS, a=rows(lambda i: f"{990.5 + i:,}".replace(",", "'"))), "forecast", "with apostrophes"),
    "parentheses": (csv(date=DAYS, a=rows(lambda i: f"({i}.50)" if i % 2 else f"{i}.25")), "forecast", "(1.50) is read as -1.5"),
    "minus sign": (csv(date=DAYS, a=rows(lambda i: f"−{i}.5")), "forecast", "−0.5 is read as -0.5"),
    "month names": (csv(date=[f"{day:%d-%b-%y}" for day in DAYS], sales=rows(lambda i: i * 3 % 17)), "forecast", "'sales'"),
    "quarters": (csv(date=rows(lambda i: f"{2000 + i // 4}Q{1 + i % 4}"), sales=rows(lambda i: i * 3 % 17)), "forecast", "'sales'"),
    "a rating of five": (csv(text=TEXTS, rating=rows(lambda i: f"{1 + i % 5}/5")), "classify", "'rating' (5 labels)"),
    "a rating that is not called one": (csv(text=TEXTS, x=rows(lambda i: f"{1 + i % 5}/5")), "classify", "'x' (5 labels)"),
    "stars": (csv(text=TEXTS, stars=rows(lambda i: "★" * (1 + i % 5))), "classify", "'stars' (5 labels)"),
    "out of": (csv(text=TEXTS, score=rows(lambda i: f"{i / 10} out of 5 stars")), "score", "in 'out of 5 stars'"),
    "fractions": (csv(text=TEXTS, score=rows(lambda i: f"{1 + i % 7}/{10 + i % 3}")), "score", "as fractions: 1/10 is read as 0.1"),
    "a score in percent": (csv(text=TEXTS, score=rows(lambda i: f"{i} %")), "score", "0 % is read as 0"),
    "a score with a comma": (csv(";", text=TEXTS, score=rows(lambda i: comma(i * 0.7 % 5, 1))), "score", "with decimal commas"),
    "prices in euros": (csv(";", text=TEXTS, price=rows(lambda i: comma(950 + 7.5 * i) + " €")), "score", "950,00 € is read as 950"),
    **{
        f"{name} in halves": (csv(",", **{"text": TEXTS, name: rows(lambda i: i % 9 / 2 + 1)}), "score", f"number column {name!r}")
        for name in ("rating", "Bewertung", "stars", "nota", "label", "评分")
    },
    **{
        f"{name} in whole numbers": (csv(",", **{"text": TEXTS, name: rows(lambda i: f"{i % 5 + 1}.0")}), "classify", f"label column {name!r} (5 labels)")
        for name in ("rating", "Bewertung", "stars", "what_i_think")
    },
    **{
        f"{name} as points": (csv(",", **{"text": TEXTS, name: rows(lambda i: i % 5 + 1)}), "score", f"number column {name!r}")
        for name in ("score", "Punktzahl", "puntuación", "grade", "nota")
    },
    "points for what is missing": (csv(date=DAYS, rate=rows(lambda i: "." if i % 9 == 4 else i % 7 + 0.5)), "forecast", "'rate'"),
    "milliseconds of sensors": (csv(ts=rows(lambda i: 1700000000000 + i // 2 * 60000), sensor=rows(lambda i: f"s{i % 2}"), load=rows(lambda i: i % 7)), "forecast", "in the order of 'ts'; 'sensor' tells several series apart"),
    "a title and a text": (csv(",", **{"Review Title": rows(lambda i: f"{text(5)} {i}"), "Review Text": TEXTS, "Star Rating": rows(lambda i: i % 5 + 1)}), "classify", "label column 'Star Rating'"),
    "Google Forms": (csv(Timestamp=rows(lambda i: f"2024/01/{i % 28 + 1:02} 9:{i:02}:11 AM GMT+1"), comment=TEXTS, again=rows(lambda i: ("Yes", "No")[i % 3 > 1])), "classify", "label column 'again'"),
    "weights": (csv(text=TEXTS, weight=rows(lambda i: f"{i / 4} kg")), "score", "in 'kg'"),
    "views": (csv(text=TEXTS, views=rows(lambda i: ("3.5k", "900", "1.2M", "12k")[i % 4])), "score", "3.5k is read as 3500"),
    "numbers of labels": (csv(";", text=TEXTS, labels=rows(lambda i: ("1,3", "2", "2,3", "1,2")[i % 4])), "classify", "(3 labels, several"),
    "Chinese": (csv(text=rows(lambda i: f"今天天气很好我们去公园玩{i}"), label=rows(lambda i: ["体育", "科技"][i % 2])), "classify", "'label'"),
    "codes": (csv(text=TEXTS, hs_code=rows(lambda i: ("0101.21", "8471.30", "6109.10", "0902.10", "8703.23", "8703.24")[i % 6])), "classify", "label column 'hs_code' (6 labels)"),
    "versions": (csv(text=TEXTS, version=rows(lambda i: f"{i % 3}.{i % 11}")), "language", "'text'"),
    "amounts of a category": (csv(";", Verwendungszweck=TEXTS, Betrag=rows(lambda i: comma(52.58 + i)), Kategorie=rows(lambda i: ("Miete", "Essen")[i % 2])), "classify", "'Verwendungszweck', label column 'Kategorie'"),
    "two texts and genres": (csv(title=rows(lambda i: f"film {i}"), plot=TEXTS, genres=rows(lambda i: ("War|Crime", "War", "Crime|War|Love", "Love")[i % 4])), "classify", "label column 'genres' (3 labels, several"),
    "questions and whether they are alike": (csv(qid1=rows(int), question1=TEXTS, question2=TEXTS[::-1], is_duplicate=rows(lambda i: i % 2)), "score", "'question1' and 'question2', number column 'is_duplicate'"),
    "essays with ratings": (csv(essay=TEXTS, rater1=rows(lambda i: i % 4), rater2=rows(lambda i: i % 3), domain1_score=rows(lambda i: i % 4 + i % 3)), "score", "number column 'domain1_score'"),
    "a text and a name": (csv(id=rows(lambda i: f"a{i}b{i * 7}"), text=TEXTS), "language", "'text'"),
    "a text and an address": (csv(user=rows(lambda i: f"u{i}@x.org"), comment=TEXTS), "language", "'comment'"),
    "a text and days": (csv(text=TEXTS, seen=rows(lambda i: f"{1 + i % 12}/{1 + i % 28}")), "language", "'text'"),
    "strings of a pair": (csv(",", **{"Quality": rows(lambda i: i % 2), "#1 ID": rows(int), "#1 String": TEXTS, "#2 String": TEXTS[::-1]}), "score", "'#1 String' and '#2 String', number column 'Quality'"),
    "pairs, and where they are from": (csv(a=[one[:20] for one in TEXTS], b=[one[20:] for one in TEXTS], c=rows(lambda i: f"CC-BY 2.0 (France) Attribution: tatoeba.org {i} (CK)")), "translate", "Source column 'a', target column 'b'; not read: 'c'"),
    "inputs that mostly are empty": (csv(instruction=TEXTS, input=rows(lambda i: "" if i % 3 else text()), output=TEXTS[::-1]), "translate", "Source column 'instruction', target column 'output'; not read: 'input'"),
    "many sensors": (csv(date=DAYS, **{f"s{i}": rows(lambda k, i=i: k * i % 7 + 0.5) for i in range(20)}), "forecast", "(20 in all), in the order of 'date'"),
    "many columns of no name": (csv(**{f"s{i}": rows(lambda k, i=i: k * i % 7 + 0.5) for i in range(20)}), "forecast", "in the order of the rows"),
    "decimal years beside numbers of rows": (csv(",", **{"": range(1, 61), "time": rows(lambda i: round(1949 + i / 12, 3)), "value": rows(lambda i: i * 3 % 17)}), "forecast", "Numeric column 'value', in the order of 'time'; 'column1' only counts the rows"),
    "middles of months": (csv(",", **{"decimal date": rows(lambda i: round(1958 + (i + 0.5) / 12, 4)), "co2": rows(lambda i: 310 + i * 3 % 17)}), "forecast", "Numeric column 'co2', in the order of 'decimal date'"),
    "middles of months beside years and months": (csv(year=rows(lambda i: 1958 + i // 12), month=rows(lambda i: i % 12 + 1), date=rows(lambda i: round(1958 + (i + 0.5) / 12, 4)), co2=rows(lambda i: 310 + i * 3 % 17)), "forecast", "Numeric column 'co2', in the order of"),
    "labels in columns of one name": (csv(Summary=TEXTS, Labels=rows(lambda i: ("ui", "db")[i % 2])).replace("\n", ",\n").replace("Labels,", "Labels,Labels"), "classify", "label columns 'Labels', 'Labels.2' (2 labels, several a row)"),
    "pairs beside columns of none": (csv(source1=["none"] * NUM_ROWS, source2=["none"] * NUM_ROWS, sentence1=TEXTS, sentence2=TEXTS[::-1], score=rows(lambda i: i % 9 / 2)), "score", "Text columns 'sentence1' and 'sentence2'"),
    "Chinese alone": (csv(text=rows(lambda i: "今天天气很好我们去公园玩吧" + chr(0x4E00 + i))), "language", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_a_table_is_for_the_task_that_a_person_would_choose(case, tmp_path):
    content, task, told = RIGHT[case]
    source = opened(tmp_path, content)
    found, sentence = guess_task(source, names.all_task_columns())
    assert found.task == task, sentence
    choice = choose_columns(source, found).check()
    assert told in choice.sentence


# A table -> what the refusal says.
REFUSED = {
    "lists written as text": ('sentence,tags\n' + "".join(f"a{i} fine day,\"['O', 'B-PER', 'O']\"\n" for i in range(NUM_ROWS)), "there are lists or objects written as text, such as \"['O', 'B-PER', 'O']\"; save the table as JSON Lines"),
    "two decimal marks": ("text,score\n" + "".join(f'{one},"{i % 4},5"\n{one},{i % 4}.5\n' for i, one in enumerate(TEXTS)), "'score' is the answer, but many of its values are numbers in one notation, and others are not"),
    "labels that are all different": (csv(text=TEXTS, label=rows(lambda i: f"label{i}")), "'label' is the answer, but its 60 values are all different"),
    "few rows with as many labels": (csv(text=TEXTS[:8], label=rows(lambda i: f"label{i}")[:8]), "'label' is the answer, but its 8 values are all different"),
    "labels that are sentences": (csv(text=TEXTS, label=rows(lambda i: f"{text(5)} {i}")), "'label' is the answer, but its 60 values are all different"),
    "an empty label": (csv(text=TEXTS, label=[""] * NUM_ROWS), "'label' is the answer, but it is empty"),
    "a label of days": (csv(text=TEXTS, label=DAYS), "'label' is the answer, but its values are dates or times, such as '2022-01-01'"),
    "a label of numbers": (csv(text=TEXTS, label=rows(lambda i: f"{i} %")), "its values are numbers in '%'; choose --task score or --task classify with --label-column label"),
    "a price in words": (csv(text=TEXTS, price=rows(lambda i: f"about {i} or so")), "'price' is the answer, but its 60 values are all different"),
    "an author": (csv(text=TEXTS, author=rows(lambda i: f"{text(1)} {i}x")), "'author' is the answer"),
    "one word a row": (csv(word=rows(lambda i: WORDS[i % 16]), tag=rows(lambda i: "NV"[i % 2])), "hold one word and its tag a row, and nothing says where a sentence ends"),
    "a list of words": (csv(word=rows(lambda i: WORDS[i % 16])), "found none ('word': its values are words (1.0 in each, 16 different ones), such as 'river')"),
    "names alone": (csv(id=rows(lambda i: f"a{i}b"), code=rows(lambda i: f"Z-{i}")), "found none ('id': its 60 values are all different, such as 'a0b'"),
    "days alone": (csv(date=DAYS), "'date': its values are dates or times"),
    "two notations": (csv(";", date=DAYS, sales=rows(lambda i: f"{i}.5" if i % 3 else f"{i},5")), "others are not, such as '0,5'"),
    "two currencies": (csv(date=DAYS, sales=rows(lambda i: f"${i}" if i % 2 else f"€{i}")), "many of its values are numbers in one notation, and others are not"),
    "numbers with notes": (csv(date=DAYS, sales=rows(lambda i: f"{i},5" if i % 5 else "closed"), a=rows(int)), "such as 'closed'; correct the others, or leave them out with --task, --label-column sales and --skip-bad-rows"),
    "a label before title and text, without names": (csv(",", **{"1": [f"{1 + i % 4}" for i in range(NUM_ROWS)], TEXTS[0]: TEXTS, f"{TEXTS[1]} {TEXTS[2]}": [f"{one} {one}" for one in TEXTS]}), "what may be the label of each row ('column1'); name it with --label-column column1, or choose --task translate"),
    "a kind beside two texts": (csv(summary_a=TEXTS, plot=TEXTS[::-1], period_piece=rows(lambda i: ("war", "love")[i % 2])), "there are several texts ('summary_a', 'plot') and what may be the label of each row ('period_piece')"),
    "labels of pairs": (csv(sentence1=TEXTS, sentence2=TEXTS[::-1], gold_label=rows(lambda i: ("neutral", "entailment")[i % 2])), "the labels are those of pairs ('sentence1' and 'sentence2'), and the task classify reads one text; write both into one column, read one with --text-column sentence1"),
    "several texts": (csv(morning=TEXTS, noon=TEXTS[::-1], evening=TEXTS, night=TEXTS), "4 columns of texts ('morning', 'noon', 'evening', 'night'), and no name says which two are a pair"),
    "preferences": (csv(prompt=TEXTS, chosen=TEXTS[::-1], rejected=TEXTS), "'chosen' and 'rejected' are answers of which one is preferred"),
    "a time that is none": (csv(date=rows(lambda i: f"phase {i}"), sales=rows(lambda i: i + 0.5)), "the column 'date' says when the rows were, but its 60 values are all different, such as 'phase 0'"),
    "years as columns": (csv(Country=TEXTS, Code=rows(lambda i: f"A{i}"), **{str(1990 + i): rows(lambda k, i=i: k * i + 0.5) for i in range(9)}), "the names of 9 columns are moments ('1990' to '1998')"),
    "years with marks as columns": (csv(geo=rows(lambda i: f"A,PC,{i}"), **{str(1990 + i): rows(lambda k, i=i: f"{k * i} p" if k % 2 else ":") for i in range(9)}), "the names of 9 columns are moments ('1990' to '1998')"),
    "series as rows": (csv(V1=rows(lambda i: f"D{i}"), **{f"V{i}": rows(lambda k, i=i: k * i + 0.5) for i in range(2, 20)}), "each row seems to be a series of its own, from the column 'V2' to 'V19', with its name in 'V1'"),
    "classes of series": (csv(c=rows(lambda i: i % 3), **{f"t{i}": rows(lambda k, i=i: k * i + 0.5) for i in range(20)}), "from the column 't0' to 't19', with its class in 'c'"),
    "months as columns": (csv(Year=range(1960, 2020), **{name: rows(lambda k: k % 7 + 0.5) for name in calendar.month_abbr[1:]}), "the names of 12 columns are moments ('Jan' to 'Dec')"),
    "scores with notes": (csv(text=TEXTS, score=rows(lambda i: f"{i}.5" if i % 5 else "unsure")), "such as 'unsure'; correct the others, or leave them out with --task, --label-column score and --skip-bad-rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_is_for_no_task_is_refused_with_what_it_looks_like(case, tmp_path):
    content, told = REFUSED[case]
    with pytest.raises(InputError) as error:
        guess_task(opened(tmp_path, content), names.all_task_columns())
    assert told in str(error.value)


@pytest.mark.parametrize("value", [{"a": [1, {"b": 2}]}, [{"start": 0, "label": "X"}]])
def test_objects_are_no_texts(value):
    facts = column_facts(("text", "data"), [Row(i, (text, value)) for i, text in enumerate(TEXTS)])
    assert [one.is_nested for one in facts] == [False, True]
    assert of_words(facts).startswith("there are objects in the column 'data'; flatten them")


def test_a_numbering_is_nothing_to_forecast():
    facts = [
        ColumnFacts("id", 0, 60, 60, num_distinct=60, is_number=True, is_increasing=True),
        ColumnFacts("url", 1, 60, 60, num_distinct=60, is_identifier=True),
    ]
    assert "there is nothing to forecast but a numbering" in of_series(facts)
    assert of_series(facts[:1]) == ""


def test_names_of_answers_are_known_by_their_last_word():
    names_of = ["Label", "overall_rating", "Preis", "salePrice", "text", "labels_of_text", "id"]
    found = [is_called_answer(ColumnFacts(name, 0, 60, 60)) for name in names_of]
    assert found == [True, True, True, True, False, False, False]
    assert of_labels([ColumnFacts("label", 0, 4, 4, num_distinct=4)]) == "", "too few rows to say so"


def test_the_first_columns_are_described():
    facts = [ColumnFacts(f"c{i}", i, 0, 60) for i in range(6)]
    assert described(facts).count("it is empty") == 4
    assert described(facts).endswith("; ...")
    assert looks(ColumnFacts("x", 0, 9, 9, 9, 2.0, is_unclear_date=True, example="4/5")) == (
        "its values are fractions or dates, such as '4/5'"
    )
    long = looks(ColumnFacts("x", 0, 9, 9, 4, 30.0, example="a" * 99))
    assert long == f"its values are words (30.0 in each, 4 different ones), such as '{'a' * 40}...'"
