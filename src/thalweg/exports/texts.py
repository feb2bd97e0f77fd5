"""Tasks that read text as graphs: padded tokens or bags of features in, probabilities or numbers out."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from thalweg.data.arrays.batches import Examples
from thalweg.data.text.features import VECTOR_LENGTH, BagFeatures
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.subwords.given import GivenTokenizer
from thalweg.data.text.tokenizer import BOS, EOS, SPECIALS
from thalweg.errors import InputError
from thalweg.exports.graph import (
    BATCH,
    LENGTH,
    Example,
    Graph,
    InUnits,
    OneText,
    PaddedBag,
    Port,
    Probabilities,
    Translating,
    TwoTexts,
)
from thalweg.heads.base import AbstractHead
from thalweg.heads.crf import CRF
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag, LinearBag
from thalweg.models.pair import Pair
from thalweg.tasks.answering import answering
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.language.task import Language
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.reading.text_reader import TextReader
from thalweg.tasks.score.task import Score
from thalweg.tasks.tag.task import Tag
from thalweg.tasks.translate.task import SOURCE_TOKENIZER, Translate

SIZES: Final = (12, 0, 1, 5, 30)  # words of the texts that are tried
_TOKENS = Port("tokens", "int64", (BATCH, LENGTH), "Ids of the tokens; 0 is padding, on the right.")
_MASK = Port("mask", "bool", (BATCH, LENGTH), "True at tokens, False at padding.")
_FEATURES = Port("tokens", "int64", (BATCH, LENGTH), "Ids of the features of a text, in any order; 0 is padding.")
_WEIGHTS = Port("weights", "float32", (BATCH, LENGTH), "Weights of these features; 0 at padding.")


def of_classify(task: Classify, model: nn.Module, head: AbstractHead) -> Graph:
    """Return a classifier, whose output is the probability of each label."""
    examples = []
    for texts in _texts(task.reader.tokenizer):
        inputs = task.reader.inputs(Examples(task.reader.read(texts), raw=None), np.arange(len(texts)))
        examples.append(Example(_padded(inputs), task.scores(model, head, texts)[1]))
    decision, labels = task.decision.to_json(), list(task.labels)
    each = "each by itself" if task.multilabel else "which add up to 1"
    said = "The label with the largest probability is the answer."
    if decision["limits"] is not None:
        limits = [1.0 / (1.0 + math.exp(-limit)) for limit in decision["limits"]]
        known = labels if task.multilabel else [labels[decision["rarer"]]]
        decision["thresholds"] = dict(zip(known, limits, strict=True))
        said = 'A label is given above its probability in "thresholds" of model.json.'
    elif task.multilabel:
        said = "A label is given above the probability 0.5."
    return Graph(
        _network(model, head, Probabilities(several=task.multilabel)),
        _ports(task.reader),
        Port("probabilities", "float32", (BATCH, len(labels)), f"Probabilities of the labels, {each}. {said}"),
        tuple(examples),
        {"labels": labels, "decision": decision, **_about(task.reader)},
        _reading(task.reader),
        task.reader.files(),
        _most(task.reader),
    )


def of_score(task: Score, model: nn.Module, head: AbstractHead) -> Graph:
    """Return what scores texts or pairs of texts, in the numbers' own unit."""
    examples = []
    for texts in _texts(task.reader.tokenizer):
        others = [" ".join(text.split()[:7]) for text in reversed(texts)]  # of another length, which is traced
        rows: list[Any] = list(zip(texts, others, strict=True)) if task.is_pair else texts
        answers = [answer["score"] for answer in task.predict(model, head, rows, AnswerOptions())]
        inputs = task.inputs_of([row if task.is_pair else (row,) for row in rows])
        examples.append(Example(_padded(inputs), np.array(answers)))
    low, high = task.span or (-math.inf, math.inf)
    answer = InUnits(float(task.scaling.scale[0]), float(task.scaling.shift[0]), (low, high))
    ports, reading = _ports(task.reader), _reading(task.reader)
    if task.pairs is not None:
        ports = (_FEATURES, _WEIGHTS)
        reading = (
            "A pair of texts is one bag of features (how much the texts share, and which words), which "
            "`thalweg.load(run).task.inputs_of(pairs)` computes; there is no short recipe for it elsewhere.",
        )
    elif task.is_pair:
        ports += tuple(_of_other(port) for port in ports)
        reading += ("The second text of a pair is read in the same way, for the inputs that begin with other_.",)
    return Graph(
        _network(model, head, answer),
        ports,
        Port("score", "float64", (BATCH,), "The number, in the unit of the training data and within their range."),
        tuple(examples),
        {"span": [None if math.isinf(end) else end for end in (low, high)], **_about(task.reader)},
        reading,
        task.reader.files(),
        _most(task.reader),
    )


def of_tag(task: Tag, model: nn.Module, head: AbstractHead) -> Graph:
    """Return a tagger, whose output is the probability of each tag for each word."""
    if isinstance(head, CRF):
        raise InputError(
            "The tags of this run depend on each other (--head crf), and the best of all sequences is found by a "
            "search, which is no part of an ONNX graph. Train with --head softmax and --model lstm or transformer."
        )
    if task.features is not None:
        raise InputError(
            "A linear tagger reads lists of features of each word, which have no ONNX graph here; train with --model "
            "lstm or transformer and --head softmax to export it."
        )
    examples = []
    for sentences in _sentences(task):
        inputs = task.read_words(sentences)
        with answering(model, head) as parameter:
            moved = {name: one.to(parameter.device) for name, one in inputs.items()}
            answer = head(model(**moved)).double().softmax(-1).cpu().numpy()
        examples.append(Example(_padded(inputs), answer, inputs["mask"].numpy()))
    tags = list(task.tags)
    return Graph(
        _network(model, head, Probabilities(several=False)),
        (_TOKENS, _MASK),
        Port("probabilities", "float32", (BATCH, LENGTH, len(tags)), "Probabilities of the tags of each word."),
        tuple(examples),
        {"tags": tags, "max_length": task.max_length},
        (
            "A sentence is a list of words. The id of a word is its place in the vocabulary of tokenizer.json; a word "
            "that is not there has that of its spelling, which `thalweg.load(run).task.read_words(sentences)` finds.",
            f"Sentences of more than {task.max_length:,} words are read in pieces of that length.",
        ),
        task.reader.files(),
        {LENGTH: task.max_length},
    )


def of_language(task: Language, model: nn.Module, head: AbstractHead) -> Graph:
    """Return a language model as one pass: the probabilities of the token after each token."""
    _require_softmax(head)
    _require_own(task)
    most = task.shape().max_length
    rows = _ids(task.vocabulary.vocabulary_size, min(most, 30))
    feeds = [{"tokens": np.concatenate([np.full((len(one), 1), BOS), one], 1)[:, : one.shape[1]]} for one in rows]
    return Graph(
        _network(model, head, Probabilities(several=False), second=""),
        (_TOKENS,),
        Port(
            "probabilities", "float32", (BATCH, LENGTH, task.vocabulary.vocabulary_size),
            "Probabilities of the token after each token, which see that one and those before. It is one pass over "
            "all tokens: to write, take (or draw) a token from the last place, append it, and run again.",
        ),
        _computed(model, head, feeds),
        {"begin": BOS, "max_length": most},
        (*_token_reading(task.normalizer.steps), f"A text begins with the token {BOS}."),
        {"tokenizer.json": task.vocabulary.to_bytes()},
        {LENGTH: most},
    )  # fmt: skip


def of_translate(task: Translate, model: nn.Module, head: AbstractHead) -> Graph:
    """Return a translator as one pass: the probabilities of the token after each token of the translation."""
    _require_softmax(head)
    _require_own(task)
    shape, most = task.shape(), task.shape().max_length
    feeds = []
    for source, target in zip(
        _ids(shape.vocabulary_size, min(most, 30)), _ids(shape.target_vocabulary_size, min(most, 17)), strict=True
    ):
        begun = np.concatenate([np.full((len(target), 1), BOS), target], 1)[:, : target.shape[1]]
        feeds.append({"tokens": source, "mask": np.ones_like(source, dtype=bool), "decoder_tokens": begun})
    files, own = {"tokenizer.json": task.tokenizer.to_bytes()}, []
    if task.source_tokenizer is not None:
        files[SOURCE_TOKENIZER] = task.source_tokenizer.to_bytes()
        own = [f"Those of the source come from {SOURCE_TOKENIZER} instead."]
    return Graph(
        Translating(_copy(model), _copy(head), Probabilities(several=False)),
        (
            _TOKENS, _MASK,
            Port("decoder_tokens", "int64", (BATCH, "written"), f"Ids of the translation so far, {BOS} first."),
        ),
        Port(
            "probabilities", "float32", (BATCH, "written", shape.target_vocabulary_size),
            "Probabilities of the token after each token of the translation. It is one pass: to translate, take a "
            "token from the last place, append it, and run again until it is the end.",
        ),
        _computed(model, head, feeds),
        {"begin": BOS, "end": EOS, "max_length": most},
        (*_token_reading(task.normalizer.steps), *own, f"The source ends with the token {EOS}."),
        files,
        {LENGTH: most, "written": most},
    )  # fmt: skip


def _network(model: nn.Module, head: nn.Module, answer: nn.Module, second: str | None = None) -> nn.Module:
    """Return copies of model and head in float32, with bags that read rectangles."""
    body = _copy(model)
    inner = body.encoder if isinstance(body, Pair) else body
    is_bag = isinstance(inner, Bag | LinearBag)
    if isinstance(inner, Bag):
        inner = PaddedBag(inner.embedding.weight, None, inner.body)
    elif isinstance(inner, LinearBag):
        inner = PaddedBag(inner.table.weight, inner.bias, None)
    name = ("weights" if is_bag else "mask") if second is None else second
    if isinstance(body, Pair):
        body.encoder = inner
        return TwoTexts(body, _copy(head), name, answer).eval()
    return OneText(inner, _copy(head), name, answer).eval()


def _copy(module: nn.Module) -> Any:
    return copy.deepcopy(module).cpu().float().eval()


def _ports(reader: TextReader) -> tuple[Port, ...]:
    return (_TOKENS, _MASK) if reader.features is None else (_FEATURES, _WEIGHTS)


def _of_other(port: Port) -> Port:
    shape = tuple("other_length" if size == LENGTH else size for size in port.shape)
    return Port(f"other_{port.name}", port.kind, shape, port.meaning)


def _most(reader: TextReader) -> dict[str, int]:
    return {} if reader.features is not None else {LENGTH: reader.max_length, "other_length": reader.max_length}


def _about(reader: TextReader) -> dict[str, Any]:
    text: dict[str, Any] = {"normalize": list(reader.normalizer.steps), "tokenizer": "tokenizer.json"}
    if reader.features is None:
        return {"text": text | {"max_length": reader.max_length}}
    assert isinstance(reader.features, BagFeatures)
    return {"text": text | {"features": "features.safetensors", "sublinear": reader.features.sublinear}}


def _token_reading(steps: Sequence[str]) -> tuple[str, ...]:
    named = ", ".join(steps) or "none"
    return (
        f"Text is normalized first, in these steps: {named} (nfc and nfkc are forms of Unicode; lower, casefold: lower "
        "case; spaces: one space for any white space, none at the ends; digits: 0 for every digit; accents: letters "
        "without them; controls: without control characters).",
        f"Tokens and their ids come from tokenizer.json, which the package tokenizers reads; ids 0 to "
        f"{len(SPECIALS) - 1} are {', '.join(SPECIALS)}.",
    )


def _reading(reader: TextReader) -> tuple[str, ...]:
    first = _token_reading(reader.normalizer.steps)
    if reader.features is None:
        return (*first, f"A text is cut after {reader.max_length:,} tokens.")
    assert isinstance(reader.features, BagFeatures)
    beside: tuple[str, ...] = ()
    if reader.features.word_vectors is not None:
        width = reader.features.word_vectors.shape[1]
        beside = (
            f"The features after those, {width:,} of them, are the entries of one vector: the sum of the rows of "
            "word_vectors, in features.safetensors, of all tokens of the text (also of those that are no features), "
            f"each as often as it is there, scaled to the length {VECTOR_LENGTH:g}. A text whose sum is zero has "
            "none of them.",
        )
    return (
        *first,
        f"Features 0 to {reader.features.vocabulary_size - 1:,} are the tokens by their ids, but for the special ones "
        "0 to 3, which are none. features.safetensors has the bigrams of neighbors that are features after them, as "
        f"first * {reader.features.vocabulary_size} + second, and idf, a factor for each feature.",
        "The weight of a feature that is k times in a text is (1 + ln k) idf, and the weights of a text are divided by "
        "the root of the sum of their squares.",
        *beside,
    )


def _texts(tokenizer: AnyTokenizer) -> list[list[str]]:
    """Return batches of texts of all lengths, made of the words of the vocabulary and of words that it lacks."""
    random = np.random.default_rng(0)
    ids = np.arange(len(SPECIALS), tokenizer.vocabulary_size)
    if not len(ids):
        return [["a b c", ""], ["a"]]
    texts = [tokenizer.decode(random.choice(ids, size)) for size in SIZES]
    return [[f"{texts[0]} xqzzy", *texts[1:]], [texts[2]], [texts[4]] * 3]


def _sentences(task: Tag) -> list[list[list[str]]]:
    random = np.random.default_rng(0)
    words = [word for word in task.reader.tokenizer.entries if word.split() == [word]] or ["a"]
    sentences = [[words[i] for i in random.integers(0, len(words), size)] for size in (12, 1, 5)]
    sentences = [one[: task.max_length] for one in sentences]
    return [[[*sentences[0][:-1], "Xqzzy7"], *sentences[1:]], [sentences[1]], [sentences[2]] * 2]


def _ids(size: int, length: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = ((3, length), (1, 1), (2, max(1, length // 2)))
    return [random.integers(min(len(SPECIALS), size - 1), size, shape) for shape in shapes]


def _computed(model: nn.Module, head: AbstractHead, feeds: Sequence[dict[str, np.ndarray]]) -> tuple[Example, ...]:
    """Return these inputs with the network's own answers."""
    examples = []
    with answering(model, head) as parameter:
        for feed in feeds:
            inputs = {name: torch.from_numpy(values).to(parameter.device) for name, values in feed.items()}
            examples.append(Example(feed, head(model(**inputs)).double().softmax(-1).cpu().numpy()))
    return tuple(examples)


def _require_softmax(head: AbstractHead) -> None:
    if not isinstance(head, Softmax):
        raise InputError(
            "This run writes by vectors of words (--head with continuous outputs), and finds the nearest one by a "
            "search, which is no part of an ONNX graph. Train with --head softmax to export it."
        )


def _require_own(task: Language | Translate) -> None:
    if isinstance(task.tokenizer, GivenTokenizer):
        raise InputError(
            "This run reads by a vocabulary that was given (--vocabulary), whose file has other ids than an ONNX graph "
            "of it. Train with --tokenizer bpe to export it."
        )


def _padded(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return a model's inputs as rectangles: bags as features and weights, tokens as they are."""
    found = {}
    for prefix in ("", "other_"):
        if f"{prefix}offsets" in inputs:
            tokens, weights = inputs[f"{prefix}tokens"].numpy(), inputs[f"{prefix}weights"].numpy()
            begins = inputs[f"{prefix}offsets"].numpy().astype(np.int64)
            lengths = np.diff(begins, append=len(tokens))
            places = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
            for name, values, kind in (("tokens", tokens, np.int64), ("weights", weights, np.float32)):
                rectangle = np.zeros(places.shape, dtype=kind)
                rectangle[places] = values
                found[f"{prefix}{name}"] = rectangle
    return found or {name: tensor.numpy() for name, tensor in inputs.items()}
