"""The options of a run and of its data: half of the table (see `thalweg.training.recipe.options`)."""

from dataclasses import dataclass
from typing import Annotated, final

from thalweg import names
from thalweg.data.files.base import KINDS
from thalweg.tasks.spec import FINE_TUNED, FROZEN
from thalweg.training.recipe import defaults
from thalweg.training.recipe.option import Option, listed
from thalweg.training.recipe.ranges import COUNT, FRACTION, FROM_ZERO, RATIO, SEED

# Each field is `name: Annotated[type, Option(help, default, range, ...)]`.
# fmt: off


@final
@dataclass(frozen=True, kw_only=True)
class RunSection:
    """Which run this is and where it computes."""

    task: Annotated[str, Option(f"Task: {listed(names.TASKS)}", choices=names.TASKS, compared="fixed", online="")]
    name: Annotated[str, Option("Name of the run's folder", compared="fixed", online="")]
    start_from: Annotated[str, Option(
        'Run folder whose weights training starts from, or with --distill whose answers it learns; "": none', "",
        compared="fixed",
    )]
    seed: Annotated[int, Option("Random seed of initialization, data order and dropout", 0, SEED, compared="fixed")]
    device: Annotated[str, Option(
        "Device: auto, cpu, cuda, cuda:1 or mps", "auto", compared="fixed", resumed=True
    )]
    precision: Annotated[str, Option(
        "Precision: auto, float32, float64 or bfloat16 (which runs the forward pass in it)", "auto",
        choices=("auto", *names.PRECISIONS), proved="float64", compared="equal",
    )]
    compile: Annotated[bool, Option(
        "Compile the model by torch.compile: slow first steps, and faster ones then", False, compared="equal",
    )]


@final
@dataclass(frozen=True, kw_only=True)
class DataSection:
    """What is read, and how text and numbers become tensors."""

    source: Annotated[str, Option(
        "File to train on, or the name of a built-in set", compared="fixed", online=""
    )]
    valid: Annotated[str, Option('Validation file; "" splits off a part of the training file', "", compared="fixed")]
    valid_share: Annotated[float, Option(
        "Fraction of the examples in the validation split, when no file is given; 0 trains on all of them (classify)",
        0.1, FRACTION, other_losses="always",
    )]
    text_column: Annotated[str, Option(
        'Column of the text (tokens, source sentence); default: detected automatically', "", trait="text",
        compared="fixed", online="columns",
    )]
    other_column: Annotated[str, Option(
        'Column of the second text of a pair; default: detected automatically; "none": no pair', "", trait="pairs",
        compared="fixed",
    )]
    label_column: Annotated[str, Option(
        'Column of the answer (label, tags, number, target); default: detected automatically', "", compared="fixed",
        online="",
    )]
    columns: Annotated[tuple[str, ...], Option(
        "Numeric columns to forecast, in order; [] is all of them", (), trait="series", compared="fixed")]
    time_column: Annotated[str, Option(
        'Column of the time of a row, or several ("year,month"); default: detected automatically; "none": rows are in '
        "order", "", trait="series", compared="fixed")]
    id_column: Annotated[str, Option('Column (columns) that tells several series apart; default: found automatically;'
        ' "none": there is one', "", trait="series", compared="fixed")]
    day_first: Annotated[str, Option("What 01/02/2024 means: yes (February 1), no or auto (the column decides)", "auto",
        choices=("auto", "yes", "no"), trait="series", compared="fixed")]
    gaps: Annotated[str, Option("Missing moments: refuse, fill (straight lines), ignore or auto (fill a few)", "auto",
        choices=("auto", "refuse", "fill", "ignore"), trait="series", other_losses="always")]
    decimal: Annotated[str, Option(
        'Decimal mark of the numbers, "." or ","; default: by how they are written', "", choices=("", ".", ","),
        what="decimal mark", compared="fixed",
    )]
    kind: Annotated[str, Option(
        f"Format of the files: {listed(KINDS)}; default: detected by ending and content", "", choices=("", *KINDS),
        what="format", compared="fixed", online="",
    )]
    header: Annotated[str, Option(
        "Whether the first row of a CSV or TSV file holds the names of the columns: yes or no; default: detected", "",
        choices=("", "yes", "no"), compared="fixed", online="",
    )]
    skip_bad_rows: Annotated[bool, Option(
        "Leave out rows with values that the task cannot use, and any number of unreadable rows",
        False, compared="fixed", online="",
    )]
    streaming: Annotated[str, Option(
        "Read the training data in blocks while training: yes, no (all into memory) or auto (yes above 1 GB)", "auto",
        choices=("auto", "yes", "no"), compared="fixed",
    )]
    normalize: Annotated[tuple[str, ...], Option(
        "Steps of text normalization, in order: nfc, nfkc, lower, casefold, spaces, digits, accents, controls",
        ("nfc", "lower", "spaces"), trait="text", other_losses="of texts",
    )]
    tokenizer: Annotated[str, Option(
        f"Tokenizer: {listed(names.TOKENIZERS)} (a pretrained model's own, or that of --vocabulary)", "word",
        choices=names.TOKENIZERS, trait="tokens", other_losses="of texts", follows=defaults.tokenizer,
    )]
    vocabulary_size: Annotated[int, Option(
        "Maximum vocabulary size", 30_000, COUNT, by_model={"bag": 50_000, "linear": 50_000}, trait="text",
        other_losses="of texts", online="num_buckets",
    )]
    min_frequency: Annotated[int, Option(
        "Times that a pair of subwords must meet in the training data to be joined (bpe); 0: 50 for a language model, "
        "20 for a translation", 0, FROM_ZERO, trait="writes", other_losses="of texts",
        idle=lambda values: "" if values["tokenizer"] == "bpe" else f"on --tokenizer {values['tokenizer']}",
    )]
    bigrams: Annotated[int, Option(
        "Maximum number of bigrams read as features by bag, linear and mlp; 0 for none", 0, FROM_ZERO,
        by_model={"bag": 100_000, "linear": 100_000}, trait="bigrams", models=("bag", "linear", "mlp"),
        follows=lambda values: values["bigrams"] if values["tokenizer"] == "word" else 0,
    )]
    max_length: Annotated[int, Option(
        "Maximum sequence length in tokens; longer sequences are truncated and counted", 256, COUNT,
        trait="text", models=("lstm", "gru", "transformer", FINE_TUNED, FROZEN), other_losses="of texts",
    )]
    vocabulary: Annotated[str, Option(
        "File of a vocabulary: a model of SentencePiece, a tokenizer.json, or a word a line, maybe with its count", "",
        trait="writes", models=("lstm", "transformer"), other_losses="of texts",
    )]
    vocabularies: Annotated[str, Option(
        "Vocabulary of source and target: joint (one for both) or separate", "joint", choices=("joint", "separate"),
        trait="translates", models=("lstm", "transformer"), other_losses="of texts",
    )]
    long: Annotated[str, Option(
        "What to do with training pairs longer than --max-length: drop or cut (validation pairs are always cut)",
        "drop", choices=("drop", "cut"), trait="translates",
    )]
    max_ratio: Annotated[float, Option(
        "How many times as many tokens one side of a training pair may have as the other (both up to 10: any); 0: any",
        0.0, RATIO, trait="translates",
    )]
    bpe_dropout: Annotated[float, Option(
        "Probability with which --tokenizer bpe leaves a merge out, so that training sees words cut in other ways each "
        "time; 0: never", 0.0, FRACTION, trait="translates",
    )]
    carry: Annotated[int, Option(
        "Chunks of text (of --max-length) before each one that a language model's lstm reads first, without gradient, "
        "so that it begins with the state after them; 0: with an empty one", 0, FROM_ZERO, full_batch=0,
        trait="running", models=("lstm",), follows=defaults.carry, other_losses="always",
    )]
    stride: Annotated[int, Option(
        "Tokens between the sliding windows of an evaluation: each token is predicted from --max-length less so many "
        "before it, or more (language); 0: chunks one after the other", 0, FROM_ZERO, trait="running",
        other_losses="always",
    )]
    word_vectors: Annotated[str, Option(
        "Word vectors that initialize the embedding, or whose mean is read beside a bag of words",
        "", trait="text",
    )]
    normalize_vectors: Annotated[str, Option(
        f"Normalization of those word vectors: {listed(names.VECTOR_STEPS)}", "length", choices=names.VECTOR_STEPS,
        what="normalization of word vectors", trait="text",
        idle=lambda values: "" if values["word_vectors"] else "without --word-vectors",
    )]
    lags: Annotated[int, Option(
        "Number of past values that a forecast sees; 0: ar chooses by the data", 0, FROM_ZERO, trait="series"
    )]
    scaling: Annotated[str, Option(
        "Scaling of numeric columns: standard, range (to [-1, 1]) or none", "none", choices=names.SCALINGS,
        trait="series", models=("mlp", "lstm"), other_losses="always",
    )]
# fmt: on
