"""One definition of a word: every reader of text finds the same ones, in any script."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from thalweg.data.text.hashing import HashingOptions, TextHasher, stable_hash
from thalweg.data.text.tokenizer import SPECIALS, Tokenizer
from thalweg.data.text.word_index import word_hashes
from thalweg.data.text.words import PATTERN, is_running_text, split_tokens, split_words

LIBRARY = pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True)


def words_of_library(text: str) -> list[str]:
    return [word for word, _ in LIBRARY.pre_tokenize_str(text)]


SCRIPTS = {
    "English": ("It's 3 pm.", ["It", "'", "s", "3", "pm", "."]),
    "French": ("l\u2019été, déjà\u00a0là", ["l", "\u2019", "été", ",", "déjà", "là"]),
    "Greek": ("Καλημέρα· τι κάνεις;", ["Καλημέρα", "·", "τι", "κάνεις", ";"]),
    "Russian": ("«Привет, мир!» — ёлка", ["«", "Привет", ",", "мир", "!", "»", "—", "ёлка"]),
    "Arabic": ("مَرْحَبًا، كيف حالك؟", ["مَرْحَبًا", "،", "كيف", "حالك", "؟"]),
    "Hebrew": ("שָׁלוֹם, מה־נשמע?", ["שָׁלוֹם", ",", "מה", "־", "נשמע", "?"]),
    "Hindi": ("नमस्ते दुनिया। कैसे हो?", ["नमस्ते", "दुनिया", "।", "कैसे", "हो", "?"]),
    "Bengali": ("আমি বাংলায় গান গাই।", ["আমি", "বাংলায়", "গান", "গাই", "।"]),
    "Tamil": ("வணக்கம், நண்பர்களே!", ["வணக்கம்", ",", "நண்பர்களே", "!"]),
    "Thai": ("สวัสดีครับ ผมชื่อสมชาย", ["สวัสดีครับ", "ผมชื่อสมชาย"]),
    "Chinese": ("我爱2本书，真的。", ["我", "爱", "2", "本", "书", "，", "真", "的", "。"]),
    "Japanese": ("日本語 is ペン", ["日", "本", "語", "is", "ペ", "ン"]),
    "Korean": ("안녕하세요, 세계!", ["안녕하세요", ",", "세계", "!"]),
    "emoji": ("👍🏽❤\ufe0f!?", ["👍", "🏽", "❤", "!", "?"]),
    "combining marks": ("état\u00a0e\u0301te\u0301", ["état", "e\u0301te\u0301"]),
    "digits": ("१२ ٣٤ 5,600.7", ["१२", "٣٤", "5", ",", "600", ".", "7"]),
    "a URL": ("https://a.org/b_c?d=1", ["https", ":", "/", "/", "a", ".", "org", "/", "b_c", "?", "d", "=", "1"]),
    "invisible characters": ("a\x00b\ufeffc\u200bd \t\n", ["a", "b", "c", "d"]),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_reader_finds_the_same_words(script):
    text, words = SCRIPTS[script]
    assert split_words(text) == words
    assert words_of_library(text) == words
    hashed = word_hashes([text, "", text])
    assert [hashed.word(i) for i in range(len(hashed.hashes))] == words * 2
    tokenizer = Tokenizer.train([text], "word")
    assert [tokenizer.token(index) for index in tokenizer.encode(text)] == words
    assert tokenizer.vocabulary_size == len(SPECIALS) + len(set(words))
    buckets, _, _ = TextHasher(HashingOptions(ngrams=1), normalize=str)(text)
    assert buckets.tolist() == list(dict.fromkeys(stable_hash(word) % 2**18 for word in words))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_words_are_those_of_the_library_with_the_same_pattern(text):
    assert split_words(text) == words_of_library(text)


def test_every_character_is_classed_alike_by_both_patterns():
    # Beyond these planes there are tags (which begin at U+E0000) and private characters only.
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x20000, 0x110000, 97)]
    text = "".join(f"a{chr(code)}" for code in codes)
    assert split_words(text) == words_of_library(text)


def test_half_a_surrogate_pair_is_no_part_of_a_word():
    assert split_words("a\ud800b") == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's well-known: 3.5 of 1,000!", ["It's", "well-known", ":", "3.5", "of", "1,000", "!"]),
        ("rock 'n' roll-", ["rock", "'", "n", "'", "roll", "-"]),
        ("नमस्ते दुनिया। 日本", ["नमस्ते", "दुनिया", "।", "日", "本"]),
    ],
)
def test_taggers_keep_compounds_and_numbers_whole(text, tokens):
    assert split_tokens(text) == tokens


def test_sentences_are_told_from_names_with_and_without_spaces():
    texts = ["a film", "今天天气很好我们去河边", "とてもいいえいがです"]
    names = ["film", "user17", "2024-05-31", "https://a.org/b", "乌鲁木齐市", "naïveté-déjàvu", "", "  x "]
    assert [is_running_text(text) for text in texts] == [True] * 3
    assert [is_running_text(name) for name in names] == [False] * 8


def test_ascii_words_are_those_that_everyone_expects():
    generator = np.random.default_rng(0)
    text = "".join(map(chr, generator.integers(0x20, 0x7F, 10_000)))
    assert split_words(text) == re.findall(r"\w+|[^\w\s]", text)
