"""A recipe: everything that defines a run, read from and written to TOML.

While options are collected, None means "not given". `complete` (in `thalweg.training.recipe.defaults`) fills every
None, and a complete recipe holds only plain values: 0, "" and [] mean "off" or "not used". This module imports no
torch, so the command line can show its help at once.
"""

import dataclasses
import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, final, get_type_hints

from thalweg.errors import InputError


def _option(help_text: str) -> Any:
    return dataclasses.field(default=None, metadata={"help": help_text})


@final
@dataclasses.dataclass(kw_only=True)
class DataRecipe:
    """What is read, and how text and numbers become tensors."""

    source: str | None = _option("File to train on, or the name of a built-in set")
    valid: str | None = _option('Validation file; "" cuts a part off the training file')
    valid_share: float | None = _option("Share of the examples cut off for validation, when no file is given")
    text_column: str | None = _option('Column of the text (tokens, source sentence); "" is found by itself')
    other_column: str | None = _option('Column of the second text of a pair; "" is found by itself, "none" is no pair')
    label_column: str | None = _option('Column of the answer (label, tags, number, target); "" is found by itself')
    columns: list[str] | None = _option("Numeric columns to forecast, in order; without it all of them ([])")
    skip_bad_rows: bool | None = _option("Train although more than 1 % of the rows cannot be read")
    normalize: list[str] | None = _option(
        "Steps of text normalization, in order: nfc, nfkc, lower, casefold, spaces, digits, accents, controls"
    )
    tokenizer: str | None = _option("word, bpe, char or byte")
    vocabulary_size: int | None = _option("Most entries of the vocabulary")
    bigrams: int | None = _option("Maximum number of bigrams read as features by bag and mlp; 0 for none")
    max_length: int | None = _option("Longest sequence in tokens; longer ones are cut and counted")
    word_vectors: str | None = _option('Text file of word vectors to start the embedding from; "" for none')
    normalize_vectors: str | None = _option("What is done to those word vectors: none, length, center or top")
    lags: int | None = _option("Past values that a forecast sees")
    scaling: str | None = _option("Scaling of numeric columns: standard, range (to [-1, 1]) or none")


@final
@dataclasses.dataclass(kw_only=True)
class ModelRecipe:
    """The network."""

    model: str | None = _option("bag, mlp, lstm, gru or transformer")
    width: int | None = _option("Width of embeddings and hidden states")
    hidden: int | None = _option("Units of a hidden layer (of the feed-forward part in a transformer)")
    layers: int | None = _option("Number of layers")
    heads: int | None = _option("Attention heads of a transformer")
    dropout: float | None = _option("Share of units switched off at random while training")
    activation: str | None = _option("sigmoid, tanh, relu, leaky_relu, gelu or silu")
    skip: str | None = _option("Skip connections: none, residual, prenorm, highway or rezero")
    input_skip: bool | None = _option("Let the mlp see its input again at its output (input-to-output skip)")
    sparsity: float | None = _option("Share of the mlp's weights that are wired off (a fixed 0/1 mask per matrix)")
    init: str | None = _option("Initialization: default, xavier, he, orthogonal, lsuv or tfixup")
    tie: bool | None = _option("Share the output layer's matrix with the embedding (language, translate)")
    head: str | None = _option("Output layer of language and translate: softmax, or a family of continuous outputs")
    targets: str | None = _option(
        "Vectors of the words for continuous outputs: random, hypercube, trained, trained:FROM, combined:PATH, "
        "embedding, a file of word vectors, or a run's folder"
    )
    target_width: int | None = _option("Width of those vectors")
    target_average: float | None = _option("Share of the old vectors that --targets embedding keeps at each step")
    dispersion: str | None = _option("Penalty that keeps trained vectors apart: none, sliced, kernel or koleo")
    dispersion_weight: float | None = _option("What that penalty is multiplied with")


@final
@dataclasses.dataclass(kw_only=True)
class TrainingRecipe:
    """How the loss is driven down, and when to stop."""

    optimizer: str | None = _option(
        "Any of torch.optim in lower case; gradient, bfgs, self-scaled-bfgs, self-scaled-broyden, newton, newton-cg or "
        "levenberg-marquardt; or an import path such as pytorch_optimizer.SOAP"
    )
    line_search: str | None = _option(
        'Step size: none, armijo, wolfe, stochastic, trust-region; "" is the method\'s own'
    )
    optimizer_options: dict[str, Any] | None = _option(
        "More arguments of the optimizer: --optimizer-options.momentum 0.9"
    )
    lr: float | None = _option("Learning rate at its highest")
    schedule: str | None = _option(
        "How the learning rate moves: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, "
        "polynomial, inverse_sqrt, warmup_stable_decay, step, exponential or reduce_on_plateau"
    )
    schedule_options: dict[str, Any] | None = _option("More arguments of the schedule: --schedule-options.num_cycles 2")
    warmup: float | None = _option("Warm-up: a share of the run below 1, or a number of steps from 1 on")
    clip: float | None = _option("Clip the gradient to this norm; 0 is off")
    clip_value: float | None = _option("Clip each entry of the gradient to +- this; 0 is off")
    clip_adaptive: float | None = _option(
        "Clip each unit's gradient to this share of its weights' norm (AGC); 0 is off"
    )
    clip_update: float | None = _option("Clip each entry of the optimizer's update to +- this; 0 is off")
    weight_decay: float | None = _option("Decoupled weight decay: shrinks the weights beside the gradient step")
    l2: float | None = _option("L2 penalty inside the loss: l2/2 times the squared norm of the weights")
    label_smoothing: float | None = _option("Share of the target spread over all classes")
    batch_size: int | None = _option('Examples a micro-batch; "full" (0) is all data in one batch')
    accumulate: int | None = _option("Micro-batches a step; the step's loss is exact over all of them")
    epochs: float | None = _option("Passes over the training data; 0 when steps bound the run")
    steps: int | None = _option("Steps of the run; 0 when epochs bound it")
    time: float | None = _option("Time limit in seconds (on the command line 5m or 1h, too); 0 is off")
    patience: int | None = _option("Stop after this many evaluations without a better score; 0 is off")
    certify: float | None = _option(
        "Stop when the loss is proved to be this close to the best possible one (a share of it); 0 is off"
    )
    evaluate_every: int | None = _option("Steps between evaluations; 0 is once an epoch, at most 20 times a run")
    checkpoint_every: float | None = _option("Seconds between checkpoints (there is one after every evaluation, too)")


@final
@dataclasses.dataclass(kw_only=True)
class RunRecipe:
    """Which run this is and where it computes."""

    task: str | None = _option("classify, tag, score, forecast, language or translate")
    name: str | None = _option("Name of the run's folder")
    seed: int | None = _option("Seed of the start, the order of the data and the dropout")
    device: str | None = _option("auto, cpu, cuda, cuda:1 or mps")
    precision: str | None = _option("auto, float32, float64 or bfloat16 (which runs the forward pass in it)")


@final
@dataclasses.dataclass(kw_only=True)
class Recipe:
    """Everything that defines a run; complete when no field is None.

    Example:
        >>> recipe = Recipe()
        >>> recipe.set("lr", 0.1)
        >>> recipe.training.lr
        0.1
        >>> read_toml(recipe.to_toml(), "recipe.toml").training.lr
        0.1
    """

    run: RunRecipe = dataclasses.field(default_factory=RunRecipe)
    data: DataRecipe = dataclasses.field(default_factory=DataRecipe)
    model: ModelRecipe = dataclasses.field(default_factory=ModelRecipe)
    training: TrainingRecipe = dataclasses.field(default_factory=TrainingRecipe)

    def set(self, key: str, value: Any) -> None:
        """Set one option by its name, whichever section it is in.

        Raises:
            InputError: if no section has that option.
        """
        for section in self.sections().values():
            if key in {field.name for field in dataclasses.fields(section)}:
                setattr(section, key, value)
                return
        close = difflib.get_close_matches(key, option_names(), n=1)
        raise InputError(f"There is no option '{key}'{f'; did you mean {close[0]!r}?' if close else '.'}")

    def sections(self) -> dict[str, Any]:
        """Return the sections by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def missing(self) -> list[str]:
        """Return the names of the options that are not filled in."""
        return [
            field.name
            for section in self.sections().values()
            for field in dataclasses.fields(section)
            if getattr(section, field.name) is None
        ]

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return sections of plain values; options that are None are left out."""
        sections = {name: dataclasses.asdict(section) for name, section in self.sections().items()}
        return {name: {k: v for k, v in values.items() if v is not None} for name, values in sections.items()}

    def to_toml(self) -> str:
        """Return the recipe as TOML, with a comment on every line."""
        lines = ['# A thalweg recipe. `thalweg train recipe.toml` repeats the run; 0 and "" mean off or not used.', ""]
        for name, section in self.sections().items():
            doc = (type(section).__doc__ or "").splitlines()[0]
            lines += [f"[{name}]  # {doc}"]
            entries = [(f, getattr(section, f.name)) for f in dataclasses.fields(section)]
            texts = [
                (f"{f.name} = {_toml_value(value)}", f.metadata["help"]) for f, value in entries if value is not None
            ]
            column = min(44, max((len(text) for text, _ in texts), default=0))
            lines += [f"{text:<{column}}  # {help_text}" for text, help_text in texts] + [""]
        return "\n".join(lines)


def option_names() -> list[str]:
    """Return the names of all options."""
    return [field.name for section in Recipe().sections().values() for field in dataclasses.fields(section)]


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe file.

    Raises:
        InputError: if the file is missing or no TOML, or holds an unknown section, option or a value of a wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the name and the folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {path} cannot be read: {error}.") from None
    return read_toml(text, str(path))


def read_toml(text: str, where: str) -> Recipe:
    """Read a recipe from TOML text; `where` names it in messages.

    Raises:
        InputError: as `read_recipe`.
    """
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is no valid TOML: {error}.") from None
    recipe = Recipe()
    sections = recipe.sections()
    for name, values in parsed.items():
        if name not in sections or not isinstance(values, dict):
            raise InputError(
                f"{where}: there is no section [{name}]; expected {', '.join(f'[{s}]' for s in sections)}."
            )
        section = sections[name]
        types = get_type_hints(type(section))
        for key, value in values.items():
            if key not in types:
                close = difflib.get_close_matches(key, list(types), n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise InputError(f"{where}: section [{name}] has no option {key!r}{hint}")
            setattr(section, key, _checked(value, types[key], f"{where}: [{name}] {key}"))
    return recipe


def _checked(value: Any, expected: Any, where: str) -> Any:
    """Return the value in the option's type, or refuse it."""
    kinds: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
    kind = kinds[str(expected).split(" | ")[0].split("[")[0]]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where} must be {_WORDS[kind]}; got {value!r}.")
    if isinstance(value, list) and not all(isinstance(entry, str) for entry in value):
        raise InputError(f"{where} must be a list of texts; got {value!r}.")
    return value


_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def _toml_value(value: Any) -> str:
    """Return a plain value as TOML (JSON's text form is TOML's, for what recipes hold)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # the shortest text that reads back as the same number; nan and inf are TOML, too
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_value(str(k))} = {_toml_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(entry) for entry in value) + "]"
    # JSON escapes the same characters; DEL is the one that TOML wants escaped and JSON leaves.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
