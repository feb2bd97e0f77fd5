"""Every limit of a rule: its value, and where it comes from. The only table of them.

Those without a published source were set on one half of `benchmarks/faults.py`, between what healthy trainings reach
and what planted faults do, and are scored on the other half.
"""

from typing import Final

LIMITS: Final[dict[str, float]] = {
    # steps
    "rate margin": 0.6,  # of the full rate: the longest step from the start that lowers the loss
    "rate far above": 0.2,
    "moved": 2.0,  # lengths of the starting weights
    "risen": 0.25,  # of the first loss
    "update ratio": 1e-3,  # of the weights' length; usual is 1e-3 (Karpathy)
    "moved little": 0.03,
    "rate far below": 200.0,
    "ups": 0.2,  # share of full-batch steps that raise the loss
    "settled": 1e-3,  # of the first loss, between neighboring steps
    "alignment": -0.6,  # cosine of neighboring gradients
    "edge": 1.9,  # sharpness times learning rate (Cohen et al.: 2)
    "spikes": 3.0,
    "spike height": 0.5,
    "level rise": 0.6,  # of the first loss, by the median of a twentieth of the run
    "update growth": 4.0,
    "momentum": 0.98,
    "swing": 0.15,
    "lr tail": 0.3,
    "moved before the tail": 0.1,
    "lr tail alone": 0.8,
    "gain before tail": 0.01,
    "imbalanced": 0.75,  # share of the most frequent label
    "saddle drop": 0.15,
    "saddle gain": 0.01,
    "saddle curvature": 0.02,
    "clipped": 0.9,  # share of steps (tuning playbook: 0.5)
    "clip part": 0.2,
    "gradient jump": 20.0,
    "gradient explosion": 1e3,  # times the usual norm
    "batch part": 0.1,  # of the noise scale (McCandlish et al.)
    "small batch": 4.0,
    "rate at the end": 0.3,
    "few steps": 60.0,
    "large batch": 256.0,
    "label range": 3.0,  # most frequent label over rarest
    "right lost": 0.01,  # of the answers, since the best evaluation
    "learned": 0.5,  # of the first loss, or of that of a guess
    # network
    "flow": 6.0,  # nats between the gradients at the first and the last activation
    "flow slope": 0.5,  # nats a site
    "memory slope": 1.0,  # nats a time step
    "saturated": 0.5,  # share of outputs (SageMaker Debugger)
    "gate saturated": 0.5,
    "dead": 0.75,  # share of a layer's units (SageMaker Debugger)
    "scale small": 0.1,  # of 1 / root of inputs
    "scale large": 6.0,
    "first loss": 1.6,  # times the loss of a guess
    "symmetric": 0.5,  # share of a layer's units
    "untrained": 0.2,  # share of the layers
    "unreached": 0.5,
    "frozen share": 0.5,
    "frozen drop": 0.3,
    # representations
    "cosine": 0.98,
    "equal vectors": 0.995,
    "token cosine": 0.5,
    "no better than a guess": 0.03,  # accuracy above that of the most frequent class
    "one position": 0.5,
    "collapsed heads": 0.5,
    "entropy": 0.15,
    # correctness
    "looks": 3.0,  # steps
    "left over": 0.9,  # of them
    "overflow": 1e15,  # of a weight
    "leak": 1e-3,
    "random": 1e-4,
    "unchanged": 0.7,
    "float16 underflow": 0.3,
    # generalization and data
    "valid rise": 0.15,  # of the best
    "valid rise of start": 0.08,  # of the first training loss
    "shrunk": 0.7,  # of the starting length, the layer that shrank most
    "penalty share": 0.3,
    "strong dropout": 0.7,
    "dropout cost": 1.15,
    "dropout left": 0.6,  # of the loss of a guess
    "prediction entropy": 0.3,
    "label share": 0.05,
    "label count": 10.0,
    "noise share": 0.25,
    "some noise": 0.1,  # of the labels, where the linear model is right about nearly all
    "better than one answer": 0.8,
    "noise of all": 0.6,  # of what it disagrees with
    "disagreement": 0.2,  # of the labels with a linear model of all other examples
    "shared": 0.03,
    "duplicates": 0.25,
    "conflicts": 0.1,
    "few valid": 100.0,
    "clumping": 5.0,
    "one label": 0.7,  # share of batches with one label only
    "repetition": 0.55,
    "offset": 10.0,
    "column range": 100.0,
    "column value": 1e3,
    "deviation": 10.0,  # of a column (AutoTrainer: activations of that size)
    "explained": 0.1,  # of the targets' variance
    "skewness": 6.0,
    "capacity loss": 0.25,
}


def limit(name: str) -> float:
    """Return a limit."""
    return LIMITS[name]
