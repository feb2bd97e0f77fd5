"""Hugging Face's Trainer: the same steps as in a loop of one's own, whatever the model's loss is."""

import gc
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainingArguments

from thalweg.curvature.hessian import Hessian
from thalweg.errors import InputError
from thalweg.frameworks.trainer import TrainerSteps
from thalweg.heads.softmax import Softmax
from thalweg.heads.value import Value
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Fixed
from thalweg.optim.muon import NorMuon
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.preconditioner import NoPreconditioner
from thalweg.optim.roles import parameter_groups, roles_of
from thalweg.optim.soap import SOAP


@pytest.fixture(autouse=True, scope="module")
def _quick_collections():
    """The Trainer collects garbage each time, and what these packages have imported is half a second's worth of it."""
    gc.freeze()
    yield
    gc.unfreeze()


class DescentTrainer(TrainerSteps, Trainer):
    pass


SIZES = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IDS = torch.randint(3, 30, (12, 6), generator=torch.Generator().manual_seed(1))
PARTLY = IDS.where(torch.rand(12, 6, generator=torch.Generator().manual_seed(2)) > 0.4, -100)
SMALL_T5 = {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def bert(kind: str = "BertForSequenceClassification", **options) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, **STILL, max_position_embeddings=8, **options)
    return getattr(transformers, kind)(config)


def llama() -> nn.Module:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, max_position_embeddings=8))


def t5() -> nn.Module:
    torch.manual_seed(0)
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(**SMALL_T5, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0)
    )


CLASSES = torch.arange(12) % 3
MODELS = {
    "classes": (lambda: bert(num_labels=3), CLASSES),
    "numbers": (lambda: bert(num_labels=1), torch.linspace(-1.0, 1.0, 12)),
    "several numbers": (
        lambda: bert(num_labels=2, problem_type="regression"),
        torch.linspace(-1.0, 1.0, 24).view(12, 2),
    ),
    "several labels": (
        lambda: bert(num_labels=3, problem_type="multi_label_classification"),
        torch.arange(36).view(12, 3).remainder(2).float(),
    ),
    "tags": (lambda: bert("BertForTokenClassification", num_labels=3), IDS % 3),
    "masked words": (lambda: bert("BertForMaskedLM"), PARTLY),
    "next words": (llama, PARTLY),
    "translation": (t5, PARTLY),
}


def trainer(name: str, optimizer_of, folder, kind: type = DescentTrainer, make=None, **arguments) -> Trainer:
    model, labels = MODELS[name][0](), MODELS[name][1]
    own = {"max_steps": 4, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    quiet = {"logging_steps": 1, "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True}
    settings = TrainingArguments(output_dir=str(folder), **(own | quiet | arguments))
    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(IDS, labels, strict=True)]
    optimizer = optimizer_of(model.parameters())
    return kind(model=model, args=settings, train_dataset=rows, optimizers=(optimizer, None), **(make or {}))


def ended(done: Trainer) -> torch.Tensor:
    return nn.utils.parameters_to_vector(done.model.parameters()).detach()


def losses(done: Trainer) -> list[float]:
    return [entry["loss"] for entry in done.state.log_history if "loss" in entry]


def lbfgs(parameters) -> Descent:
    return Descent(parameters)


def newton_cg(parameters) -> Descent:
    return Descent(parameters, NewtonCG())


def test_the_steps_are_those_of_a_loop_with_closures(tmp_path):
    done = trainer("classes", lbfgs, tmp_path)
    batches = [dict(batch) for _ in range(2) for batch in done.get_train_dataloader()][:4]
    done = trainer("classes", lbfgs, tmp_path)
    seen = []
    before = done.compute_loss

    def compute_loss(model, inputs, **options):
        if not seen or not torch.equal(seen[-1]["input_ids"], inputs["input_ids"]):
            seen.append({name: tensor.clone() for name, tensor in inputs.items()})
        return before(model, inputs, **options)

    done.compute_loss = compute_loss
    done.train()
    assert len(seen) == len(batches)
    model = bert(num_labels=3).train()
    optimizer = Descent(model.parameters())
    expected = []
    for batch in seen:

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = model(**batch).loss
            loss.backward()
            return loss

        expected.append(float(optimizer.step(closure)))
    assert losses(done) == pytest.approx(expected, rel=1e-6)
    assert torch.allclose(ended(done), nn.utils.parameters_to_vector(model.parameters()), atol=1e-5)
    assert done.optimizer.optimizer.counts["gradients"] <= optimizer.counts["gradients"]


@pytest.mark.parametrize("optimizer", [lbfgs, newton_cg])
def test_a_resumed_training_ends_where_the_undisturbed_one_does(optimizer, tmp_path):
    whole = trainer("classes", optimizer, tmp_path, max_steps=5, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer("classes", optimizer, tmp_path, max_steps=5)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(ended(whole), ended(resumed))
    assert losses(whole) == losses(resumed)
    assert whole.optimizer.optimizer.counts == resumed.optimizer.optimizer.counts


@pytest.mark.parametrize(
    ("name", "smoothing"), [*((name, 0.0) for name in MODELS), ("classes", 0.2), ("next words", 0.2)]
)
def test_the_loss_of_every_model_is_found(name, smoothing, tmp_path):
    plain = trainer(
        name, lambda p: torch.optim.SGD(p, 0.0), tmp_path, Trainer, max_steps=1, label_smoothing_factor=smoothing
    )
    plain.train()
    done = trainer(name, newton_cg, tmp_path, max_steps=2, label_smoothing_factor=smoothing)
    done.train()
    assert losses(done)[0] == pytest.approx(losses(plain)[0], rel=1e-5)
    assert not isinstance(done.optimizer.optimizer.objective.head, Value)
    assert done.optimizer.optimizer.status.good
    assert not torch.equal(ended(done), ended(plain))


@pytest.mark.parametrize("name", ["classes", "next words"])
def test_accumulated_micro_batches_make_the_trainers_step(name, tmp_path):
    settings = {"gradient_accumulation_steps": 3, "max_steps": 1}
    plain = trainer(name, lambda p: torch.optim.SGD(p, 0.1), tmp_path, Trainer, **settings)
    plain.train()
    done = trainer(name, lambda p: Descent(p, LBFGS(), Fixed(0.1)), tmp_path, **settings)
    done.train()
    assert losses(done) == pytest.approx(losses(plain), rel=1e-6)
    assert torch.allclose(ended(done), ended(plain), atol=1e-6)


def test_accumulated_micro_batches_with_second_derivatives(tmp_path):
    def plain_cg(parameters) -> Descent:  # the default's preconditioner is drawn at random, batch by batch
        return Descent(parameters, NewtonCG(preconditioner=NoPreconditioner()))

    whole = trainer("next words", plain_cg, tmp_path, per_device_train_batch_size=12, max_steps=2)
    parts = trainer("next words", plain_cg, tmp_path, gradient_accumulation_steps=3, max_steps=2)
    whole.train()
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-4)


def test_optimizers_that_evaluate_nothing_train_as_always(tmp_path):
    makers = [
        (Trainer, lambda p: torch.optim.AdamW(p, 0.01)),
        (DescentTrainer, lambda p: torch.optim.AdamW(p, 0.01)),
        (DescentTrainer, lambda p: Descent(p, Update(torch.optim.AdamW, lr=0.01), Fixed(1))),
        (Trainer, lambda p: Descent(p, Update(torch.optim.AdamW, lr=0.01), Fixed(1))),
    ]
    ends = []
    for kind, make in makers:
        done = trainer("classes", make, tmp_path, kind, lr_scheduler_type="linear", max_grad_norm=0.5)
        done.train()
        ends.append(ended(done))
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_the_trainers_settings_are_honored(tmp_path):
    done = trainer("classes", lbfgs, tmp_path, max_grad_norm=0.25, lr_scheduler_type="linear", eval_strategy="steps",
                   eval_steps=2, make={"eval_dataset": [{"input_ids": IDS[0], "labels": CLASSES[0]}]})  # fmt: skip
    done.train()
    assert done.optimizer.optimizer.clip == ClipNorm(0.25)
    logs = [entry for entry in done.state.log_history if "loss" in entry]
    assert [entry["learning_rate"] for entry in logs] == [1.0, 0.75, 0.5, 0.25]
    assert all(entry["grad_norm"] > 0.0 for entry in logs)
    assert sum("eval_loss" in entry for entry in done.state.log_history) == 2
    own = trainer("classes", lambda p: Descent(p, clip=ClipNorm(3.0)), tmp_path, max_grad_norm=0.25, max_steps=1)
    own.train()
    assert own.optimizer.optimizer.clip == ClipNorm(3.0)


@pytest.mark.parametrize("optimizer", [lbfgs, newton_cg])
def test_bfloat16_is_the_models_precision_and_trains(optimizer, tmp_path):
    single = trainer("classes", optimizer, tmp_path, max_steps=2)
    half = trainer("classes", optimizer, tmp_path, max_steps=2, bf16=True)
    single.train()
    half.train()
    assert losses(half)[0] == pytest.approx(losses(single)[0], rel=0.02)
    assert losses(half)[0] != losses(single)[0]


def test_a_loss_of_ones_own_needs_a_head_for_gauss_newton(tmp_path):
    def twice(outputs, labels, num_items_in_batch=None):
        return 2.0 * nn.functional.cross_entropy(outputs.logits, labels)

    own = {"compute_loss_func": twice}
    with pytest.raises(InputError, match=r"no Gauss-Newton matrix: say which loss it is by head="):
        trainer("classes", newton_cg, tmp_path, make=own).train()
    for make in (lbfgs, lambda p: Descent(p, NewtonCG(Hessian, preconditioner=NoPreconditioner()))):
        done = trainer("classes", make, tmp_path, make=own, max_steps=1)
        done.train()
        assert losses(done)[0] == pytest.approx(2 * 1.1, abs=0.3)
    done = trainer("classes", newton_cg, tmp_path, make=own | {"head": Softmax(None, None)}, max_steps=1)
    done.train()
    assert losses(done)[0] == pytest.approx(1.1, abs=0.15)


@pytest.mark.parametrize("kind", [SOAP, NorMuon])
def test_preconditioned_optimizers_need_no_mixin(kind, tmp_path):
    """The Trainer's own steps, its schedule and clipping, and a training that goes on bit for bit."""
    own = {"lr_scheduler_type": "linear", "max_grad_norm": 1.0, "max_steps": 8, "save_steps": 4}
    ends = []
    for resumed in (None, str(tmp_path / "checkpoint-4")):
        model, labels = MODELS["classes"][0](), MODELS["classes"][1]
        quiet = {"logging_steps": 1, "save_strategy": "steps", "report_to": [], "use_cpu": True, "disable_tqdm": True}
        settings = TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=4, **(quiet | own))
        rows = [{"input_ids": ids, "labels": label} for ids, label in zip(IDS, labels, strict=True)]
        optimizer = kind(parameter_groups(model), lr=0.02)
        done = Trainer(model=model, args=settings, train_dataset=rows, optimizers=(optimizer, None))
        done.train(resume_from_checkpoint=resumed)
        ends.append(ended(done))
    assert torch.equal(*ends)
    assert losses(done)[-1] < losses(done)[0]


def test_roles_of_hugging_faces_own_layers():
    model = llama()
    roles = roles_of(model)
    assert [id(p) for p in roles.output] == [id(model.lm_head.weight)]
    assert [id(p) for p in roles.embeddings] == [id(model.model.embed_tokens.weight)]
    assert len(roles.norms) == 3  # LlamaRMSNorm
    assert len(roles.matrices) == 7
    turned = transformers.pytorch_utils.Conv1D(12, 4)
    turned_roles = roles_of(nn.Sequential(turned))
    assert turned_roles.transposed == {id(turned.weight)}
    assert [group["transposed"] for group in parameter_groups(turned_roles) if group["matrix"]] == [True]


def test_an_interrupted_step_leaves_nothing_behind(tmp_path):
    ends = []
    for left in ([], [{"input_ids": IDS, "labels": CLASSES}]):
        done = trainer("classes", lbfgs, tmp_path, gradient_accumulation_steps=3, max_steps=1)
        done._waiting += left
        done.train()
        ends.append(ended(done))
    assert torch.equal(*ends)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")  # its name before v6
def test_checkpointed_layers_need_plain_attention_for_second_derivatives(tmp_path):
    with pytest.raises(
        ValueError, match="switch gradient_checkpointing off, or load the model with attn_implementation"
    ):
        trainer("next words", newton_cg, tmp_path, gradient_checkpointing=True).train()
    ends = []
    for kept in (False, True):
        done = trainer("next words", newton_cg, tmp_path, gradient_checkpointing=kept, max_steps=2)
        done.model.set_attn_implementation("eager")
        done.train()
        ends.append(ended(done))
    assert torch.allclose(*ends, atol=1e-4)


def test_a_decay_that_nobody_reads_is_refused(tmp_path):
    def decayed(parameters) -> Descent:
        return Descent([{"params": list(parameters), "weight_decay": 0.1}])

    with pytest.raises(ValueError, match=r"weight_decay is read by Update\(...\).*LBFGS would ignore it"):
        trainer("classes", decayed, tmp_path).train()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("scaler", object(), r"bf16=True\) instead of fp16"), ("distributed_type", "FSDP", "FSDP divides them")],
)
def test_what_cannot_be_is_refused_in_a_sentence(name, value, message, tmp_path, monkeypatch):
    training = trainer("classes", lbfgs, tmp_path, make={"head": Softmax(None, None)})
    with pytest.raises(InputError, match="the batch has none"):
        training.training_step(training.model, {"input_ids": IDS})
    monkeypatch.setattr(
        training, "accelerator", SimpleNamespace(distributed_type="NO", scaler=None, unwrap_model=lambda model: model)
    )
    monkeypatch.setattr(training.accelerator, name, value)
    with pytest.raises(ValueError, match=message):
        training.training_step(training.model, {"input_ids": IDS})
