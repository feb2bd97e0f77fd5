"""From an objective to what a diagnosis looks at."""

from torch import nn

from thalweg.diagnosis.networks import dropout_of, family_of
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.objective import Objective


def subject_of_objective(objective: Objective) -> Subject:
    """Return an objective's networks and batches as a subject; there is no history."""
    model: nn.Module = objective.model
    first = next(iter([*model.parameters(), *objective.head.parameters()]), None)
    sizes = [batch.num_examples for batch in objective.batches]
    facts = Facts(
        family=family_of(model),
        l2=objective.l2,
        batch_size=max(sizes),
        full_batch=len(sizes) == 1,
        dropout=dropout_of(model),
        precision="float32" if first is None else str(first.dtype).removeprefix("torch."),
        num_train=sum(sizes),
    )
    return Subject(
        model=model,
        head=objective.head,
        train=objective.batches,
        facts=facts,
        autocast=objective.autocast,
        base=objective,
    )
