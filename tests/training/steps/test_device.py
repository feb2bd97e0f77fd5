"""Which devices there are, and what is said of the others."""

import pytest
import torch

from thalweg.errors import InputError
from thalweg.training.steps.device import choose_device

WRONG = [
    "",
    "meta",
    "nonsense",
    "hpu",
    "xla",
    "CPU",
    "cpu ",
    "cpu:5",
    "cuda:-1",
    "cuda:1e3",
    "cuda:" + "9" * 30,
    "mps:0",
]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InputError, match=r"^--device must be auto, cpu, cuda, cuda:1 or mps; got '"):
        choose_device(name)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:99", "mps"):
        with pytest.raises(
            InputError, match=rf"^--device {name} cannot be used here \(PyTorch finds none\); try --device"
        ):
            choose_device(name)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
