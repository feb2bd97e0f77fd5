"""Which task a file is for, and which columns it reads: a table of files as people have them."""

# ruff: noqa: E501  (rows of files as they are)

import csv
import io
import json
import re
from typing import NamedTuple

import pytest

from thalweg import names
from thalweg.data.builtin.catalog import SAMPLES
from thalweg.data.columns.choice import choose_columns
from thalweg.data.columns.guess import guess_task
from thalweg.data.files.sources import open_source


class File(NamedTuple):
    """A file's name and content, what it is for, and the columns by role; a forecast's series under "series"."""

    name: str
    content: str
    task: str
    columns: dict[str, str | tuple[str, ...]]


def classify(name, content, text, label):
    return File(name, content, "classify", {"text": text, "label": label})


def score(name, content, number, text, other=None):
    pair = {"other": other} if other else {}
    return File(name, content, "score", {"text": text, **pair, "number": number})


def translate(name, content, source, target):
    return File(name, content, "translate", {"source": source, "target": target})


def tag(name, content, tokens="tokens", tags="tags"):
    return File(name, content, "tag", {"tokens": tokens, "tags": tags})


def forecast(name, content, *series, time=None):
    return File(name, content, "forecast", {"series": series, **({"time": time} if time else {})})


def language(name, content, text="text"):
    return File(name, content, "language", {"text": text})


def jsonl(*rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def grown(file):
    """A table's content with its rows eight times over; what is different in every row stays so, as in a large file."""
    header, *lines = file.content.splitlines()
    if file.name.endswith("jsonl"):
        rows = [json.loads(line) for line in (header, *lines)]
        columns = [fresh([row[name] for row in rows]) for name in rows[0]]
        return jsonl(*(dict(zip(rows[0], row, strict=True)) for row in zip(*columns, strict=True)))
    mark = next(mark for mark in "\t;," if mark in header)
    rows = list(csv.reader([header, *lines], delimiter=mark))
    names_row = rows[:1] if "column1" not in file.columns.values() and "column2" not in file.columns.values() else []
    columns = [fresh([row[i] for row in rows[len(names_row) :]]) for i in range(len(rows[0]))]
    out = io.StringIO()
    csv.writer(out, delimiter=mark, lineterminator="\n").writerows([*names_row, *zip(*columns, strict=True)])
    return out.getvalue()


def fresh(values, copies=8):
    """The values eight times over; texts and whole numbers that are all different stay all different."""
    if any(isinstance(value, list | float) for value in values) or len(set(values)) < len(values):
        return values * copies
    if all(str(value).isdigit() for value in values):
        return [int(value) + 10 ** len(str(value)) * i for i in range(copies) for value in values]
    if any(re.search(r"[^\W\d]", value) is None for value in values):  # moments, decimal numbers
        return values * copies
    return [f"{i} {value}" if " " in value else f"{value}{i}" for i in range(copies) for value in values]


FILES = [
    # Reviews, tickets, tweets, mail: a text and a label.
    classify(
        "imdb.csv",
        "review,sentiment\n"
        '"One of the best films I have seen, moving to the end.",positive\n'
        '"A waste of two hours; the plot made no sense at all.",negative\n'
        '"The actors do what they can with a thin script.",negative\n'
        '"Warm, funny, and beautifully shot in the Alps.",positive\n',
        "review", "sentiment",
    ),
    classify(
        "sms.tsv",
        "ham\tOk lar... Joking wif u oni...\n"
        "spam\tFree entry in 2 a wkly comp to win FA Cup final tkts\n"
        "ham\tU dun say so early hor... U c already then say...\n"
        "spam\tWINNER!! As a valued network customer you have been selected\n"
        "ham\tI've been searching for the right words to thank you\n",
        "column2", "column1",
    ),
    classify(
        "banking.csv",
        "text,category\n"
        "I am still waiting on my card?,card_arrival\n"
        "What can I do if my card still hasn't arrived after 2 weeks?,card_arrival\n"
        "Is there a fee for topping up?,top_up_fee\n"
        "How much does a top up by transfer cost?,top_up_fee\n",
        "text", "category",
    ),
    classify(
        "tweets.csv",
        "tweet_id,airline_sentiment,airline,retweet_count,text,tweet_created\n"
        "570306133677760513,neutral,Virgin America,0,@VirginAmerica What @dhepburn said.,2015-02-24 11:35:52\n"
        "570301130888122368,positive,Virgin America,0,@VirginAmerica plus you've added commercials,2015-02-24 11:15:59\n"
        "570301083672813571,negative,United,0,@united I didn't today... Must mean I need another trip!,2015-02-24 11:15\n"
        "570301031407624196,negative,Delta,0,\"@delta it's really aggressive to blast music at us\",2015-02-24 11:15:36\n",
        "text", "airline_sentiment",
    ),
    classify(
        "news.csv",
        "Class Index,Title,Description\n"
        "3,Wall St. Bears Claw Back Into the Black,Short-sellers are seeing green again in the market today.\n"
        "4,Rover finds water,The rover found traces of ice below the surface of the red planet.\n"
        "2,City win the derby,City scored twice in the last ten minutes to win at home.\n"
        "3,Oil prices soar,Crude rose above sixty dollars as a storm closed the gulf.\n",
        "Description", "Class Index",
    ),
    classify(
        "tickets.csv",
        "Ticket ID,Subject,Description,Priority\n"
        "T-1001,Printer offline,The printer on floor 3 shows offline since this morning,High\n"
        "T-1002,Password reset,I forgot my password and cannot log in to the portal,Low\n"
        "T-1003,VPN slow,The connection drops every few minutes when I work from home,High\n"
        "T-1004,New laptop,Please order a new laptop for the colleague who starts in May,Low\n",
        "Description", "Priority",
    ),
    classify(
        "toxic.csv",
        "id,comment_text,toxic\n"
        "0000997932d777bf,Explanation why the edits made under my username were reverted,0\n"
        "000103f0d9cfb60f,You are an idiot and should be banned from here,1\n"
        "000113f07ec002fd,Hey man I'm really not trying to edit war,0\n"
        "0001b41b1c6bb37e,More I can't make any real suggestions on improvement,0\n",
        "comment_text", "toxic",
    ),
    classify(
        "amazon.csv",
        "reviewerID,asin,reviewText,overall_rating\n"
        "A2IBPI20UZIR0U,1384719342,Not much to write about here but it does exactly what it should,5\n"
        "A14VAT5EAX3D9S,1384719342,The product does exactly as it should and is quite affordable,5\n"
        "A195EZSQDW3E21,1384719343,The primary job of this device is to block the breath,4\n"
        "A2C00NNG1ZQQG2,1384719343,Nice windscreen protects my mic and prevents pops,2\n",
        "reviewText", "overall_rating",
    ),
    classify(
        "stars.jsonl",
        jsonl(
            {"stars": 5, "text": "Best tacos in town, and the staff is lovely."},
            {"stars": 1, "text": "Cold food, rude waiter, never again."},
            {"stars": 5, "text": "We come here every Sunday for the pancakes."},
            {"stars": 3, "text": "Average place with an average menu."},
        ),
        "text", "stars",
    ),
    classify(
        "intents.jsonl",
        jsonl(
            {"utterance": "book a table for two at seven", "intent": "BookRestaurant"},
            {"utterance": "will it rain in Paris tomorrow", "intent": "GetWeather"},
            {"utterance": "play something by Miles Davis", "intent": "PlayMusic"},
            {"utterance": "is it cold in Oslo", "intent": "GetWeather"},
        ),
        "utterance", "intent",
    ),
    classify(
        "toots.jsonl",
        jsonl(
            {"lang": "en", "content": "Just setting up my account here"},
            {"lang": "de", "content": "Endlich wieder Sonne am Deich heute"},
            {"lang": "en", "content": "Reading about rivers and their lowest points"},
            {"lang": "fr", "content": "Bonjour tout le monde, ravi d'être là"},
        ),
        "content", "lang",
    ),
    classify(
        "trec.csv",
        "label-coarse,text\n"
        "0,How did serfdom develop in and then leave Russia ?\n"
        "1,What films featured the character Popeye Doyle ?\n"
        "0,How can I find a list of celebrities' real names ?\n"
        "2,What fowl grabs the spotlight after the Chinese Year of the Monkey ?\n",
        "text", "label-coarse",
    ),
    classify(
        "multilabel.jsonl",
        jsonl(
            {"abstract": "We train deep networks on graphs.", "categories": ["cs.LG", "stat.ML"]},
            {"abstract": "A proof about prime gaps is given.", "categories": ["math.NT"]},
            {"abstract": "Language models learn syntax from text.", "categories": ["cs.CL", "cs.LG"]},
            {"abstract": "We bound the zeros of a zeta function.", "categories": ["math.NT"]},
        ),
        "abstract", "categories",
    ),
    classify(
        "go_emotions.tsv",
        "text\tlabels\n"
        "My favourite food is anything I didn't have to cook myself.\tjoy;love\n"
        "Now if he does off himself, everyone will think hes having a laugh\tanger\n"
        "WHY ARE THEY SO LOUD\tanger\n"
        "To make her feel threatened\tfear\n"
        "Dirty Southern Wankers, I love it\tjoy;love\n"
        "Yes I heard about that, how sad and frightening\tfear;anger\n"
        "We love it here by the lake\tlove\n"
        "So happy for you!\tjoy\n",
        "text", "labels",
    ),
    classify(
        "excel-export.csv",
        "Nr;Kommentar;Kategorie\n"
        "1;Die Lieferung kam drei Tage zu spät an;Versand\n"
        "2;Tolle Qualität und sehr netter Kontakt;Lob\n"
        "3;Das Paket war beschädigt und offen;Versand\n"
        "4;Gerne wieder, alles bestens gelaufen;Lob\n",
        "Kommentar", "Kategorie",
    ),
    classify(
        "avis.csv",
        "commentaire,note_texte\n"
        '"Le service était impeccable et la chambre propre",bon\n'
        '"Trop de bruit dans la rue, impossible de dormir",mauvais\n'
        '"Nous reviendrons avec plaisir cet été",bon\n'
        '"Petit déjeuner décevant et cher",mauvais\n',
        "commentaire", "note_texte",
    ),
    classify(
        "resenas.csv",
        "texto,etiqueta\n"
        "La comida llegó fría y tarde,negativo\n"
        "Excelente atención y muy buen precio,positivo\n"
        "No funciona desde el primer día,negativo\n"
        "Lo recomiendo a todo el mundo,positivo\n",
        "texto", "etiqueta",
    ),
    classify(
        "weibo.csv",
        "label,review\n"
        "1,这家餐厅的菜很好吃 服务也很好\n"
        "0,房间太小 而且很吵 不推荐\n"
        "1,非常满意 下次还会再来\n"
        "0,快递太慢了 客服也不回消息\n",
        "review", "label",
    ),
    classify(
        "otzyvy.csv",
        "отзыв,оценка_текстом\n"
        "Отличный фильм для всей семьи,хорошо\n"
        "Скучно и слишком длинно,плохо\n"
        "Актёры играют прекрасно,хорошо\n"
        "Зря потратил вечер,плохо\n",
        "отзыв", "оценка_текстом",
    ),
    classify(
        "fake-news.csv",
        ",title,text,label\n"
        "0,You Can Smell Fear,Daniel Greenfield is a fellow at a center in New York writing on Islam,FAKE\n"
        "1,Watch The Moment,Google pinterest reddit linkedin share the moment a speaker committed suicide,FAKE\n"
        "2,Kerry to go to Paris,U.S. Secretary of State said Monday that he will stop in Paris this week,REAL\n"
        "3,The Battle of New York,It's primary day in New York and front-runners are leading in the polls,REAL\n",
        "text", "label",
    ),
    classify(
        "clickbait.csv",
        "headline,clickbait\n"
        "Should I Get Bings,1\n"
        "Which TV Female Friend Group Do You Belong In,1\n"
        "Bill Changing Credit Card Rules Is Sent to Obama,0\n"
        "In Hollywood the Easy-Money Generation Toughens Up,0\n",
        "headline", "clickbait",
    ),
    classify(
        "medical.csv",
        "medical_specialty,transcription\n"
        "Surgery,The patient was placed in supine position and prepped in the usual fashion\n"
        "Cardiology,Normal left ventricular size with an ejection fraction of sixty percent\n"
        "Surgery,Under general anesthesia a midline incision was made and carried down\n"
        "Cardiology,Holter monitor shows sinus rhythm with rare ventricular beats\n",
        "transcription", "medical_specialty",
    ),
    classify(
        "books.csv",
        "title,author,genre,summary\n"
        "Dracula,Bram Stoker,horror,A solicitor travels to a castle in Transylvania to sell a house\n"
        "Emma,Jane Austen,romance,A young woman makes matches for her friends with little luck\n"
        "Carmilla,Sheridan Le Fanu,horror,A lonely girl befriends a guest who comes at night\n"
        "Persuasion,Jane Austen,romance,A woman meets the captain whom she once refused again\n",
        "summary", "genre",
    ),
    classify(
        "commits.csv",
        "hash,message,type\n"
        "a1b2c3d,Fix crash when the file is empty,fix\n"
        "b2c3d4e,Add a command that prints the version,feat\n"
        "c3d4e5f,Correct the sign of the gradient penalty,fix\n"
        "d4e5f6a,Support reading of compressed files,feat\n",
        "message", "type",
    ),
    classify(
        "emails.csv",
        "Subject,Body,Is_Spam\n"
        "Invoice 42,Please find attached the invoice for last month,0\n"
        "You won!!!,Claim your prize now by clicking on this link,1\n"
        "Lunch?,Shall we meet at noon in front of the library,0\n"
        "Cheap pills,Best prices on the market and no prescription,1\n",
        "Body", "Is_Spam",
    ),
    classify(
        "chat-rating.jsonl",
        jsonl(
            {"prompt": "Explain gravity to a child, please.", "language": "English"},
            {"prompt": "Erkläre mir die Schwerkraft wie einem Kind.", "language": "German"},
            {"prompt": "Write a limerick about cats and hats.", "language": "English"},
            {"prompt": "Schreibe ein Gedicht über das Meer.", "language": "German"},
        ),
        "prompt", "language",
    ),
    classify(
        "sections.csv",
        "paragraph text,section\n"
        "We thank the reviewers for their careful reading of the draft,acknowledgments\n"
        "We propose a method that scales to millions of examples,introduction\n"
        "Our results suggest that width matters more than depth,discussion\n"
        "Deep networks have been used with success in vision,introduction\n",
        "paragraph text", "section",
    ),
    # Texts and a number.
    score(
        "readability.csv",
        "id,excerpt_text,readability\n"
        "c12129c31,When the young people returned to the ballroom it presented a changed look,-0.3403\n"
        "85aa80a4c,All through dinner time Mrs. Fayre was somewhat silent,-0.3154\n"
        "b69ac6792,As Roger had predicted the snow departed as quickly as it came,-0.5801\n"
        "dd1000b26,And outside before the palace a great garden was walled round,-1.0544\n"
        "37c1b32fb,Once upon a time there were Three Bears who lived together,0.2472\n"
        "f9bf357fe,Hal and Chester found ample time to take an inventory,-0.8618\n",
        "readability", "excerpt_text",
    ),
    score(
        "essays.csv",
        "essay_text,score\n"
        '"Computers help people learn about faraway places, I think",8\n'
        '"Some say that computers are bad for us and I agree",9\n'
        '"The effects of computers on people are many and large",7\n'
        '"Do you like computers, I do and here is why",10\n',
        "score", "essay_text",
    ),
    score(
        "houses.csv",
        "description,price\n"
        "Charming cottage near the lake with two bedrooms,249000.50\n"
        "Modern flat in the center with a view of the river,312500.00\n"
        "Old farmhouse with a barn and an apple orchard,189999.99\n"
        "Studio for students close to the university campus,99000.25\n"
        "Villa with a pool and a garden of two acres,875000.75\n"
        "Terraced house in a quiet street with a garage,265500.10\n",
        "price", "description",
    ),
    score(
        "wine.csv",
        "country,description,points,variety\n"
        "Italy,Aromas include tropical fruit and broom with brimstone and dried herb,87.5,White Blend\n"
        "Portugal,This is ripe and fruity and smooth while still being structured,87.1,Portuguese Red\n"
        "US,Tart and snappy the flavors of lime flesh and rind dominate,86.9,Pinot Gris\n"
        "US,Pineapple rind and lemon pith and orange blossom start off the aromas,88.2,Riesling\n"
        "Spain,Blackberry and raspberry aromas show a typical Navarran whiff,91.4,Tempranillo\n"
        "Italy,Here's a bright informal red that opens with candied berry,90.3,Frappato\n",
        "points", "description",
    ),
    score(
        "sts.csv",
        "genre,score,sentence1,sentence2\n"
        "main-captions,5.000,A plane is taking off.,An air plane is taking off.\n"
        "main-captions,3.800,A man is playing a large flute.,A man is playing a flute.\n"
        "main-news,0.500,The market fell on Monday.,A girl is brushing her hair.\n"
        "main-news,4.250,Three men are playing chess.,Two men are playing chess.\n",
        "score", "sentence1", "sentence2",
    ),
    score(
        "sick.tsv",
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n"
        "1\tA group of kids is playing in a yard\tA group of boys in a yard is playing\t4.5\n"
        "2\tA group of children is in the house\tA group of kids is playing in a yard\t3.2\n"
        "3\tThe young boys are playing outdoors\tThe kids are playing outdoors near a man\t4.7\n"
        "5\tThe kids are playing outdoors\tA brown dog is attacking another animal\t1.4\n",
        "relatedness_score", "sentence_A", "sentence_B",
    ),
    score(
        "stsb.tsv",
        "main-captions\tMSRvid\t2012test\t0001\t5.000\tA plane is taking off.\tAn air plane is taking off.\n"
        "main-captions\tMSRvid\t2012test\t0004\t3.800\tA man is playing a flute.\tA man is playing a bamboo flute.\n"
        "main-news\theadlines\t2013\t0009\t1.200\tStocks fall on weak data today.\tA cat sits on the warm window sill.\n"
        "main-news\theadlines\t2013\t0011\t4.750\tThree men are playing chess.\tTwo men are playing chess here.\n",
        "column5", "column6", "column7",
    ),
    score(
        "search.csv",
        "query,document,relevance_score\n"
        "blue running shoes,Light running shoes in blue for men and women,2.67\n"
        "garden hose,Kitchen faucet of brushed steel with a hose,1.33\n"
        "led bulb,Warm white LED bulb of nine watts in a pack of four,3.00\n"
        "angle bracket,Zinc angle bracket for wooden posts and beams,2.33\n",
        "relevance_score", "query", "document",
    ),
    score(
        "summaries.jsonl",
        jsonl(
            {"text_1": "The council voted to close the school.", "text_2": "School to be closed.", "grade": 4.5},
            {"text_1": "A storm hit the coast on Friday night.", "text_2": "It was a sunny day.", "grade": 0.5},
            {"text_1": "The team won the cup after extra time.", "text_2": "Cup won late by team.", "grade": 4.0},
        ),
        "grade", "text_1", "text_2",
    ),
    # Pairs of texts.
    translate(
        "tatoeba.tsv",
        "Go on.\tGeh weiter.\nRun home!\tLauf heim!\nI see it.\tIch sehe es.\nWait here.\tWarte hier.\n",
        "column1", "column2",
    ),
    translate(
        "en-fr.csv",
        "en,fr\n"
        "The cat sleeps on the sofa.,Le chat dort sur le canapé.\n"
        "Where is the station?,Où est la gare ?\n"
        "I would like a coffee.,Je voudrais un café.\n",
        "en", "fr",
    ),
    translate(
        "subtitles.csv",
        "English words/sentences,French words/sentences\n"
        "Good morning to you all,Bonjour à vous tous\n"
        "See you tomorrow evening,À demain soir alors\n"
        "I lost my keys again,J'ai encore perdu mes clés\n",
        "English words/sentences", "French words/sentences",
    ),
    translate(
        "mt.jsonl",
        jsonl(
            {"src": "Das Haus ist groß und alt.", "tgt": "The house is large and old."},
            {"src": "Ich habe keine Zeit dafür.", "tgt": "I have no time for that."},
            {"src": "Wo liegt der Bahnhof hier?", "tgt": "Where is the station here?"},
        ),
        "src", "tgt",
    ),
    translate(
        "tgt-first.csv",
        "target,source\nEin kleines Boot,A small boat\nZwei rote Äpfel,Two red apples\nDrei alte Bäume,Three old trees\n",
        "source", "target",
    ),
    translate(
        "chat.jsonl",
        jsonl(
            {"input": "What is the capital of France?", "output": "The capital of France is Paris."},
            {"input": "Name three primary colors.", "output": "Red, yellow and blue."},
            {"input": "Give a synonym of happy.", "output": "Cheerful is one."},
        ),
        "input", "output",
    ),
    translate(
        "qa.csv",
        "question,answer\n"
        "Who wrote Hamlet?,It was written by William Shakespeare\n"
        "How far is the moon?,About three hundred eighty-four thousand kilometers\n"
        "What do bees make?,They make honey and wax\n",
        "question", "answer",
    ),
    translate(
        "spanish.tsv",
        "Spanish\tEnglish\nBuenos días a todos\tGood morning everybody\n¿Cómo te llamas tú?\tWhat is your name?\n"
        "Tengo mucha hambre\tI am very hungry\n",
        "Spanish", "English",
    ),
    translate(
        "japanese.csv",
        "ja,en\nこれは ペン です,This is a pen\n今日は いい 天気 です,Nice weather today\n駅は どこ ですか,Where is the station\n",
        "ja", "en",
    ),
    # Words and tags.
    tag(
        "ner.conll",
        "EU B-ORG\nrejects O\nGerman B-MISC\ncall O\n\nPeter B-PER\nBlackburn I-PER\n\n",
    ),
    tag(
        "wnut.conll",
        "@paulwalk\tO\nIt\tO\n's\tO\nEmpire\tB-location\nState\tI-location\n\nESB\tB-location\n\t\nToday\tO\nis\tO\n\n",
    ),
    tag(
        "en.conllu",
        "# text = Dogs bark.\n1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t_\t_\n"
        "3\t.\t.\tPUNCT\t.\t_\t2\tpunct\t_\t_\n\n",
        "tokens", "upos",
    ),
    tag(
        "conll2003.jsonl",
        jsonl(
            {"id": "0", "tokens": ["EU", "rejects", "call"], "pos_tags": [22, 42, 21], "ner_tags": [3, 0, 0]},
            {"id": "1", "tokens": ["Peter", "Blackburn"], "pos_tags": [22, 22], "ner_tags": [1, 2]},
        ),
        "tokens", "ner_tags",
    ),
    tag(
        "slots.jsonl",
        jsonl(
            {"words": ["play", "jazz"], "slots": ["O", "B-genre"], "intent": "PlayMusic"},
            {"words": ["rain", "in", "Oslo"], "slots": ["O", "O", "B-city"], "intent": "GetWeather"},
        ),
        "words", "slots",
    ),
    # Numbers in the order of time.
    forecast(
        "airline.csv",
        "Month,Passengers\n1949-01,112\n1949-02,118\n1949-03,132\n1949-04,129\n",
        "Passengers", time="Month",
    ),
    forecast(
        "stock.csv",
        "Date,Open,High,Low,Close,Volume\n2024-01-02,187.15,188.44,183.89,185.64,82488700\n"
        "2024-01-03,184.22,185.88,183.43,184.25,58414500\n2024-01-04,182.15,183.09,180.88,181.91,71983600\n",
        "Open", "High", "Low", "Close", "Volume", time="Date",
    ),
    forecast(
        "sensor.csv",
        "timestamp,temperature,humidity\n2024-05-01 00:00:00,18.2,55\n2024-05-01 00:10:00,18.1,56\n"
        "2024-05-01 00:20:00,17.9,54\n",
        "temperature", "humidity", time="timestamp",
    ),
    forecast(
        "sunspots.csv", "year,sunspots\n1700,5.0\n1701,11.0\n1702,16.0\n1703,9.0\n", "sunspots", time="year",
    ),
    forecast("log.jsonl", jsonl({"t": 1, "load": 0.5}, {"t": 2, "load": 0.7}, {"t": 3, "load": 0.4}), "load", time="t"),
    forecast("values.csv", "value\n3.1\n2.9\n3.4\n3.0\n", "value"),
    forecast(
        "temperatures.csv", "Datum;Temperatur\n01.01.2024;3.5\n02.01.2024;4.1\n03.01.2024;2.8\n", "Temperatur", time="Datum",
    ),
    forecast("eeg.csv", "ch1,ch2,ch3\n0.12,-0.5,0.33\n0.15,-0.4,0.31\n0.11,-0.45,0.36\n", "ch1", "ch2", "ch3"),
    forecast(
        "births.csv", "Date,Births\n1959-01-01,35\n1959-01-02,32\n1959-01-03,30\n1959-01-04,31\n", "Births", time="Date",
    ),
    # Texts alone.
    language("shakespeare.txt", "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n"),
    language("poems.csv", "text\nThe river bends below the hill\nA heron waits beside the mill\nThe water runs and stands still\n"),
    language(
        "docs.jsonl",
        jsonl(
            {"id": 1, "text": "A long article about the history of dams."},
            {"id": 2, "text": "Another one, about salmon and their ladders."},
            {"id": 3, "text": "A third, about barges on the canal."},
        ),
    ),
    language("abstracts.csv", "abstract\nWe study rivers and their beds.\nWe measure flow by sound.\n", "abstract"),
]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_a_file_is_understood(tmp_path, file):
    path = tmp_path / file.name
    is_table = file.name.endswith(("csv", "tsv", "jsonl"))
    grows = is_table and file.task in ("classify", "score", "translate")
    path.write_text(grown(file) if grows else file.content, encoding="utf-8")
    source = open_source(path)
    task, sentence = guess_task(source, names.all_task_columns())
    assert task.task == file.task, sentence
    assert sentence.startswith(f"Task {file.task}: ")
    assert sentence.endswith("--task chooses another.")
    choice = choose_columns(source, task)
    found = {**choice.columns, **({"series": choice.series} if choice.series else {})}
    assert found == file.columns, choice.sentence
    if len(source.columns) > 1:
        assert all(repr(column) in choice.sentence for column in [*choice.columns.values(), *choice.series])


def test_the_table_is_long():
    assert len(FILES) >= 60
    assert {file.task for file in FILES} == set(names.TASKS)


@pytest.mark.parametrize("name", SAMPLES)
def test_built_in_sets_are_understood(name):
    sample = SAMPLES[name]
    task, _ = guess_task(sample, names.all_task_columns())
    assert names.task_spec(task.task).sample == name
    choice = choose_columns(sample, task)
    assert {*choice.columns.values(), *choice.series} == set(sample.columns)
