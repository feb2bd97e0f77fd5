"""Every kind of finding: its title, what it means, and where the test comes from. The only table of them."""

import dataclasses
from typing import Final, final

# What mends a training whose code or data are at fault, where no option does.
ACTIONS: Final = {
    "mask-padding": "pass the mask of real tokens to the model",
    "eval-mode": "call model.eval() before evaluating, and model.train() after it",
    "unfreeze": "set requires_grad_(True) on the parameters",
    "give-to-optimizer": "give the parameters to the optimizer",
    "shuffle": "shuffle the training data in each epoch",
    "initialize": "initialize the weights again, with PyTorch's own defaults",
    "clean-labels": "look through the listed examples and mend their labels",
    "split-again": "split again, with equal texts on one side",
    "drop-columns": "leave the listed columns out",
    "more-validation": "hold out more examples",
    "mask-future": "mask the tokens that are still to be predicted",
    "clean-data": "mend or leave out the listed examples",
}


@final
@dataclasses.dataclass(frozen=True)
class Kind:
    """What is the same for all findings of one name.

    Args:
        title: a few words.
        meaning: what it means, in one sentence.
        source: where the test or its threshold comes from; "calibrated" where healthy runs gave the threshold.
        explains: names of findings that follow from this one, and are then told with it.
    """

    title: str
    meaning: str
    source: str
    explains: tuple[str, ...] = ()


KINDS: Final[dict[str, Kind]] = {}
