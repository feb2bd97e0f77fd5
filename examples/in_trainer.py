"""L-BFGS and Newton-CG inside Hugging Face's Trainer, on a small BERT made here; and resumed bit for bit."""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from thalweg import Descent, NewtonCG
from thalweg.frameworks import TrainerSteps
from thalweg.optim import AbstractDirection


class DescentTrainer(TrainerSteps, Trainer):
    """The Trainer, whose steps any `Descent` can take."""


def texts(num: int) -> list[dict[str, Tensor]]:
    """Return sequences of words, whose class is which third of the vocabulary their first word is from."""
    ids = torch.randint(3, 33, (num, 6), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": (row[0] - 3) // 10} for row in ids]


def train(direction: AbstractDirection | None, name: str, resume: str | None = None) -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=33,
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=6,
        hidden_dropout_prob=0.0,  # second derivatives need that
        attention_probs_dropout_prob=0.0,
    )
    config.num_labels = 3
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        output_dir=f"checkpoints/{name}",
        max_steps=12,
        per_device_train_batch_size=60,
        lr_scheduler_type="constant",  # the rate multiplies the direction; the default lets it fall to 0
        max_grad_norm=0.0,  # a search needs no clipping
        save_steps=6,
        logging_steps=3,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    optimizer = Descent(model.parameters(), direction)
    trainer = DescentTrainer(model=model, args=arguments, train_dataset=texts(120), optimizers=(optimizer, None))
    trainer.train(resume_from_checkpoint=resume)
    losses = [f"{entry['loss']:.3f}" for entry in trainer.state.log_history if "loss" in entry]
    print(f"{name}: loss {' '.join(losses)}, {optimizer.counts['gradients']} gradients. {optimizer.status.value}")
    return model


def main() -> None:
    for name, direction in (("L-BFGS", None), ("Newton-CG", NewtonCG())):
        whole = train(direction, name)
        resumed = train(direction, name, f"checkpoints/{name}/checkpoint-6")
        pairs = zip(whole.parameters(), resumed.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        print(f"{name}: resumed at step 6, the same to the last bit at step 12")


if __name__ == "__main__":
    main()
