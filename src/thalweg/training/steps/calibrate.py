"""Before an evaluation: what turns a head's scores into probabilities is fitted on training data."""

from collections.abc import Sequence

import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead

MAX_TARGETS = 512  # one number is fitted: some hundred targets determine it to about a hundredth


def calibrate(
    model: nn.Module,
    head: AbstractHead,
    batches: Sequence[Batch],
    *,
    limit: int = MAX_TARGETS,
    autocast: torch.dtype | None = None,
) -> None:
    """Let the head fit its calibration on some targets (at most `limit`) of training batches, in evaluation mode."""
    if type(head).calibrate is AbstractHead.calibrate:
        return
    modes = [(module, module.training) for network in (model, head) for module in network.modules()]
    model.eval()
    head.eval()
    try:
        with torch.no_grad(), torch.autocast(batches[0].targets.device.type, autocast, enabled=autocast is not None):
            batch = batches[0]
            prediction = head(model(**batch.inputs))
            mask = torch.ones_like(batch.targets, dtype=torch.bool) if batch.mask is None else batch.mask
            # Evenly over the batch, so that neither the beginnings of texts nor short texts dominate.
            places = mask.flatten().nonzero().squeeze(1)
            places = places[:: max(1, len(places) // limit)][:limit]
            head.calibrate(prediction.flatten(0, -2)[places], batch.targets.flatten()[places])
    finally:
        for module, mode in modes:
            module.training = mode
