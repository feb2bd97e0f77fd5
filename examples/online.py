"""Learn from a stream: each row is predicted first and learned afterwards, so the running score is an honest one.

After 1,024 rows the two desks swap their work; the score since the last record shows it.
"""

import random
from collections.abc import Iterator

from thalweg.online import OnlineClassifier, learn_online, load_online

WORDS = {"billing": ["invoice", "refund", "card", "charge"], "support": ["crash", "error", "login", "screen"]}
SWAPPED = {"billing": "support", "support": "billing"}


def tickets(num_rows: int, change_after: int) -> Iterator[dict[str, str]]:
    """Give tickets with two words of a topic and the desk that answers them."""
    draw = random.Random(0)
    for number in range(num_rows):
        topic = draw.choice(sorted(WORDS))
        first, second = draw.sample(WORDS[topic], 2)
        desk = topic if number < change_after else SWAPPED[topic]
        yield {"text": f"please help with the {first} and the {second}", "desk": desk}


def main() -> None:
    model = OnlineClassifier()
    for record in learn_online(tickets(5000, 1024), model, label_column="desk", save_folder="desks"):
        if record.num_rows >= 256:
            scores = f"accuracy {record.score:.3f} in all, {record.score_since:.3f} since the last record"
            print(f"{record.num_rows:5,} rows: {scores}")
    restored = load_online("desks")
    assert isinstance(restored, OnlineClassifier)  # a stream of numbers gives an OnlineRegressor
    label, probabilities = restored.predict("the login screen is blank")
    assert label is not None  # only a model that has seen no label answers with none
    print(f"{label} ({probabilities[label]:.2f}), after {restored.progress.num_rows:,} rows")


if __name__ == "__main__":
    main()
