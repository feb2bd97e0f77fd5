"""Callbacks that watch Trainers, of Hugging Face and of Lightning: steps, losses and batches are the training's."""

import gc
import logging
import warnings

import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import TrainerCallback, TrainingArguments

from thalweg.diagnosis.loops.in_lightning import LightningDiagnosis
from thalweg.diagnosis.loops.in_trainer import TrainerDiagnosis
from thalweg.heads.softmax import Softmax

with warnings.catch_warnings():  # of the package about PyTorch's and its own parts
    warnings.simplefilter("ignore")
    from lightning import Callback, LightningModule, Trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

IDS = torch.randint(3, 30, (24, 6), generator=torch.Generator().manual_seed(1))
LABELS = (IDS[:, 0] - 3) // 9


@pytest.fixture(autouse=True, scope="module")
def _quick_collections():
    gc.freeze()
    yield
    gc.unfreeze()


class InTrainer(TrainerDiagnosis, TrainerCallback):
    pass


class InLightning(LightningDiagnosis, Callback):
    pass


def bert(attention="sdpa"):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, num_labels=3, attn_implementation=attention,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def in_trainer(folder, callbacks, **options):
    settings = {"max_steps": 6, "per_device_train_batch_size": 8, "eval_strategy": "steps", "eval_steps": 3}
    arguments = TrainingArguments(
        output_dir=str(folder), **settings | options, report_to=[], use_cpu=True, disable_tqdm=True, logging_steps=1,
        save_strategy="no", seed=3,
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": label} for row, label in zip(IDS, LABELS, strict=True)]
    trainer = transformers.Trainer(
        model=bert(), args=arguments, train_dataset=rows, eval_dataset=rows[:8], callbacks=callbacks
    )
    trainer.train()
    return trainer


def test_the_trainers_steps_are_seen_and_stay_the_same(tmp_path):
    callback = InTrainer()
    watched, plain = in_trainer(tmp_path / "a", [callback]), in_trainer(tmp_path / "b", [])
    weights = (trainer.model.state_dict().values() for trainer in (watched, plain))
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    history = callback.watch.history
    steps = [entry for entry in history if entry["event"] == "step"]
    logged = [entry["loss"] for entry in watched.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in steps] == pytest.approx(logged, rel=1e-3)  # the logs are rounded
    evaluations = [entry for entry in history if entry["event"] == "evaluation"]
    assert [(entry["step"], "training_mode" in entry) for entry in evaluations] == [(3, False), (6, False)]
    assert not watched.model._forward_hooks
    kinds = [site["kind"] for site in steps[0]["sites"]]
    assert kinds.count("attention") == 2
    assert kinds.count("gelu") == 2
    assert kinds.count("norm") == 5
    [first, _] = [site for site in steps[0]["sites"] if site["kind"] == "attention"]
    assert first["name"] == "bert.encoder.layer.0.attention.self"
    assert 0.9 < first["entropy"] <= 1.0


def test_the_trainers_batches_are_what_probes_look_at(tmp_path):
    callback = InTrainer()
    trainer = in_trainer(tmp_path, [callback])
    subject = callback.watch.subject()
    assert subject.facts.family == "transformer"
    assert subject.facts.batch_size == 8
    batch = subject.train[0]
    trainer.model.eval()
    expected = trainer.model(**batch.inputs)["loss"]
    torch.testing.assert_close(subject.objective([batch]).value(), expected)
    with pytest.raises(RuntimeError, match="Nothing has been watched yet"):
        InTrainer().diagnose()


def test_a_loss_that_only_the_trainer_knows_is_taken_from_its_logs(tmp_path):
    callback = InTrainer()
    trainer = in_trainer(tmp_path, [callback], label_smoothing_factor=0.1)
    steps = [entry for entry in callback.watch.history if entry["event"] == "step"]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in steps] == pytest.approx(logged, rel=1e-3)


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        self.losses = []

    def loss_of(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss_of(batch)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss_of(batch))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def in_lightning(folder, callbacks, **options):
    x = torch.randn(32, 3, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=callbacks, **options,
    )  # fmt: skip
    net = Net()
    trainer.fit(net, loader, loader)
    return net


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightnings_steps_are_seen_and_stay_the_same(tmp_path, accumulate):
    callback = InLightning()
    watched = in_lightning(tmp_path, [callback], accumulate_grad_batches=accumulate)
    plain = in_lightning(tmp_path, [], accumulate_grad_batches=accumulate)
    pairs = zip(watched.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    history = callback.watch.history
    steps = [entry for entry in history if entry["event"] == "step"]
    means = torch.tensor(watched.losses).view(-1, accumulate).mean(1).tolist()
    assert [entry["loss"] for entry in steps] == pytest.approx(means)
    assert [site["kind"] for site in steps[0]["sites"]] == ["linear", "relu", "linear"]
    assert [entry["step"] for entry in history if entry["event"] == "evaluation"] == [4 // accumulate, 8 // accumulate]
    subject = callback.watch.subject()
    assert isinstance(subject.head, Softmax)
    assert subject.facts.batch_size == 8 * accumulate
    assert steps[0]["grad_norm"] > 0.0
