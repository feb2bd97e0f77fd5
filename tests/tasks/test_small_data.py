"""A handful of rows: most of them are for training."""

import pytest

from thalweg import names
from thalweg.data.files.sources import open_source
from thalweg.tasks.base import Settings

ROWS = {
    "classify": ("text,label", lambda i: f"text number {i},{'ab'[i % 2]}", {"text": "text", "label": "label"}),
    "score": ("text,score", lambda i: f"text number {i // 2},{i % 3}", {"text": "text", "number": "score"}),
    "translate": ("en,de", lambda i: f"text number {i},Text Nummer {i}", {"source": "en", "target": "de"}),
    "tag": ("tokens,tags", lambda i: f"text number {i},X {'YZ'[i % 2]} X", {"tokens": "tokens", "tags": "tags"}),
}  # fmt: skip


@pytest.mark.parametrize("task", ROWS)
def test_a_few_rows_leave_most_of_them_for_training(tmp_path, task):
    header, row, columns = ROWS[task]
    settings = Settings(
        columns=columns, valid_share=0.1, normalize=(), tokenizer="word", vocabulary_size=100, bigrams=0, max_length=8,
        lags=0, scaling="none", layout="padded",
    )  # fmt: skip
    path = tmp_path / "few.csv"
    sizes = []
    for start in range(0, 200, 10):
        path.write_text("\n".join([header, *(row(i) for i in range(start, start + 8))]) + "\n")
        _, data = names.task_class(task).prepare(open_source(path), None, settings)
        sizes.append(len(data.valid))
        assert len(data.train) + len(data.valid) == 8
    assert min(sizes) >= 1
    assert sum(sizes) / len(sizes) <= 2.5, "a fraction of a tenth of 8 rows"
