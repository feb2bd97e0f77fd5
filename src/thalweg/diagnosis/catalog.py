"""Every kind of finding: its title, what it means, and where the test comes from. The only table of them."""

import dataclasses
import enum
from typing import Final, final

# What mends a training whose code or data are at fault, where no option does.
ACTIONS: Final = {
    "mask-padding": "pass the mask of real tokens to the model",
    "eval-mode": "call model.eval() before evaluating, and model.train() after it",
    "unfreeze": "set requires_grad_(True) on the parameters",
    "give-to-optimizer": "give the parameters to the optimizer",
    "shuffle": "shuffle the training data in each epoch",
    "initialize": "initialize the weights again, with PyTorch's own defaults",
    "clean-labels": "look through the doubtful examples and mend their labels",
    "split-again": "split again, with equal texts on one side",
    "drop-columns": "leave the listed columns out",
    "more-validation": "hold out more examples",
    "mask-future": "mask the tokens that are still to be predicted",
    "clean-data": "mend or leave out the listed examples",
    "zero-grad": "call optimizer.zero_grad() once in every step",
    "sign": "call backward() on the loss itself, without a minus sign",
    "same-shape": "give predictions and targets the same shape",
    "scores": "leave the softmax or sigmoid at the end of the model out",
    "float32-weights": "keep the weights in float32",
}


@final
class Rank(enum.IntEnum):
    """Where a kind stands between causes and what they lead to; what ranks lower is told with what ranks above it."""

    CAUSE = 1  # something that was set, in the recipe, the data or the code
    MECHANISM = 2  # what gradients, activations or vectors do because of it
    OUTCOME = 3  # what the training then ends with
    FACT = 4  # stands by itself: it neither leads to other findings nor follows from them


@final
@dataclasses.dataclass(frozen=True)
class Kind:
    """What is the same for all findings of one name.

    Args:
        title: a few words.
        rank: whether it is a cause or follows from one.
        meaning: what it means, in one sentence.
        source: where the test or its threshold comes from.
        explains: names of findings of its own rank (or of facts) that follow from this one, and are told with it.
    """

    title: str
    rank: Rank
    meaning: str
    source: str
    explains: tuple[str, ...] = ()


# Sources that several kinds name.
_HEALTHY: Final = "limit set by healthy runs (benchmarks/faults.py)"
_PASCANU: Final = "Pascanu, Mikolov and Bengio (2013), On the Difficulty of Training Recurrent Neural Networks"
_GLOROT: Final = "Glorot and Bengio (2010), Understanding the Difficulty of Training Deep Feedforward Neural Networks"
_COHEN: Final = "Cohen et al. (2021), Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability"
_NOISE: Final = "McCandlish, Kaplan and Amodei (2018), An Empirical Model of Large-Batch Training"

# Causes stand before what follows from them.
KINDS: Final[dict[str, Kind]] = {
    "loss-driven-up": Kind(
        "A loss that is driven up",
        Rank.CAUSE,
        "The sign of the loss or of the step is wrong, so that each step makes the answers worse.",
        "exact: the sign of the gradient that reaches the loss, and the value of the loss",
        explains=("non-finite", "learning-rate-too-high", "late-updates-explode", "clipping-never", "clipping-always"),
    ),
    "targets-broadcast": Kind(
        "Targets compared with the answers of others",
        Rank.CAUSE,
        "Shapes such as [batch, 1] and [batch] are broadcast to all pairs, so that one number is the best answer for "
        "all.",
        "exact: the value of the loss",
        explains=("learning-rate-too-low", "unnormalized-targets", "batch-too-small"),
    ),
    "non-finite": Kind(
        "Numbers that are not finite",
        Rank.CAUSE,
        "Loss, gradient or weights became NaN or infinite, so that steps were lost or the weights are worthless.",
        "IEEE 754; the first module in the order of the forward pass is named",
        explains=(
            "precision-underflow",
            "untrained-parameters",
            "learning-rate-too-high",
            "late-updates-explode",
            "clipping-never",
            "initialization-too-large",
            "clipping-always",
        ),
    ),
    "gradients-accumulate": Kind(
        "Gradients that are not cleared",
        Rank.CAUSE,
        "Each step adds its gradient to those of all steps before, so that old gradients drive the weights.",
        "exact: what the first backward pass of a step finds in place",
        explains=(
            "learning-rate-too-high",
            "late-updates-explode",
            "batch-too-small",
            "clipping-never",
            "momentum-too-high",
            "precision-underflow",
        ),
    ),
    "probabilities-as-scores": Kind(
        "Probabilities in the place of scores",
        Rank.CAUSE,
        "The loss applies softmax or sigmoid itself, so that probabilities as its input keep it high and its gradient"
        " small.",
        "exact: the range of all outputs",
        explains=("learning-rate-too-low",),
    ),
    "precision-underflow": Kind(
        "Updates lost to rounding",
        Rank.CAUSE,
        "Updates are smaller than half the distance to the next number of the weights' type, so that weights "
        "with a gradient do not move.",
        f"the spacing of floating-point numbers; {_HEALTHY}",
        explains=("learning-rate-too-low",),
    ),
    "not-shuffled": Kind(
        "Training data that are not shuffled",
        Rank.CAUSE,
        "Batches come in one order, each with few kinds of answers, so that a step unlearns what others taught.",
        "chi-square of the labels of batches; correlation of the losses of neighboring epochs",
        explains=("late-updates-explode", "learning-rate-too-high", "batch-too-small"),
    ),
    "unnormalized-inputs": Kind(
        "Inputs that are not normalized",
        Rank.CAUSE,
        "Numeric inputs are far from zero or differ in size, so that one step cannot suit all weights.",
        "LeCun, Bottou, Orr and Müller (1998), Efficient BackProp",
        explains=(
            "unnormalized-targets",
            "skewed-columns",
            "learning-rate-too-high",
            "learning-rate-too-low",
            "initialization-too-large",
            "untrained-parameters",
        ),
    ),
    "unnormalized-targets": Kind(
        "Targets that are not normalized",
        Rank.CAUSE,
        "The targets are numbers far larger than what a fresh network answers, and steps of a usual size do not get "
        "there.",
        "LeCun, Bottou, Orr and Müller (1998), Efficient BackProp",
        explains=("learning-rate-too-high", "learning-rate-too-low", "clipping-always", "batch-too-small"),
    ),
    "conflicting-labels": Kind(
        "Equal texts with different answers",
        Rank.CAUSE,
        "Texts come with different answers, so that every network is wrong on some of them.",
        "exact: equal normalized texts",
        explains=("label-noise", "duplicate-examples"),
    ),
    "label-noise": Kind(
        "Wrong labels",
        Rank.CAUSE,
        "Many training labels contradict what all other examples say about them.",
        "Northcutt, Jiang and Chuang (2021), Confident Learning",
    ),
    "untrained-parameters": Kind(
        "Parameters that are not trained",
        Rank.CAUSE,
        "A large part of the network keeps its random start: it is frozen, unreached by the loss, or not in "
        "the optimizer.",
        "exact: no gradient or no change on any watched step",
        explains=("precision-underflow", "learning-rate-too-low"),
    ),
    "symmetric-initialization": Kind(
        "Symmetric initialization",
        Rank.CAUSE,
        "Units of a layer start with the same weights, get the same gradients and stay copies of each other.",
        "Goodfellow, Bengio and Courville (2016), Deep Learning, section 8.4",
        explains=("initialization-too-small", "initialization-too-large", "learning-rate-too-low"),
    ),
    "initialization-too-small": Kind(
        "Initialization too small",
        Rank.CAUSE,
        "Activations shrink from layer to layer at the start, so that all examples look alike to the last layer.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=("learning-rate-too-low", "precision-underflow"),
    ),
    "initialization-too-large": Kind(
        "Initialization too large",
        Rank.CAUSE,
        "Weights start so large that activations saturate or the first loss is far above that of a guess.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=("precision-underflow",),
    ),
    "momentum-too-high": Kind(
        "Momentum too high",
        Rank.CAUSE,
        "The optimizer averages over so many steps that it overshoots, and the loss swings in long waves.",
        f"Sutskever, Martens, Dahl and Hinton (2013), On the Importance of Initialization and Momentum; {_HEALTHY}",
        explains=("learning-rate-too-high", "late-updates-explode"),
    ),
    "late-updates-explode": Kind(
        "Updates that grow late in training",
        Rank.CAUSE,
        "The updates became many times longer in the last part of the training than before, which undoes what"
        " was learned.",
        _HEALTHY,
        explains=("learning-rate-too-high",),
    ),
    "learning-rate-too-high": Kind(
        "Learning rate too high",
        Rank.CAUSE,
        "Steps are so long that the loss rises, or stops falling far above what shorter steps reach.",
        f"Bengio (2012), Practical Recommendations for Gradient-based Training; {_HEALTHY}",
        explains=("weight-decay-too-strong", "batch-too-small", "untrained-parameters", "clipping-always"),
    ),
    "schedule-ended-early": Kind(
        "Schedule that ended early",
        Rank.CAUSE,
        "The learning rate had become nothing while the loss was still falling, and the rest of the steps did nothing.",
        _HEALTHY,
        explains=("learning-rate-too-low", "precision-underflow"),
    ),
    "clipping-always": Kind(
        "Clipping at every step",
        Rank.CAUSE,
        "Nearly every gradient is cut to a small part of its length, so the limit sets the step and not the loss.",
        "Godbole et al. (2023), Deep Learning Tuning Playbook (more than half of the steps)",
        explains=("learning-rate-too-low", "precision-underflow"),
    ),
    "clipping-never": Kind(
        "Clipping that never acts",
        Rank.CAUSE,
        "Gradients jump far above their usual norm, and the limit is above them all.",
        "Godbole et al. (2023), Deep Learning Tuning Playbook (the limit at the 90th percentile)",
        explains=("learning-rate-too-high",),
    ),
    "batch-too-small": Kind(
        "Batch too small for the noise",
        Rank.CAUSE,
        "A batch's gradient is nearly all noise, so that steps mostly wander and the loss stays too high.",
        _NOISE,
    ),
    "batch-too-large": Kind(
        "Batch needlessly large",
        Rank.CAUSE,
        "A batch's gradient has far less noise than it needs to, so that smaller batches would take more "
        "steps for the same examples.",
        _NOISE,
        explains=("learning-rate-too-low",),
    ),
    "weight-decay-too-strong": Kind(
        "Weight decay or L2 penalty too strong",
        Rank.CAUSE,
        "The decay pulls weights to zero faster than the loss can hold them.",
        f"Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization; {_HEALTHY}",
        explains=("learning-rate-too-low", "batch-too-small", "initialization-too-large"),
    ),
    "dropout-too-strong": Kind(
        "Dropout too strong",
        Rank.CAUSE,
        "With dropout the network loses so much of its input that it learns far less than it could.",
        f"Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural Networks from Overfitting; {_HEALTHY}",
        explains=("learning-rate-too-low", "batch-too-small"),
    ),
    "capacity-too-small": Kind(
        "Network too small",
        Rank.CAUSE,
        "The training loss has come to rest far above zero in a network whose hidden states are narrower than"
        " the answers need.",
        _HEALTHY,
    ),
    "learning-rate-too-low": Kind(
        "Learning rate too low",
        Rank.CAUSE,
        "Steps are so short that the loss was still falling evenly when the training ended.",
        f"Karpathy (2019), A Recipe for Training Neural Networks (updates of a thousandth of the weights); {_HEALTHY}",
    ),
    "loss-spikes": Kind(
        "Loss spikes",
        Rank.MECHANISM,
        "Now and then the loss jumps far above its level, and the steps after it are spent on coming back.",
        f"robust z-score of the loss; {_HEALTHY}",
        explains=(
            "exploding-gradient",
            "saturated-activations",
            "dead-units",
            "oscillation",
            "embedding-collapse",
            "attention-collapse",
        ),
    ),
    "exploding-gradient": Kind(
        "Exploding gradient",
        Rank.MECHANISM,
        "The gradient grows from layer to layer on its way back, or jumps by orders of magnitude.",
        f"{_PASCANU}; {_HEALTHY}",
        explains=(
            "saturated-activations",
            "dead-units",
            "attention-collapse",
            "embedding-collapse",
            "oscillation",
            "loss-spikes",
            "vanishing-gradient",
        ),
    ),
    "vanishing-gradient": Kind(
        "Vanishing gradient",
        Rank.MECHANISM,
        "The gradient shrinks from layer to layer on its way back, so that the first layers hardly learn.",
        f"{_GLOROT}; {_HEALTHY}",
        explains=("saturated-activations", "embedding-collapse", "vanishing-in-time", "oscillation", "loss-spikes"),
    ),
    "saturated-activations": Kind(
        "Saturated activations",
        Rank.MECHANISM,
        "Most of the outputs of a layer lie where its activation is flat, so that hardly any gradient passes.",
        f"Rakitianskaia and Engelbrecht (2015), Measuring Saturation in Neural Networks; {_HEALTHY}",
        explains=("vanishing-gradient", "vanishing-in-time", "embedding-collapse", "oscillation"),
    ),
    "dead-units": Kind(
        "Dead units",
        Rank.MECHANISM,
        "Units of a ReLU layer are zero on all examples; no gradient passes through them, so they stay dead.",
        f"Lu, Shin, Su and Karniadakis (2019), Dying ReLU and Initialization; {_HEALTHY}",
        explains=("vanishing-gradient", "embedding-collapse", "oscillation"),
    ),
    "vanishing-in-time": Kind(
        "Gradient that vanishes in time",
        Rank.MECHANISM,
        "What a recurrent layer read some steps ago has no influence on its state any more.",
        _PASCANU,
    ),
    "embedding-collapse": Kind(
        "Collapsed representations",
        Rank.MECHANISM,
        "Different inputs have nearly the same vectors, so that no layer above can tell them apart.",
        f"Roy and Vetterli (2007), The Effective Rank; {_HEALTHY}",
        explains=("anisotropic-embeddings", "oscillation", "loss-spikes"),
    ),
    "anisotropic-embeddings": Kind(
        "Embeddings in a narrow cone",
        Rank.MECHANISM,
        "The vectors of tokens all point in about one direction, and little is left of them to tell tokens apart.",
        f"Ethayarajh (2019), How Contextual are Contextualized Word Representations?; {_HEALTHY}",
        explains=("oscillation", "loss-spikes"),
    ),
    "attention-collapse": Kind(
        "Collapsed attention",
        Rank.MECHANISM,
        "Heads put nearly all of their attention on single tokens: the softmax over positions is saturated and passes"
        " hardly any gradient.",
        f"Zhai et al. (2023), Stabilizing Transformer Training by Preventing Attention Entropy Collapse; {_HEALTHY}",
    ),
    "oscillation": Kind(
        "Loss that goes up and down",
        Rank.MECHANISM,
        "Each step undoes a part of the one before: the step is longer than the curvature along it allows.",
        _COHEN,
        explains=("edge-of-stability", "loss-spikes"),
    ),
    "edge-of-stability": Kind(
        "Edge of stability",
        Rank.MECHANISM,
        "The sharpness times the learning rate is about 2, where gradient descent no longer falls at every step.",
        _COHEN,
    ),
    "plateau-at-saddle": Kind(
        "Stuck near a saddle point",
        Rank.OUTCOME,
        "The loss does not fall although the curvature is negative in some direction: the point is no minimum.",
        "Dauphin et al. (2014), Identifying and Attacking the Saddle Point Problem; negative curvature proved"
        " by its residual",
        explains=("majority-class", "never-predicted"),
    ),
    "over-fitting": Kind(
        "Over-fitting",
        Rank.OUTCOME,
        "The validation loss rises while the training loss still falls: the network learns its training data by heart.",
        f"Prechelt (1998), Early Stopping - But When?; {_HEALTHY}",
    ),
    "majority-class": Kind(
        "The most frequent answer for everything",
        Rank.OUTCOME,
        "Nearly every prediction is the most frequent class; others are hardly ever given.",
        f"entropy of the predictions; {_HEALTHY}",
        explains=("never-predicted",),
    ),
    "never-predicted": Kind(
        "Labels that are never predicted",
        Rank.OUTCOME,
        "Some labels are in the data and never among the predictions.",
        "exact",
    ),
    "padding-not-masked": Kind(
        "Padding that is not masked",
        Rank.FACT,
        "What stands at padded positions changes the answers, so that they depend on the batch a text is in.",
        "exact: padding is changed and the predictions are compared",
    ),
    "future-leak": Kind(
        "Future tokens seen",
        Rank.FACT,
        "Predictions change with tokens that are still to be predicted.",
        "exact: later tokens are changed and earlier predictions are compared",
    ),
    "dropout-in-evaluation": Kind(
        "Dropout left on in evaluation",
        Rank.FACT,
        "The network gives another answer each time it is asked, so that its validation figures are those of "
        "a weaker one.",
        "exact: the same batch is evaluated twice",
    ),
    "leaking-duplicates": Kind(
        "Validation texts that are trained on",
        Rank.FACT,
        "Texts of the validation data are in the training data, too, so that validation figures are too good.",
        "exact: equal normalized texts",
    ),
    "duplicate-examples": Kind(
        "Repeated texts",
        Rank.FACT,
        "Many training texts repeat earlier ones; they count several times, and teach nothing new.",
        "exact: equal normalized texts",
    ),
    "validation-too-small": Kind(
        "Too few validation examples",
        Rank.FACT,
        "Differences between runs smaller than some points are chance on so few examples.",
        "the standard error of a difference of shares",
    ),
    "constant-columns": Kind(
        "Columns that never change",
        Rank.FACT,
        "A numeric column has one value only, so it can teach nothing.",
        "exact",
    ),
    "skewed-columns": Kind(
        "Skewed columns",
        Rank.FACT,
        "A few values of a numeric column are so large that they make up nearly all of its variance, and of the loss.",
        "Joanes and Gill (1998), Comparing Measures of Sample Skewness and Kurtosis",
    ),
}
