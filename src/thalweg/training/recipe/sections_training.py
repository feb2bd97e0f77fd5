"""The options of the network and of its training: half of the table (see `thalweg.training.recipe.options`)."""

from dataclasses import dataclass
from typing import Annotated, Final, final

from thalweg import names
from thalweg.status import Status
from thalweg.tasks.spec import FINE_TUNED, FROZEN
from thalweg.training.recipe import defaults
from thalweg.training.recipe.defaults import Values
from thalweg.training.recipe.option import Option, listed
from thalweg.training.recipe.ranges import (
    AMOUNT,
    COUNT,
    DEPTH,
    FRACTION,
    FROM_ZERO,
    LENGTH,
    POSITIVE,
    UNIT,
    WIDTH,
)
from thalweg.training.recipe.spelled import batch_size, seconds

_LAYERED: Final = ("mlp", "lstm", "gru", "transformer")
_PRETRAINED: Final = (FINE_TUNED, FROZEN)

# Each field is `name: Annotated[type, Option(help, default, range, ...)]`.
# fmt: off


@final
@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The network."""

    model: Annotated[str, Option(
        f"Model: {listed(names.models())}; or hf:PATH, the folder of a pretrained model of Hugging Face"
    )]
    freeze: Annotated[bool, Option(
        "Keep the pretrained model as it is, and train the output layer alone on what it says of each text, to a "
        "proved optimum", False, models=_PRETRAINED,
    )]
    pooling: Annotated[str, Option(
        "From the states of a pretrained model to one of a text: mean, cls, last, or auto (as it was made with)",
        "auto", choices=names.POOLINGS, models=_PRETRAINED,
    )]
    pairs: Annotated[str, Option(
        "Pairs of texts and a pretrained model: cross (both in one sequence), bi (each by itself), or auto (bi for "
        "sentence encoders)", "auto", choices=names.PAIR_READINGS, models=_PRETRAINED, trait="pairs",
    )]
    last_layers: Annotated[int, Option(
        "Train the last layers of a pretrained model, so many, and the output layer; 0: all", 0, FROM_ZERO,
        models=(FINE_TUNED,),
    )]
    lora: Annotated[int, Option(
        "Rank of low-rank matrices (LoRA) that are trained in place of a pretrained model's own; 0: none", 0,
        FROM_ZERO, models=(FINE_TUNED,),
    )]
    lora_alpha: Annotated[float, Option(
        "What those matrices are scaled with, over their rank; 0: twice the rank", 0.0, AMOUNT, models=(FINE_TUNED,),
        idle=lambda values: "" if values["lora"] else "without --lora",
    )]
    width: Annotated[int, Option(
        "Width of embeddings and hidden states", 128, WIDTH, by_model={"bag": 64}, idle=defaults.on_linear
    )]
    hidden: Annotated[int, Option(
        "Units of a hidden layer (of the feed-forward block in a transformer)", 128, WIDTH,
        by_model={"transformer": 256}, models=_LAYERED,
    )]
    layers: Annotated[int, Option(
        "Number of layers", 1, DEPTH, models=_LAYERED,
        by_model={"bag": 0, "linear": 0, "transformer": 2, FROZEN: 0, FINE_TUNED: 0},
    )]
    heads: Annotated[int, Option("Number of attention heads of a transformer", 4, WIDTH, models=("transformer",))]
    dropout: Annotated[float, Option(
        "Dropout probability", 0.1, FRACTION, full_batch=0.0, solver_needs=0.0, wants="method", idle=defaults.on_linear,
        compared="equal",
    )]
    activation: Annotated[str, Option(
        f"Activation function: {listed(names.ACTIVATIONS)}", "relu", choices=names.ACTIVATIONS,
        by_model={"transformer": "gelu"}, models=("mlp", "transformer"),
    )]
    skip: Annotated[str, Option(
        f"Skip connections: {listed(names.SKIPS)}", "none", choices=names.SKIPS, what="skip connection",
        by_model={"transformer": "prenorm"}, models=_LAYERED,
    )]
    input_skip: Annotated[bool, Option("Add a linear map from the mlp's input to its output", False)]
    sparsity: Annotated[float, Option(
        "Fraction of the mlp's weights that are fixed at zero (one mask per matrix)", 0.0, FRACTION
    )]
    init: Annotated[str, Option(
        f"Initialization: {listed(names.INITIALIZATIONS)}", "default", choices=names.INITIALIZATIONS,
        what="initialization", wants="method",
    )]
    head: Annotated[str, Option(
        "Output layer: softmax; crf (--task tag: the tags of a sentence depend on each other); or, of tasks that write "
        "text, a family of continuous outputs", "softmax",
        choices=names.HEADS, other_losses="always",
    )]
    targets: Annotated[str, Option(
        "Word vectors of continuous outputs: random, hypercube, trained, trained:FROM, combined:PATH, embedding, a "
        "file of word vectors, or a run's folder", "random", follows=defaults.targets, continuous=True,
        other_losses="always",
    )]
    tie: Annotated[bool, Option(
        "Tie the output layer's matrix to the embedding (language, translate)", False, trait="writes",
        follows=defaults.tie, other_losses="always",
    )]
    tie_source: Annotated[bool, Option(
        "Tie the embedding of the source to that of the target, which takes one vocabulary (translate)", False,
        trait="translates", models=("lstm", "transformer"), other_losses="always", follows=defaults.tie_source,
    )]
    target_width: Annotated[int, Option(
        "Width of the --targets vectors", 128, WIDTH, follows=defaults.target_width, continuous=True,
        other_losses="always",
    )]
    target_average: Annotated[float, Option(
        "EMA decay of the target vectors of --targets embedding", 0.0, FRACTION, continuous=True, other_losses="always"
    )]
    dispersion: Annotated[str, Option(
        f"Penalty that keeps trained vectors apart: {listed(names.DISPERSIONS)}", "none", choices=names.DISPERSIONS,
        continuous=True, other_losses="always",
    )]
    dispersion_weight: Annotated[float, Option(
        "Weight of that penalty", 0.1, AMOUNT, continuous=True, other_losses="always"
    )]


@final
@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """Optimization and stopping."""

    optimizer: Annotated[str, Option(
        "Optimizer: auto, which chooses one; any of torch.optim in lower case; "
        f"{listed((*names.OPTIMIZERS, *names.METHODS))}; or an import path such as pytorch_optimizer.SOAP",
        names.OPTIMIZER, wants="method", follows=defaults.optimizer,
    )]
    line_search: Annotated[str, Option(
        f"Step size: {listed(names.LINE_SEARCHES)}; \"\" is the method's own", "", proved="",
        choices=("", *names.LINE_SEARCHES), follows=defaults.line_search, wants="method",
    )]
    optimizer_options: Annotated[Values, Option(
        "Extra arguments of the optimizer: --optimizer-options.momentum 0.9", {}, wants="method"
    )]
    lr: Annotated[float, Option(
        "Peak learning rate", 3e-3, POSITIVE,
        by_model={"bag": 0.01, "linear": 0.01, "transformer": 1e-3},
        full_batch=1.0, wants="method", online="lr",
    )]
    schedule: Annotated[str, Option(
        f"Learning-rate schedule: {listed(names.SCHEDULES)}", "cosine", choices=names.SCHEDULES,
        full_batch="constant", follows=defaults.schedule, wants="method",
    )]
    schedule_options: Annotated[Values, Option(
        "Extra arguments of the schedule: --schedule-options.num_cycles 2", {}, wants="method"
    )]
    warmup: Annotated[float, Option(
        "Warm-up: fraction of the run if below 1, else number of steps", 0.05, LENGTH,
        by_model={"transformer": 0.1}, full_batch=0.0, follows=defaults.warmup,
        idle=defaults.no_warmup, wants="method",
    )]
    average: Annotated[str, Option(
        "Average of the weights that is evaluated and saved: schedule-free (instead of a decaying rate), ema "
        "(exponential), last (of the last part of the steps), or none", "none", choices=names.AVERAGES,
        what="average", wants="method",
    )]
    clip: Annotated[float, Option(
        "Clip the gradient to this norm; 0 is off", 1.0, AMOUNT, full_batch=0.0, wants="method"
    )]
    clip_running: Annotated[float, Option(
        "Clip the gradient to so many standard deviations above the running mean of its norm's logarithm; 0 is off",
        0.0, AMOUNT, wants="method",
    )]
    clip_value: Annotated[float, Option(
        "Clip each entry of the gradient to [-c, c] for this c; 0 is off", 0.0, AMOUNT, wants="method"
    )]
    clip_adaptive: Annotated[float, Option(
        "Clip each unit's gradient to this fraction of its weights' norm (AGC); 0 is off", 0.0, AMOUNT,
        wants="method",
    )]
    clip_update: Annotated[float, Option(
        "Clip each entry of the optimizer's update to [-c, c] for this c; 0 is off", 0.0, AMOUNT, wants="method"
    )]
    weight_decay: Annotated[float, Option(
        "Decoupled weight decay (as in AdamW)", 0.01, AMOUNT, full_batch=0.0,
        solver_needs=0.0, wants="method",
    )]
    layer_decay: Annotated[float, Option(
        "Factor between the learning rates of a pretrained model's layers, from the last one down; 1: all alike", 1.0,
        POSITIVE, models=(FINE_TUNED,),
    )]
    unfreeze_every: Annotated[float, Option(
        "Gradual unfreezing: epochs after which one more layer of a pretrained model is trained, from the last one "
        "down; 0: all from the start", 0.0, LENGTH, models=(FINE_TUNED,),
    )]
    l2: Annotated[float, Option(
        "L2 penalty inside the loss: l2/2 times the squared norm of the weights", 0.0, AMOUNT, full_batch=1e-4,
        compared="equal", online="l2",
    )]
    label_smoothing: Annotated[float, Option(
        "Label smoothing: probability mass spread uniformly over all classes", 0.0, FRACTION, trait="classes",
        follows=defaults.label_smoothing,
        idle=lambda values: "on --head crf" if values["head"] == names.CHAIN_HEAD else "", compared="equal",
    )]
    class_weights: Annotated[str, Option(
        "Weights of the labels in the training loss: none, or balanced (rare ones count as much as frequent ones)",
        "none", choices=names.CLASS_WEIGHTS, what="class weights", trait="labels",
        compared="equal", other_losses="always",
    )]
    distill: Annotated[bool, Option(
        "Distillation: learn from the answers (probabilities) of the run that --start-from names, which may be any "
        "model of the same task; rows need no labels", False, trait="taught", compared="equal", other_losses="always",
    )]
    distill_weight: Annotated[float, Option(
        "Fraction of the targets that those answers make; the data's own labels make the rest", 1.0, UNIT,
        idle=lambda values: "" if values["distill"] else "without --distill", trait="taught", compared="equal",
        other_losses="always",
    )]
    threshold: Annotated[str, Option(
        'Probability from which a label is given: a number, or auto, chosen on the validation data; "" is auto for '
        "several labels a text, and the most probable label where only one fits", "", trait="labels", compared="equal",
        may_be_number=True,
    )]
    bleu_tokenizer: Annotated[str, Option(
        f"Tokenizer of BLEU, by sacreBLEU's names: {listed(names.BLEU_TOKENIZERS)}", "13a",
        choices=names.BLEU_TOKENIZERS, what="tokenizer of BLEU", trait="translates", compared="fixed", resumed=True,
    )]
    batch_size: Annotated[int, Option(
        'Examples per micro-batch; "full" (0) is all data in one batch', 64, FROM_ZERO, full_batch=0,
        solver_needs=0, wants="method", parse=batch_size,
        idle=lambda values: "beside --batch-tokens" if values["batch_tokens"] else "",
    )]
    batch_tokens: Annotated[int, Option(
        "Tokens per micro-batch in place of --batch-size, padding included, with texts of like lengths together; 0 is "
        "off", 0, FROM_ZERO, solver_needs=0, full_batch=0, wants="method", trait="lengths",
        models=(*_LAYERED, FINE_TUNED), idle=defaults.no_lengths,
    )]
    accumulate: Annotated[int, Option(
        "Gradient accumulation: micro-batches per optimizer step", 1, COUNT, solver_needs=1,
        wants="passes",
    )]
    epochs: Annotated[float, Option(
        "Passes over the training data; 0 if --steps limits the run", 10.0, LENGTH, full_batch=100.0,
        follows=lambda values: 0.0 if values["steps"] else values["epochs"], wants="passes", compared="budget",
        resumed=True, ends=Status.COMPLETED,
    )]
    steps: Annotated[int, Option(
        "Number of steps; 0 if --epochs limits the run", 0, FROM_ZERO, wants="passes", compared="budget",
        resumed=True, ends=Status.COMPLETED,
    )]
    time: Annotated[float, Option(
        "Time limit in seconds (on the command line 5m or 1h, too), evaluations and the report included, which begins "
        "when the data are read; 0 is off", 0.0, LENGTH, parse=seconds,
        compared="budget", resumed=True, ends=Status.OUT_OF_TIME,
    )]
    patience: Annotated[int, Option(
        "Stop after this many evaluations without a better score; 0 is off", 0, FROM_ZERO, wants="method",
        compared="budget", resumed=True, ends=Status.STOPPED_EARLY,
    )]
    select: Annotated[str, Option(
        "What validation chooses before a training to a proved optimum: the penalty --l2, the model too, or none of "
        "them; or, of --task translate, what picks the best weights in place of the loss: bleu or chrf",
        "none", choices=("model", "penalty", *names.WRITTEN_METRICS, "none"), what="selection",
        proved_given=defaults.select, idle=defaults.no_selection, compared="budget",
    )]
    refit: Annotated[bool, Option(
        "Train such a model on the validation examples too, once they have chosen and measured", False,
        follows=lambda values: values["select"] in ("model", "penalty"), idle=defaults.no_solver, compared="budget",
    )]
    certify: Annotated[float, Option(
        "Stop when the loss is provably within this fraction of the global optimum; 0 is off", 0.0, AMOUNT,
        proved=1e-4, compared="budget",
    )]
    evaluate_every: Annotated[int, Option(
        "Steps between evaluations; 0: once per epoch, at most 20 per run", 0, FROM_ZERO, compared="budget",
        resumed=True,
    )]
    shard: Annotated[bool, Option(
        "Divide parameters, gradients and the optimizer's memory among processes (FSDP2), for large models", False,
        compared="equal",
    )]
    checkpoint_every: Annotated[float, Option(
        "Time between checkpoints (60s, 10m, 2h; one is also written after each evaluation); 0 is off", 60.0, LENGTH,
        parse=seconds, compared="budget", resumed=True,
    )]
    keep: Annotated[int, Option(
        "Number of checkpoints that are kept, the newest ones", 2, COUNT, compared="budget", resumed=True
    )]
    log: Annotated[tuple[str, ...], Option(
        f"Trackers that get the history, too: {listed(names.TRACKERS)}, or several with commas", (),
        choices=names.TRACKERS, what="tracker", compared="budget", resumed=True,
    )]
# fmt: on
