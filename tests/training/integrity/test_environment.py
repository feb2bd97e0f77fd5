"""What the bits depend on is recorded, and told where it differs."""

import torch

from thalweg.training.integrity.environment import differences, environment


def test_what_is_computed_with_is_recorded_as_plain_values():
    found = environment(torch.device("cpu"), torch.float64, None)
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert (found["device"], found["threads"], found["precision"]) == ("cpu", torch.get_num_threads(), "float64")
    assert environment(torch.device("cpu"), torch.float32, torch.bfloat16)["precision"] == "bfloat16"


def test_only_what_differs_is_told():
    before = {"torch": "2.10", "threads": 2, "device": "cpu"}
    assert differences(before, before) == differences({}, before) == ""
    said = differences(before, {"torch": "2.13", "threads": 4, "device": "cpu"})
    assert said == "torch 2.10 (now 2.13) and threads 2 (now 4)"
