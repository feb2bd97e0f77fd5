"""Repairs in a loop of one's own name nothing of the command line."""

import pytest
from tests.diagnosis.symptoms.test_rules import SICK, changed

from thalweg.diagnosis.loops.words import in_pytorch


@pytest.mark.parametrize("name", SICK)
def test_no_option_of_the_command_line_is_left(name):
    own = {"facts.options": {}, "facts.task": ""}
    (found,) = [in_pytorch(one) for one in changed({**SICK[name], **own}) if one.name == name]
    sentence = found.repair.sentence
    assert "--" not in sentence
    assert sentence.endswith(".")
    assert ",." not in sentence
    assert "  " not in sentence


def test_repairs_in_words():
    """One that has nothing to say in options stays as it is."""
    said = {
        name: in_pytorch(changed({**SICK[name], "facts.options": {}})[0]).repair.sentence
        for name in ("not-shuffled", "weight-decay-too-strong", "schedule-ended-early", "batch-too-large")
    }
    assert said["not-shuffled"].endswith("(DataLoader(..., shuffle=True)).")
    assert said["weight-decay-too-strong"] == "Decay less: weight_decay=0.01 of the optimizer."
    assert said["schedule-ended-early"].endswith("torch.optim.lr_scheduler.CosineAnnealingLR.")
    assert said["batch-too-large"] == "The same examples in more steps: batch_size=16 of the DataLoader."
