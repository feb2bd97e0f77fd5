"""What a diagnosis looks at: networks, batches, the history of their training, and what is known of the setting."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective

Networks = tuple[nn.Module, AbstractHead]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a training's setting; None (or "") is unknown, and rules that need it are silent.

    Args:
        task: such as "classify"; "" in a loop of one's own.
        model: name of the model, such as "lstm"; "" in a loop of one's own.
        family: kind of network by its modules: "linear", "mlp", "recurrent", "transformer" or "other".
        optimizer: its name in lower case, such as "adamw".
        lr: peak learning rate of the first group.
        momentum: of the first group (beta 1 of Adam and its kin).
        weight_decay: of the optimizer, decoupled or not.
        l2: penalty in the loss.
        clip: norm to which gradients are clipped; 0 for none.
        batch_size: examples a step takes; 0: all.
        full_batch: whether every step sees all training data.
        dropout: the largest dropout probability among the modules.
        schedule: its name.
        precision: type of the weights ("float32") or, with autocast, of the forward pass.
        width: size of the hidden states that the head reads.
        steps: steps taken.
        steps_per_epoch: steps that see all data once.
        num_train: training examples.
        num_valid: validation examples.
        num_classes: where the answer is one class of these.
        is_fresh: whether all weights began at random, not from another training.
        is_proved: whether the optimizer proves its optimum (a solver of linear models).
        options: all options of the recipe by name, where there is one.
    """

    task: str = ""
    model: str = ""
    family: str = "other"
    optimizer: str = ""
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    l2: float = 0.0
    clip: float | None = None
    batch_size: int | None = None
    full_batch: bool = False
    dropout: float = 0.0
    schedule: str = ""
    precision: str = "float32"
    width: int | None = None
    steps: int | None = None
    steps_per_epoch: int | None = None
    num_train: int | None = None
    num_valid: int | None = None
    num_classes: int | None = None
    is_fresh: bool = False
    is_proved: bool = False
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What is known of the data beyond the batches; plain values, None where unknown.

    Args:
        label_names: of the classes.
        valid_in_train: fraction of the validation examples whose text is trained on.
        duplicates: fraction of the training texts that repeat an earlier one.
        conflicts: fraction of the training examples whose text comes with different answers.
        columns: for each numeric column its name and its figures (mean, deviation, minimum, maximum, skewness).
        texts: of a training example by its index, for showing; None where there are none.
        lines: of the file, likewise.
        rows: indices of the training examples in the subject's training batches, one after the other.
    """

    label_names: Sequence[str] = ()
    valid_in_train: float | None = None
    duplicates: float | None = None
    conflicts: float | None = None
    columns: Sequence[Mapping[str, Any]] = ()
    texts: Callable[[int], str] | None = None
    lines: Sequence[int] | None = None
    rows: Sequence[int] | None = None


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What probes look at. Everything is on one device; probes leave weights, buffers, modes and random state alone.

    Args:
        model: from inputs to hidden states, with the weights that are diagnosed.
        head: from hidden states to loss.
        train: some batches of training data, as the training drew them.
        valid: some batches of validation data; empty where there are none.
        history: entries as `history.jsonl` holds them.
        facts: what is known of the setting.
        data: what is known of the data.
        initial: makes the networks as they were before the first step; None where nobody knows.
        in_order: training batches in the order in which the training saw them, from its start; the index of a step ->
            its micro-batches. None where nobody knows.
        autocast: type of the forward pass.
        left_out: what could not be read of it, each with the reason.
        base: an objective of these networks, from which those on other batches are made; None: made when needed.
    """

    model: nn.Module
    head: AbstractHead
    train: Sequence[Batch]
    valid: Sequence[Batch] = ()
    history: Sequence[Mapping[str, Any]] = ()
    facts: Facts = dataclasses.field(default_factory=Facts)
    data: DataFacts = dataclasses.field(default_factory=DataFacts)
    initial: Callable[[], Networks] | None = None
    in_order: Callable[[int], Sequence[Batch]] | None = None
    autocast: torch.dtype | None = None
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    base: Objective | None = None

    def objective(self, batches: Sequence[Batch] | None = None) -> Objective:
        """Return the training loss on these batches (None: all training batches of the subject)."""
        given = list(self.train if batches is None else batches)
        if self.base is not None:
            return self.base.on(given)
        return Objective(self.model, self.head, given, l2=self.facts.l2, autocast=self.autocast)

    def initial_objective(self, batches: Sequence[Batch] | None = None) -> Objective | None:
        """Return the same of the networks as they were before the first step; None where nobody knows them."""
        if self.initial is None:
            return None
        model, head = self.initial()
        given = list(self.train if batches is None else batches)
        return Objective(model, head, given, l2=self.facts.l2, autocast=self.autocast)
