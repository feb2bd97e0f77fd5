"""What libraries raise."""

import pytest

from thalweg.data.text.subwords.library import guarded, whole


class Panic(BaseException):
    """As the library's own."""


def failing(error):
    raise error


def test_whatever_a_library_raises_is_told_and_people_can_still_interrupt():
    assert guarded(lambda: 3, "count") == 3
    for error in (Panic("x" * 300), RuntimeError("no")):
        with pytest.raises(ValueError, match=r"the tokenizer cannot count: (x{200}|no)$"):
            guarded(lambda error=error: failing(error), "count")
    with pytest.raises(KeyboardInterrupt):
        guarded(lambda: failing(KeyboardInterrupt()), "count")


def test_half_a_character_is_a_question_mark():
    assert whole("é\ud800x") == "é?x"
