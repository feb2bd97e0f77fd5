"""A classifier that learns from one row at a time."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, final

import numpy as np
import torch

from thalweg.data.text.hashing import HashingOptions
from thalweg.models.hashed import HashedTable, softmax_loss
from thalweg.online.hashed_rows import Features, RowHasher
from thalweg.online.progress import Outcome, Progress
from thalweg.online.state import BIAS_STEP, Shared, check_steps, class_name, load_state, save_state


@final
class OnlineClassifier:
    """A softmax classifier over hashed features that learns one row at a time, in memory with a fixed upper bound.

    p(c | row) = exp(z_c) / sum_j exp(z_j),  z = bias + sum_i x_i W[b_i]

    over the features b_i, x_i of `RowHasher`, learned by the AdaGrad of `HashedTable` with step `lr` log2(C) for C
    classes: more classes need larger logits. A class is added when it first comes. Its weights start at 0 and its bias
    so that without other evidence its probability is one among the examples seen, 1/(n+1).

    No random numbers are drawn: the same rows in the same order give the same weights.

    Args:
        num_buckets: number of hashed features, the budget for words, >= 2.
        ngrams: 1 for words, 2 for words and pairs of adjacent words.
        lr: step size, above 0.
        l2: the loss has the term l2/2 times the squared weights of the example's features, >= 0.
        max_classes: the budget for classes, >= 2; the table holds at most num_buckets * max_classes * 4 bytes and a
            little (268 MB for the defaults), and only what has come.
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
        when the data are all there from the start and order in words matters: a network trained in several passes is
        better.
    """

    kind = "classify"

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
        check_steps("OnlineClassifier", lr, l2)
        if max_classes < 2:
            raise ValueError(f"OnlineClassifier(max_classes=...) must be 2 or more; got {max_classes}.")
        options = HashingOptions(num_buckets=num_buckets, ngrams=ngrams, columns=columns)
        self.lr = lr
        self.l2 = l2
        self.max_classes = max_classes
        self.classes: list[str] = []
        self.label_column: str | None = None
        self.progress = Progress()
        self._normalize = normalize
        self._hasher = RowHasher(options, normalize)
        self._table = HashedTable(num_buckets, 2)
        self._numbers: dict[str, int] = {}
        self._bias = np.full(2, -np.inf, dtype=np.float32)  # a class that doesn't exist has the logit -inf
        self._bias_squares = 0.0
        self._num_learned = 0
        self._step = lr

    @property
    def num_features(self) -> int:
        """How many buckets have been learned."""
        return self._table.num_rows - 1

    @property
    def num_bytes(self) -> int:
        """Memory of the weights as they are."""
        return self._table.num_bytes

    def predict(self, row: str | Mapping[str, object]) -> tuple[str | None, dict[str, float]]:
        """Return the likeliest class and all classes' probabilities; nothing changes.

        Args:
            row: a text, or values by column (without the label).

        Returns:
            label (None while no class is known) and probabilities, which sum to 1.

        Raises:
            InputError: if the row can't be read, such as a number that is not finite.
        """
        features = self._hasher.features(row)
        if not self.classes:
            return None, {}
        _, _, logits = self._forward(features)
        probabilities, _, _ = softmax_loss(logits.astype(np.float64), 0)
        best = int(logits.argmax())
        return self.classes[best], dict(zip(self.classes, probabilities.tolist(), strict=False))

    def learn(self, row: str | Mapping[str, object], label: object) -> Outcome:
        """Predict a row, then learn from its label.

        Args:
            row: a text, or values by column (without the label).
            label: a text, a number or true/false.

        Returns:
            What was predicted before learning.

        Raises:
            InputError: if the row or its label can't be read; then nothing has changed.
        """
        name = class_name(label)
        features = self._hasher.features(row)
        slots, rows, logits = self._forward(features)
        prediction = self.classes[int(logits.argmax())] if self.classes else None
        target = self._numbers.get(name)
        if target is None:
            if len(self.classes) >= self.max_classes:
                return Outcome(prediction, 0.0, math.inf, False, features.truncated)
            target = self._add_class(name)
            slots, rows, logits = self._forward(features)
        probabilities, loss, gradient = softmax_loss(logits, target)
        probability = float(probabilities[target])
        step = self._step
        self._table.learn(features.buckets, features.values, slots, rows, gradient=gradient, step=step, l2=self.l2)
        self._bias_squares += float(gradient.dot(gradient))
        bias_step = step * (BIAS_STEP if features.has_text else 1.0)
        self._bias -= gradient * (bias_step / math.sqrt(self._bias_squares + 1e-8))
        self._num_learned += 1
        self._hasher.observe(features)
        return Outcome(prediction, probability, loss, True, features.truncated)

    def save(self, folder: str | Path) -> None:
        """Save as a whole or not at all; the one saved before stays until this one is in place (and one longer)."""
        own = {
            "max_classes": self.max_classes,
            "classes": self.classes,
            "bias": torch.from_numpy(self._bias),
            "bias_squares": self._bias_squares,
            "num_learned": self._num_learned,
        }
        shared = Shared(self.kind, self.lr, self.l2, self.label_column, self.progress, self._normalize is str.lower)
        save_state(folder, shared, self._hasher, self._table, own)

    @classmethod
    def load(cls, folder: str | Path, normalize: Callable[[str], str] = str.lower) -> Self:
        """Load what `save` saved; learning goes on exactly as if it had never stopped.

        Args:
            folder: the folder given to `save`.
            normalize: the same as when it was made (a function can't be saved).

        Raises:
            InputError: if nothing is there, a file is damaged, or it was saved with another `normalize`.
        """
        state = load_state(folder, cls.kind, normalize is str.lower)
        options, own = state.options, state.own
        model = cls(
            options.num_buckets,
            options.ngrams,
            state.shared.lr,
            state.shared.l2,
            max_classes=own["max_classes"],
            normalize=normalize,
            columns=options.columns,
        )
        state.restore(model._hasher, model._table)
        model.label_column, model.progress = state.shared.label_column, state.shared.progress
        model.classes = own["classes"]
        model._numbers = {name: number for number, name in enumerate(model.classes)}
        model._bias, model._bias_squares = own["bias"].numpy(), own["bias_squares"]
        model._num_learned = own["num_learned"]
        model._step = model.lr * math.log2(max(2, len(model.classes)))
        return model

    def _forward(self, features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        slots, rows = self._table.gather(features.buckets)
        logits = features.values.dot(rows)
        logits += self._bias
        return slots, rows, logits

    def _add_class(self, name: str) -> int:
        """Add a class with the prior of one example among those learned, and return its number."""
        number = len(self.classes)
        if number == len(self._bias):
            width = min(2 * number, self.max_classes)
            self._table.widen(width)
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
        self._step = self.lr * math.log2(max(2, number + 1))
        return number
