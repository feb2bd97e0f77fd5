"""A classifier that learns from one row at a time."""

import math
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from typing_extensions import override

from thalweg.data.text.hashing import HashingOptions
from thalweg.models.hashed import softmax_loss
from thalweg.online.base import AbstractOnlineModel, HashedLinear, Row
from thalweg.online.progress import Outcome, Tally
from thalweg.online.values import class_name


@final
class OnlineClassifier(AbstractOnlineModel):
    """A softmax classifier over hashed features that learns one row at a time, in memory with a fixed upper bound.

    p(c | row) = exp(z_c) / sum_j exp(z_j),  z = bias + sum_i x_i W[b_i]

    over the features b_i, x_i of `RowHasher`, learned by the AdaGrad of `HashedTable` with step `lr` log2(C) for C
    classes: more classes need larger logits. A class is added when it first comes. Its weights start at 0 and its bias
    so that without other evidence its probability is one among the examples seen, 1/(n+1).

    No random numbers are drawn: the same rows in the same order give the same weights.

    Args:
        num_buckets: number of hashed features, >= 2.
        ngrams: 1 for words, 2 for words and bigrams.
        lr: step size, above 0.
        l2: the loss has the term l2/2 times the squared weights of the example's features, >= 0.
        max_classes: maximum number of classes, >= 2; the table takes at most num_buckets * max_classes * 4 bytes and a
            little more (268 MB for the defaults), and only for what has come.
        normalize: what is done to a text before it is split into words.
        columns: the columns that are read; None for all (but the label).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> model = OnlineClassifier()
        >>> for _ in range(3):
        ...     model.learn("what a fine river", "good").learned, model.learn("mud and flies", "bad").learned
        (True, True)
        (True, True)
        (True, True)
        >>> label, probabilities = model.predict("a fine day")
        >>> label, sorted(probabilities), round(sum(probabilities.values()), 6)
        ('good', ['bad', 'good'], 1.0)

    Source:
        Duchi, Hazan and Singer (2011), Adaptive subgradient methods for online learning and stochastic optimization;
        Weinberger and others (2009), Feature hashing for large scale multitask learning.

    When not to use it:
        when all data are available from the start and word order matters: a network trained in several passes is
        better.
    """

    kind = "classifier"
    score_name = "accuracy"
    label_role = "label"

    def __init__(
        self,
        num_buckets: int = 2**18,
        ngrams: int = 2,
        lr: float = 0.7,
        l2: float = 0.0,
        *,
        max_classes: int = 256,
        normalize: Callable[[str], str] = str.lower,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        options = HashingOptions(num_buckets=num_buckets, ngrams=ngrams, columns=columns)
        self._begin(HashedLinear("OnlineClassifier", options, 2, lr, l2, normalize))
        if max_classes < 2:
            raise ValueError(f"OnlineClassifier(max_classes=...) must be 2 or more; got {max_classes}.")
        self._arguments["max_classes"] = self.max_classes = max_classes
        self.classes: list[str] = []
        self._numbers: dict[str, int] = {}
        self._bias = np.full(2, -np.inf, dtype=np.float32)  # a class that doesn't exist has the logit -inf
        self._num_learned = 0
        self._step = lr

    def predict(self, row: Row) -> tuple[str | None, dict[str, float]]:
        """Return the most probable class and the probabilities of all classes; nothing changes.

        Args:
            row: a text, or values by column (without the label).

        Returns:
            label (None while no class is known) and probabilities, which sum to 1.

        Raises:
            InputError: if the row can't be read, such as a number that is not finite.
        """
        features = self._linear.hasher.features(row)
        if not self.classes:
            return None, {}
        logits = self._linear.outputs(features)[2] + self._bias
        probabilities, _, _ = softmax_loss(logits.astype(np.float64), 0)
        best = int(logits.argmax())
        return self.classes[best], dict(zip(self.classes, probabilities.tolist(), strict=False))

    def learn(self, row: Row, label: object) -> Outcome:
        """Predict a row, then learn from its label.

        Args:
            row: a text, or values by column (without the label).
            label: a text, a number or true/false.

        Returns:
            What was predicted before learning.

        Raises:
            InputError: if the row or its label can't be read; then nothing has changed.
        """
        linear = self._linear
        name = class_name(label)
        features = linear.hasher.features(row)
        slots, rows, logits = linear.outputs(features)
        logits += self._bias
        prediction = self.classes[int(logits.argmax())] if self.classes else None
        target = self._numbers.get(name)
        if target is None:
            if len(self.classes) >= self.max_classes:
                return Outcome(prediction, 0.0, math.inf, False, features.truncated)
            target = self._add_class(name)
            slots, rows, logits = linear.outputs(features)
            logits += self._bias
        probabilities, loss, gradient = softmax_loss(logits, target)
        probability = float(probabilities[target])
        self._bias -= gradient * linear.learn(features, slots, rows, gradient, self._step)
        self._num_learned += 1
        linear.hasher.observe(features)
        return Outcome(prediction, probability, loss, True, features.truncated)

    @override
    def count(self, outcome: Outcome, label: object) -> None:
        self.progress.count_class(outcome, class_name(label))

    @override
    def scores(self, tally: Tally) -> tuple[float, float, float]:
        return tally.fraction(tally.right), tally.fraction(tally.frequent), tally.fraction(tally.repeated)

    @override
    def _state(self) -> dict[str, Any]:
        return {"classes": self.classes, "bias": torch.from_numpy(self._bias), "num_learned": self._num_learned}

    @override
    def _restore(self, state: dict[str, Any]) -> None:
        self.classes = state["classes"]
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        self._bias, self._num_learned = state["bias"].numpy(), state["num_learned"]
        self._step = self._linear.lr * math.log2(max(2, len(self.classes)))

    def _add_class(self, name: str) -> int:
        """Add a class with the prior of one example among those learned, and return its number."""
        number = len(self.classes)
        if number == len(self._bias):
            width = min(2 * number, self.max_classes)
            self._linear.table.widen(width)
            wider = np.full(width, -np.inf, dtype=np.float32)
            wider[:number] = self._bias
            self._bias = wider
        if number:
            others = self._bias[:number].astype(np.float64)
            top = others.max()
            total = float(top) + math.log(float(np.exp(others - top).sum()))
            self._bias[number] = total - math.log(max(1, self._num_learned))
        else:
            self._bias[number] = 0.0
        self._numbers[name] = number
        self.classes.append(name)
        self._step = self._linear.lr * math.log2(max(2, number + 1))
        return number
