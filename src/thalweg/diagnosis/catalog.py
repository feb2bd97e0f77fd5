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
    "float32-weights": "keep the weights in float32",
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


# Sources that several kinds name.
_HEALTHY: Final = "limit set by healthy runs (benchmarks/faults.py)"
_PASCANU: Final = "Pascanu, Mikolov and Bengio (2013), On the Difficulty of Training Recurrent Neural Networks"
_GLOROT: Final = "Glorot and Bengio (2010), Understanding the Difficulty of Training Deep Feedforward Neural Networks"
_COHEN: Final = "Cohen et al. (2021), Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability"
_NOISE: Final = "McCandlish, Kaplan and Amodei (2018), An Empirical Model of Large-Batch Training"

KINDS: Final[dict[str, Kind]] = {
    "non-finite": Kind(
        "Numbers that are not finite",
        "Loss, gradient or weights became NaN or infinite, so that steps were lost or the weights are worthless.",
        "IEEE 754; the first module in the order of the forward pass is named",
        explains=(
            *("learning-rate-too-high", "exploding-gradient", "loss-spikes", "initialization-too-large"),
            *(
                "saturated-activations",
                "dead-units",
                "untrained-parameters",
                "late-updates-explode",
                "capacity-too-small",
            ),
            *("majority-class", "embedding-collapse", "attention-collapse", "oscillation", "anisotropic-embeddings"),
        ),
    ),
    "precision-underflow": Kind(
        "Updates lost to rounding",
        "Updates are smaller than half the distance to the next number of the weights' type, so that weights with a "
        "gradient do not move.",
        f"the spacing of floating-point numbers; {_HEALTHY}",
        explains=("learning-rate-too-low", "untrained-parameters"),
    ),
    "learning-rate-too-high": Kind(
        "Learning rate too high",
        "Steps are so long that the loss rises, or stops falling far above what shorter steps reach.",
        f"Bengio (2012), Practical Recommendations for Gradient-based Training; {_HEALTHY}",
        explains=(
            *("dead-units", "saturated-activations", "loss-spikes", "oscillation", "exploding-gradient"),
            *(
                "edge-of-stability",
                "majority-class",
                "embedding-collapse",
                "late-updates-explode",
                "attention-collapse",
            ),
            *("capacity-too-small", "anisotropic-embeddings", "weight-decay-too-strong", "clipping-never"),
            *("vanishing-gradient", "batch-too-small", "dropout-too-strong"),
        ),
    ),
    "learning-rate-too-low": Kind(
        "Learning rate too low",
        "Steps are so short that the loss was still falling evenly when the training ended.",
        f"Karpathy (2019), A Recipe for Training Neural Networks (updates of a thousandth of the weights); {_HEALTHY}",
        explains=("majority-class", "capacity-too-small", "embedding-collapse"),
    ),
    "oscillation": Kind(
        "Loss that goes up and down",
        "Each step undoes a part of the one before: the step is longer than the curvature along it allows.",
        _COHEN,
        explains=("edge-of-stability",),
    ),
    "edge-of-stability": Kind(
        "Edge of stability",
        "The sharpness times the learning rate is about 2, where gradient descent no longer falls at every step.",
        _COHEN,
    ),
    "loss-spikes": Kind(
        "Loss spikes",
        "Now and then the loss jumps far above its level, and the steps after it are spent on coming back.",
        f"robust z-score of the loss; {_HEALTHY}",
        explains=("clipping-never",),
    ),
    "late-updates-explode": Kind(
        "Updates that grow late in training",
        "The updates became many times longer in the last part of the training than before, which undoes what was "
        "learned.",
        _HEALTHY,
        explains=(
            "learning-rate-too-high",
            "loss-spikes",
            "oscillation",
            "majority-class",
            "dead-units",
            "embedding-collapse",
            "saturated-activations",
            "capacity-too-small",
        ),
    ),
    "momentum-too-high": Kind(
        "Momentum too high",
        "The optimizer averages over so many steps that it overshoots, and the loss swings in long waves.",
        f"Sutskever, Martens, Dahl and Hinton (2013), On the Importance of Initialization and Momentum; {_HEALTHY}",
        explains=(
            "oscillation",
            "learning-rate-too-high",
            "loss-spikes",
            "dead-units",
            "saturated-activations",
            "majority-class",
            "embedding-collapse",
            "exploding-gradient",
            "capacity-too-small",
        ),
    ),
    "schedule-ended-early": Kind(
        "Schedule that ended early",
        "The learning rate had become nothing while the loss was still falling, and the rest of the steps did nothing.",
        _HEALTHY,
        explains=("learning-rate-too-low", "majority-class", "capacity-too-small", "embedding-collapse"),
    ),
    "plateau-at-saddle": Kind(
        "Stuck near a saddle point",
        "The loss does not fall although the curvature is negative in some direction: the point is no minimum.",
        "Dauphin et al. (2014), Identifying and Attacking the Saddle Point Problem; negative curvature proved by its "
        "residual",
        explains=("learning-rate-too-low", "majority-class", "embedding-collapse", "capacity-too-small"),
    ),
    "clipping-always": Kind(
        "Clipping at every step",
        "Nearly every gradient is cut to a small part of its length, so the limit sets the step and not the loss.",
        "Godbole et al. (2023), Deep Learning Tuning Playbook (more than half of the steps)",
        explains=("learning-rate-too-low", "majority-class"),
    ),
    "clipping-never": Kind(
        "Clipping that never acts",
        "Gradients jump far above their usual norm, and the limit is above them all.",
        "Godbole et al. (2023), Deep Learning Tuning Playbook (the limit at the 90th percentile)",
        explains=("loss-spikes", "exploding-gradient"),
    ),
    "batch-too-small": Kind(
        "Batch too small for the noise",
        "A batch's gradient is nearly all noise, so that steps mostly wander and the loss stays too high.",
        _NOISE,
        explains=("loss-spikes",),
    ),
    "batch-too-large": Kind(
        "Batch needlessly large",
        "A batch's gradient has far less noise than it needs to, so that smaller batches would take more steps for the "
        "same examples.",
        _NOISE,
        explains=("learning-rate-too-low", "majority-class"),
    ),
    "weight-decay-too-strong": Kind(
        "Weight decay or L2 penalty too strong",
        "The decay pulls weights to zero faster than the loss can hold them.",
        f"Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization; {_HEALTHY}",
        explains=(
            "majority-class",
            "embedding-collapse",
            "vanishing-gradient",
            "capacity-too-small",
            "learning-rate-too-low",
            "batch-too-small",
            "anisotropic-embeddings",
        ),
    ),
    "dropout-too-strong": Kind(
        "Dropout too strong",
        "With dropout the network loses so much of its input that it learns far less than it could.",
        f"Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural Networks from Overfitting; {_HEALTHY}",
        explains=("capacity-too-small", "majority-class", "batch-too-small", "learning-rate-too-low"),
    ),
    "vanishing-gradient": Kind(
        "Vanishing gradient",
        "The gradient shrinks from layer to layer on its way back, so that the first layers hardly learn.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=(
            "majority-class",
            "embedding-collapse",
            "capacity-too-small",
            "initialization-too-small",
            "saturated-activations",
            "plateau-at-saddle",
            "learning-rate-too-low",
        ),
    ),
    "vanishing-in-time": Kind(
        "Gradient that vanishes in time",
        "What a recurrent layer read some steps ago has no influence on its state any more.",
        _PASCANU,
    ),
    "exploding-gradient": Kind(
        "Exploding gradient",
        "The gradient grows from layer to layer on its way back, or jumps by orders of magnitude.",
        f"{_PASCANU}; {_HEALTHY}",
        explains=(
            "saturated-activations",
            "loss-spikes",
            "dead-units",
            "initialization-too-large",
            "majority-class",
            "embedding-collapse",
            "attention-collapse",
            "capacity-too-small",
            "learning-rate-too-high",
            "vanishing-gradient",
            "anisotropic-embeddings",
        ),
    ),
    "saturated-activations": Kind(
        "Saturated activations",
        "Most of the outputs of a layer lie where its activation is flat, so that hardly any gradient passes.",
        f"Rakitianskaia and Engelbrecht (2015), Measuring Saturation in Neural Networks; {_HEALTHY}",
        explains=("initialization-too-large", "vanishing-gradient", "majority-class", "capacity-too-small"),
    ),
    "dead-units": Kind(
        "Dead units",
        "Units of a ReLU layer are zero on all examples; no gradient passes through them, so they stay dead.",
        f"Lu, Shin, Su and Karniadakis (2019), Dying ReLU and Initialization; {_HEALTHY}",
        explains=(
            "majority-class",
            "untrained-parameters",
            "embedding-collapse",
            "vanishing-gradient",
            "capacity-too-small",
            "learning-rate-too-low",
            "plateau-at-saddle",
        ),
    ),
    "initialization-too-small": Kind(
        "Initialization too small",
        "Activations shrink from layer to layer at the start, so that all examples look alike to the last layer.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=(
            "embedding-collapse",
            "majority-class",
            "vanishing-gradient",
            "plateau-at-saddle",
            "learning-rate-too-low",
            "capacity-too-small",
            "anisotropic-embeddings",
        ),
    ),
    "initialization-too-large": Kind(
        "Initialization too large",
        "Weights start so large that activations saturate or the first loss is far above that of a guess.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=(
            "saturated-activations",
            "attention-collapse",
            "exploding-gradient",
            "majority-class",
            "vanishing-gradient",
            "loss-spikes",
            "anisotropic-embeddings",
        ),
    ),
    "symmetric-initialization": Kind(
        "Symmetric initialization",
        "Units of a layer start with the same weights, get the same gradients and stay copies of each other.",
        "Goodfellow, Bengio and Courville (2016), Deep Learning, section 8.4",
        explains=(
            "embedding-collapse",
            "majority-class",
            "capacity-too-small",
            "initialization-too-small",
            "vanishing-gradient",
            "plateau-at-saddle",
            "learning-rate-too-low",
            "initialization-too-large",
            "anisotropic-embeddings",
            "dead-units",
            "attention-collapse",
        ),
    ),
    "untrained-parameters": Kind(
        "Parameters that are not trained",
        "A large part of the network keeps its random start: it is frozen, unreached by the loss, or not in the "
        "optimizer.",
        "exact: no gradient or no change on any watched step",
        explains=("majority-class", "capacity-too-small", "learning-rate-too-low", "batch-too-small"),
    ),
    "unnormalized-inputs": Kind(
        "Inputs that are not normalized",
        "Numeric inputs are far from zero or differ in size, so that one step cannot suit all weights.",
        "LeCun, Bottou, Orr and Müller (1998), Efficient BackProp",
        explains=(
            "saturated-activations",
            "dead-units",
            "exploding-gradient",
            "initialization-too-large",
            "skewed-columns",
            "learning-rate-too-high",
            "capacity-too-small",
            "loss-spikes",
            "vanishing-gradient",
            "learning-rate-too-low",
        ),
    ),
    "constant-columns": Kind(
        "Columns that never change",
        "A numeric column has one value only, so it can teach nothing.",
        "exact",
    ),
    "skewed-columns": Kind(
        "Skewed columns",
        "A few values of a numeric column are so large that they make up nearly all of its variance, and of the loss.",
        "Joanes and Gill (1998), Comparing Measures of Sample Skewness and Kurtosis",
        explains=("loss-spikes",),
    ),
    "embedding-collapse": Kind(
        "Collapsed representations",
        "Different inputs have nearly the same vectors, so that no layer above can tell them apart.",
        f"Roy and Vetterli (2007), The Effective Rank; {_HEALTHY}",
        explains=("anisotropic-embeddings", "majority-class", "capacity-too-small"),
    ),
    "anisotropic-embeddings": Kind(
        "Embeddings in a narrow cone",
        "The vectors of tokens all point in about one direction, and little is left of them to tell tokens apart.",
        f"Ethayarajh (2019), How Contextual are Contextualized Word Representations?; {_HEALTHY}",
        explains=("majority-class",),
    ),
    "attention-collapse": Kind(
        "Collapsed attention",
        "Heads attend to one token each whatever the text: the softmax over positions is saturated and passes no "
        "gradient.",
        f"Zhai et al. (2023), Stabilizing Transformer Training by Preventing Attention Entropy Collapse; {_HEALTHY}",
        explains=("initialization-too-large", "majority-class"),
    ),
    "padding-not-masked": Kind(
        "Padding that is not masked",
        "What stands at padded positions changes the answers, so that they depend on the batch a text is in.",
        "exact: padding is changed and the predictions are compared",
    ),
    "future-leak": Kind(
        "Future tokens seen",
        "Predictions change with tokens that are still to be predicted.",
        "exact: later tokens are changed and earlier predictions are compared",
    ),
    "dropout-in-evaluation": Kind(
        "Dropout left on in evaluation",
        "The network gives another answer each time it is asked, so that its validation figures are those of a weaker "
        "one.",
        "exact: the same batch is evaluated twice",
    ),
    "over-fitting": Kind(
        "Over-fitting",
        "The validation loss rises while the training loss still falls: the network learns its training data by heart.",
        f"Prechelt (1998), Early Stopping - But When?; {_HEALTHY}",
        explains=("loss-spikes", "batch-too-small"),
    ),
    "capacity-too-small": Kind(
        "Network too small",
        "The training loss has come to rest far above zero in a network whose hidden states are narrower than the "
        "answers need.",
        _HEALTHY,
        explains=("embedding-collapse", "majority-class", "dead-units", "batch-too-small", "anisotropic-embeddings"),
    ),
    "label-noise": Kind(
        "Wrong labels",
        "Many training labels contradict what all other examples say about them.",
        "Northcutt, Jiang and Chuang (2021), Confident Learning",
        explains=("capacity-too-small",),
    ),
    "majority-class": Kind(
        "The most frequent answer for everything",
        "Nearly every prediction is the most frequent class; others are hardly ever given.",
        f"entropy of the predictions; {_HEALTHY}",
        explains=("embedding-collapse",),
    ),
    "never-predicted": Kind(
        "Labels that are never predicted",
        "Some labels are in the data and never among the predictions.",
        "exact",
    ),
    "leaking-duplicates": Kind(
        "Validation texts that are trained on",
        "Texts of the validation data are in the training data, too, so that validation figures are too good.",
        "exact: equal normalized texts",
    ),
    "duplicate-examples": Kind(
        "Repeated texts",
        "Many training texts repeat earlier ones; they count several times, and teach nothing new.",
        "exact: equal normalized texts",
    ),
    "conflicting-labels": Kind(
        "Equal texts with different answers",
        "Texts come with different answers, so that every network is wrong on some of them.",
        "exact: equal normalized texts",
        explains=("label-noise", "duplicate-examples", "capacity-too-small"),
    ),
    "validation-too-small": Kind(
        "Too few validation examples",
        "Differences between runs smaller than some points are chance on so few examples.",
        "the standard error of a difference of shares",
    ),
    "not-shuffled": Kind(
        "Training data that are not shuffled",
        "Batches come in one order, each with few kinds of answers, so that a step unlearns what others taught.",
        "chi-square of the labels of batches; correlation of the losses of neighboring epochs",
        explains=(
            "loss-spikes",
            "oscillation",
            "majority-class",
            "batch-too-small",
            "learning-rate-too-high",
            "exploding-gradient",
            "late-updates-explode",
            "capacity-too-small",
        ),
    ),
}
