import gc
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import InputError
from thalweg.training.folder import checkpoint, tensor_files
from thalweg.training.integrity import checkpoint_names

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TREES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def same(left, right):
    if isinstance(left, float):
        return type(right) is float and (left == right or (math.isnan(left) and math.isnan(right)))
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return type(left) is type(right) and left == right


@given(TREES)
@settings(max_examples=100)
def test_any_tree_comes_back_through_json_as_it_was(tree):
    packed, tensors = checkpoint.pack(tree)
    assert same(checkpoint.unpack(json.loads(json.dumps(packed)), tensors), tree)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_bit_for_bit(tmp_path, dtype):
    tensor = torch.tensor([[1.0, -0.0, 3.7], [2.0, 0.0, -5.0]]).to(dtype)
    saved = checkpoint.save(tmp_path, 3, {"a": [tensor, tensor.t()], "b": tensor})
    back = checkpoint.load(saved)
    assert torch.equal(back["a"][0], tensor)
    assert torch.equal(back["a"][1], tensor.t())
    assert back["b"].dtype is dtype


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    lambda p: torch.optim.LBFGS(p, history_size=3),
    lambda p: torch.optim.Adafactor(p),
])  # fmt: skip
def test_an_optimizer_goes_on_bit_for_bit_from_its_checkpoint(tmp_path, make):
    def steps(model, optimizer, num_steps):
        for _ in range(num_steps):

            def closure():
                optimizer.zero_grad()
                loss = (model(torch.ones(2, 3)) - 1.0).square().sum()
                loss.backward()
                return loss

            optimizer.step(closure)

    model = torch.nn.Linear(3, 2)
    optimizer = make(model.parameters())
    steps(model, optimizer, 4)
    saved = checkpoint.save(tmp_path, 4, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    steps(model, optimizer, 4)
    other = torch.nn.Linear(3, 2)
    other_optimizer = make(other.parameters())
    state = checkpoint.load(saved)
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    steps(other, other_optimizer, 4)
    assert torch.equal(other.weight, model.weight)
    assert torch.equal(other.bias, model.bias)


def test_objects_are_refused_by_their_place():
    with pytest.raises(TypeError, match=r"got object at 'state\.a\.1'"):
        checkpoint.pack({"a": [1, object()]})


def test_packed_tensors_do_not_outlive_their_use():
    gc.disable()
    try:
        packed = checkpoint.pack({"weights": [torch.ones(3)]})
        held = weakref.ref(packed[1]["state.weights.0"])
        del packed
        assert held() is None
    finally:
        gc.enable()


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000010"]
    newest = checkpoint_names.latest(tmp_path)
    assert newest is not None
    assert checkpoint.load(newest) == {"step": 10}


def test_one_too_many_that_a_killed_process_has_left_is_pruned(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, {"step": step}, 9)
    checkpoint.prune(tmp_path)
    assert [path.name for path in checkpoint_names.steps(tmp_path)] == ["step-00000002", "step-00000010"]


def test_what_a_killed_process_has_left_half_removed_goes_with_the_next_that_prunes(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {})
    (tmp_path / ".step-00000000.0123abcd.thalweg-tmp").mkdir()
    checkpoint.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_a_copy_of_a_checkpoint_under_another_name_is_none_of_ours(tmp_path):
    for name in ("step-00000001.bak", "step-mine", "step-1"):
        (tmp_path / name).mkdir()
    checkpoint.save(tmp_path, 1, {"step": 1}, 1)
    assert [path.name for path in checkpoint_names.steps(tmp_path)] == ["step-00000001"]
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_wrong_with_a_content_is_told_as_damage_and_a_want_of_memory_is_not(tmp_path):
    saved = checkpoint.save(tmp_path, 1, {"step": 1})
    damaged = pytest.raises(InputError, match=r"state\.json is damaged, or from another model .*KeyError: 'lr'")
    with damaged, checkpoint_names.sound(saved / checkpoint.TREE):
        raise KeyError("lr")
    with pytest.raises(RuntimeError, match="not enough memory"), checkpoint_names.sound(saved / checkpoint.TREE):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint_names.latest(tmp_path) is None
    assert checkpoint_names.latest(tmp_path / "missing") is None


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "tensors cut short": ("state.safetensors", truncate, "bytes long instead of"),
    "tensors changed": ("state.safetensors", flip_a_bit, "checksum differs"),
    "tensors missing": ("state.safetensors", lambda path: path.unlink(), "is missing"),
    "state changed": ("state.json", flip_a_bit, "checksum differs"),
    "state missing": ("state.json", lambda path: path.unlink(), "is missing"),
    "manifest missing": ("manifest.json", lambda path: path.unlink(), "is missing"),
    "manifest empty": ("manifest.json", lambda path: path.write_text(""), "not valid JSON"),
    "manifest of another kind": ("manifest.json", lambda path: path.write_text("[]"), "expected an object, got"),
    "other format": (
        "manifest.json",
        lambda p: p.write_text(p.read_text().replace('"format": 2', '"format": 9')),
        "format 9",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, case):
    name, damage, message = DAMAGE[case]
    saved = checkpoint.save(tmp_path, 1, {"x": torch.arange(100.0), "y": "text"})
    damage(saved / name)
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.load(saved)
    assert name in str(caught.value)


def test_the_message_names_an_older_checkpoint_only_where_that_is_whole(tmp_path):
    old = checkpoint.save(tmp_path / "checkpoints", 1, {"x": torch.arange(100.0)})
    new = checkpoint.save(tmp_path / "checkpoints", 2, {"x": torch.arange(100.0)})
    truncate(new / "state.safetensors")
    with pytest.raises(InputError, match=f"it is not used; give --resume-from {old} to go on from there"):
        checkpoint.load(new)
    truncate(old / "state.json")
    with pytest.raises(InputError, match="it is not used; start again with --overwrite"):
        checkpoint.load(new)


def test_the_message_names_the_older_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 1, {"x": torch.arange(100.0)})
    saved = checkpoint.save(tmp_path, 2, {"x": torch.arange(100.0)})
    truncate(saved / "state.safetensors")
    with pytest.raises(InputError, match=r"remove .* to go on from step-00000001"):
        checkpoint.load(saved)


def test_leftovers_of_a_crash_are_no_checkpoints(tmp_path):
    (tmp_path / ".step-00000009.0123abcd.thalweg-tmp").mkdir()
    checkpoint.save(tmp_path, 1, {"x": 1})
    assert checkpoint_names.latest(tmp_path) == tmp_path / "step-00000001"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Processes that save without pause are killed at many moments; what they leave must always load."""
    script = textwrap.dedent("""
        import os, sys, torch
        from pathlib import Path
        from thalweg.training.folder import checkpoint
        for folder in sys.stdin:
            child = os.fork()  # importing torch takes longer than everything else
            step = 0
            while not child:
                step += 1
                checkpoint.save(Path(folder.strip()), step, {"step": step, "x": torch.full((200_000,), float(step))})
                print(os.getpid(), flush=True)
            os.waitpid(child, 0)
            print("killed", flush=True)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    for kill in range(6):
        folder = tmp_path / str(kill)
        print(folder, file=parent.stdin, flush=True)
        child = int(parent.stdout.readline())
        time.sleep(0.005 + 0.026 * kill)
        os.kill(child, signal.SIGKILL)
        for line in parent.stdout:
            if line.endswith("killed\n"):
                break
        newest = checkpoint_names.latest(folder)
        assert newest is not None
        state = checkpoint.load(newest)
        assert float(state["x"][0]) == state["step"]
    parent.stdin.close()
    assert parent.wait() == 0
    parent.stdout.close()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b'{"x":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}',
            r"is damaged \('x' is of the type float8_e4m3fn",
        ),
        (b'{"x":{"dtype":"U16","shape":[0],"data_offsets":[0,0]}}', r"is damaged \('x' is of the type uint16"),
        (b" " * (2**23 + 1), "its table of contents is longer than that of any run"),
    ],
)
def test_tensors_that_no_run_writes_are_refused(header, message, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * (b"F8" in header))
    with pytest.raises(InputError, match=message):
        tensor_files.load_tensors(path)
