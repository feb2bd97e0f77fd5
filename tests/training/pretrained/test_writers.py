"""Pretrained models that write: the losses and the texts that the library itself gives."""

import pytest
import torch
from small_models import TEXTS

import thalweg
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.models.pretrained import DECODER, TRANSLATOR, network_of, read_weights
from thalweg.models.pretrained_writers import PretrainedDecoder, PretrainedTranslator
from thalweg.tasks.writing.beam import greedy
from thalweg.tasks.writing.rules import Rules

DECODERS, TRANSLATORS = ["gpt2", "llama"], ["t5", "t5-untied", "marian"]


def opened(name, kind):
    """Return a pretrained folder, its network, and the whole network of the library."""
    found = PretrainedFolder.open(name)
    network = network_of(found.config, kind=kind).eval()
    return found, network, read_weights(network, name.removeprefix("hf:"), kind=kind).eval()


@pytest.mark.parametrize("kind", DECODERS)
def test_states_are_those_of_the_library_in_one_go_and_step_by_step(models, kind):
    _, network, whole = opened(models(kind), DECODER)
    model, tokens = PretrainedDecoder(network).eval(), torch.randint(4, 300, (3, 9))
    with torch.inference_mode():
        expected = whole.base_model(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(model(tokens), expected)
        state = model.start(3)
        for place in range(9):
            hidden, state = model.advance(tokens[:, place], state)
            torch.testing.assert_close(hidden, expected[:, place], atol=2e-6, rtol=1e-4)
    assert all(len(part) == 3 for part in state)


@pytest.mark.parametrize("kind", TRANSLATORS)
def test_translators_write_step_by_step_what_they_say_in_one_go(models, kind):
    from thalweg.models.presets import ModelOptions, translate_pretrained
    from thalweg.models.shape import ModelShape

    found, _, whole = opened(models(kind), TRANSLATOR)
    shape = ModelShape(vocabulary_size=300, target_vocabulary_size=300, config=found.config)
    model = translate_pretrained(shape, ModelOptions(dropout=0.0)).eval()
    assert isinstance(model, PretrainedTranslator)
    read_weights(model.model, models(kind).removeprefix("hf:"), kind=TRANSLATOR)
    source = torch.tensor([[50, 60, 70, 3], [80, 3, 0, 0]])
    mask, target = source != 0, torch.randint(4, 300, (2, 7))
    with torch.inference_mode():
        logits = whole(input_ids=source, attention_mask=mask.long(), decoder_input_ids=target).logits
        hidden = model(source, target, mask)
        layer = whole.get_output_embeddings()
        torch.testing.assert_close(hidden @ layer.weight.T, logits, atol=2e-5, rtol=1e-4)
        state = model.start(source, mask)
        for place in range(7):
            step, state = model.advance(target[:, place], state)
            torch.testing.assert_close(step, hidden[:, place], atol=2e-6, rtol=1e-4)
    assert all(len(part) == 2 for part in state)


@pytest.mark.parametrize("kind", DECODERS)
def test_the_loss_before_training_is_the_librarys(models, kind, tmp_path):
    rows = [{"text": " ".join(TEXTS)}] * 12
    run = thalweg.train(rows, task="language", model=models(kind), out=tmp_path, steps=1, max_length=16, lr=1e-30,
                        optimizer="sgd", weight_decay=0.0)  # fmt: skip
    task = run.task
    _, _, whole = opened(models(kind), DECODER)
    ids = [*task.tokenizer.encode(" ".join(TEXTS)), *task.tokenizer.encode("\n")]
    with torch.inference_mode():
        tokens = torch.tensor([[task.tokenizer.begin, *ids[:15]]])
        theirs = torch.nn.functional.cross_entropy(whole(tokens[:, :-1]).logits[0], tokens[0, 1:])
        ours, count = run.head.loss(run.head(run.model(tokens[:, :-1])), tokens[:, 1:])
    assert float(ours / count) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("kind", TRANSLATORS)
def test_greedy_translations_are_the_librarys(models, kind, tmp_path):
    pairs = [{"source": f"{TEXTS[i % 4]} {i}", "target": TEXTS[(i + 1) % 4]} for i in range(40)]
    run = thalweg.train(pairs, task="translate", model=models(kind), out=tmp_path, steps=1, max_length=32, lr=1e-30,
                        optimizer="sgd", weight_decay=0.0)  # fmt: skip
    _, _, whole = opened(models(kind), TRANSLATOR)
    source = torch.tensor([[*run.task.tokenizer.encode("the film"), 3]])
    mask = torch.ones_like(source, dtype=torch.bool)
    theirs = whole.generate(input_ids=source, attention_mask=mask.long(), max_new_tokens=12, do_sample=False,
                            num_beams=1, bad_words_ids=[[0], [1]], eos_token_id=3)  # fmt: skip
    with torch.inference_mode():
        state = run.model.eval().start(source, mask)
        ours = greedy(run.model, run.head.eval(), state, first=0, end=3, length=12, rules=Rules((0, 1))).tokens[:, 0]
    assert ours[0, :11].tolist() == theirs[0, 1:12].tolist()  # the library makes the last one an end


@pytest.mark.parametrize("kind", [*DECODERS, *TRANSLATORS])
def test_a_run_writes_again_what_it_wrote(models, kind, tmp_path):
    rows = [{"text": TEXTS[i % 4]} for i in range(60)]
    data = rows if kind in DECODERS else [{"source": row["text"], "target": row["text"]} for row in rows]
    task = "language" if kind in DECODERS else "translate"
    more = {} if kind in DECODERS else {"long": "cut"}
    run = thalweg.train(data, task=task, model=models(kind), out=tmp_path, steps=3, max_length=16, lora=2, **more)
    asked = {"length": 12} if kind in DECODERS else {"beam": 2}
    assert thalweg.load(run.folder).predict(["the film"], **asked) == run.predict(["the film"], **asked)
    assert "lora" not in run.predict(["the film"], **asked)[0]["text"]
    # Longer than what it can have positions for.
    (long,) = run.predict(["the film " * 60], **asked)
    assert "16 tokens" in long["note"]
    if kind in DECODERS:
        assert len(run.predict([""], length=40)[0]["tokens"]) == 40
        assert run.predict(["the film " * 60], score=True)[0]["perplexity"] > 1.0
