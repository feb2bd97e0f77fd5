import torch

from thalweg.batch import Batch


def test_counts_examples_and_real_targets():
    mask = torch.tensor([[True, True], [True, False]])
    assert Batch({}, torch.zeros(2, 2), mask).num_targets == 3
    assert Batch({}, torch.zeros(2, 2)).num_targets == 4
    assert Batch({}, torch.zeros(2, 2), mask).num_examples == 2


def test_moving_moves_everything_and_a_move_to_the_same_device_is_free():
    batch = Batch({"x": torch.zeros(2)}, torch.zeros(2), torch.ones(2, dtype=torch.bool), torch.ones(2))
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.inputs["x"], moved.targets, moved.mask, moved.weights)} == {"meta"}
