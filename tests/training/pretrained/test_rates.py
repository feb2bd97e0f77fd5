"""How fast each layer is trained: rates that fall from the last layer down, and layers that are thawed one by one."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import thalweg
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.errors import InputError
from thalweg.models.pretrained import ENCODER, Pretrained, layers_of, network_of
from thalweg.models.tuning import add_low_rank, choose_trained, deepest, depth_of, rate_factors
from thalweg.training.pretrained.rates import grouped, thawing


def body(models, kind):
    return Pretrained(network_of(PretrainedFolder.open(models(kind)).config, kind=ENCODER))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "llama", "t5", "marian"])
def test_depths_rise_from_the_embeddings_to_what_is_above_the_layers(models, kind):
    network = body(models, kind).model
    depths = {name: depth_of(network, name) for name, _ in network.named_parameters()}
    assert len(layers_of(network)) == 2
    assert deepest(network) == 3
    assert set(depths.values()) >= {0, 1, 2}
    assert all(depths[name] == 0 for name in depths if "embed" in name or name.startswith(("wte", "wpe", "shared")))
    last = "encoder.layer.1." if kind in ("bert", "roberta") else "layers.1." if kind == "llama" else ""
    assert not last or all(depth == 2 for name, depth in depths.items() if last in name)


def test_rates_fall_by_the_factor_from_layer_to_layer(models):
    model, head = body(models, "bert"), nn.Linear(16, 2)
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters())}, {"params": list(head.parameters()), "weight_decay": 0.0}], lr=1.0
    )
    grouped(optimizer, model, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.model.named_parameters())
    assert rates[id(head.weight)] == 1.0
    assert rates[id(named["encoder.layer.1.output.dense.weight"])] == 0.5
    assert rates[id(named["encoder.layer.0.output.dense.weight"])] == 0.25
    assert rates[id(named["embeddings.word_embeddings.weight"])] == 0.125
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates)
    assert set(rate_factors(model, 0.5).values()) == {0.5, 0.25, 0.125}


def test_layers_thaw_from_the_last_one_down_and_freeze_again_when_a_run_goes_back(models):
    model = body(models, "bert")
    thaw = thawing(model, 1.0)
    named = dict(model.model.named_parameters())

    def free():
        return {depth_of(model.model, name) for name, p in named.items() if p.requires_grad}

    thaw(0.0)
    assert free() == set()
    thaw(1.0)
    assert free() == {2}
    thaw(2.5)
    assert free() == {1, 2}
    thaw(3.0)
    assert free() == {0, 1, 2}
    named["encoder.layer.0.output.dense.bias"].grad = torch.ones(16)
    thaw(1.0)
    assert free() == {2}
    assert named["encoder.layer.0.output.dense.bias"].grad is None
    assert thawing(model, 0.0) is None
    assert thawing(nn.Linear(2, 2), 1.0) is None


def test_frozen_layers_do_not_move_before_they_thaw(models, reviews, tmp_path):
    options = {"model": models("bert"), "out": tmp_path, "max_length": 32, "batch_size": 27, "weight_decay": 0.1}
    short = thalweg.train(reviews, steps=4, unfreeze_every=1.0, name="short", **options)
    own = load_file(f"{models('bert').removeprefix('hf:')}/model.safetensors")
    found = load_file(short.folder / "model.safetensors")
    assert short.recipe.training.steps == 4
    assert all(torch.equal(found[f"model.model.{name}"], own[name]) for name in own if "pooler" not in name)
    longer = thalweg.train(reviews, steps=8, unfreeze_every=1.0, name="long", **options)
    moved = load_file(longer.folder / "model.safetensors")
    below = "model.model.embeddings.word_embeddings.weight"
    assert torch.equal(moved[below], own["embeddings.word_embeddings.weight"])


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_low_rank_matrices_change_nothing_at_first_and_are_all_that_is_trained(models, kind):
    plain, tuned = body(models, kind).eval(), body(models, kind).eval()
    tuned.model.load_state_dict(plain.model.state_dict())
    add_low_rank(tuned.model, 4, 8.0)
    tokens = torch.randint(4, 300, (2, 7))
    torch.testing.assert_close(tuned(tokens), plain(tokens))
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_what_has_no_layers_is_refused(models):
    class Bare(nn.Module):
        config = type("Config", (), {"hidden_size": 2, "num_hidden_layers": 3})()

    with pytest.raises(InputError, match="--lora needs a network with linear layers"):
        add_low_rank(Bare(), 2, 4.0)
    with pytest.raises(InputError, match="--last-layers 3: the pretrained model has 2 layers"):
        choose_trained(body(models, "bert"), 3)
    model = body(models, "bert")
    choose_trained(model, 0)
    assert all(parameter.requires_grad for parameter in model.parameters())
