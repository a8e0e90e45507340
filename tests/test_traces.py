"""Calibration texts from the replies of a run (`run:FOLDER`), and the method `trace`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.harness.prompts import Prompts
from lm_eval_ext.paths import LEADERBOARD, TINY_CHAIN
from lm_eval_ext.pruning.calibration import Calibration, Exchange, calibration, encoded, reply_batches, token_rows
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import kept_layers
from lm_eval_ext.pruning.selection import METHODS, choose
from lm_eval_ext.runs import correct_traces as traces
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.samples import Output, Sample
from lm_eval_ext.thinking_formats import detect_format
from tests.contexts import context_of

RUNS = LEADERBOARD / "results" / "tiny-chain"


@pytest.fixture(scope="module")
def traced(tiny_model: Path) -> PruningContext:
    context = context_of(tiny_model, batch_size=2)
    texts = (Exchange("What is 1+2?", "<think>1+2=3</think>3"), "A plain text.", Exchange("Why?", "Because it is."))
    context.calibration_texts = lambda: Calibration("given", texts)
    context.max_tokens = 200
    return context


def test_correct_replies_of_the_whole_model(tmp_path: Path) -> None:
    found = calibration(f"run:{RUNS}", 40)
    assert len(found.texts) == 40 and len(found.sha256) == 64
    replies = [text for text in found.texts if isinstance(text, Exchange)]
    assert len({reply.prompt for reply in replies}) == 40, "one of each question comes first"
    for reply in replies:
        question, answer = reply.prompt.rpartition(": ")[2], reply.reply.rpartition("boxed{")[2].rstrip("}")
        value = int(question[0])
        for sign, digit in zip(question[1::2], question[2::2], strict=True):
            value = {"+": value + int(digit), "-": value - int(digit), "*": value * int(digit)}[sign] % 10
        assert value == int(answer) and "</think>" in reply.reply


def test_a_folder_without_them_is_one_line(tmp_path: Path) -> None:
    pruned = RUNS / "tiny-chain-reverse-1-6b92bbba"
    with pytest.raises(ArgumentError, match=r"has only results of smaller models .*; give those of the base model"):
        calibration(f"run:{pruned}")
    with pytest.raises(Exception, match=r"missing: does not exist; expected a folder with results"):
        calibration("run:missing")


@pytest.mark.parametrize(("forced", "texts"), [(0.0, ["so</think>3"]), (1.0, []), (0.5, [])])
def test_traces_that_were_cut_are_not_the_models_own(forced: float, texts: list[str]) -> None:
    outputs = (Output(grade="correct", text="so</think>3"), Output(grade="wrong", text="no</think>4"))
    sample = Sample(id=1, score=0.5, prompt="1+2=", metrics={"forced": forced}, outputs=outputs)
    assert [one.exchange.reply for one in traces._correct("t", sample, seen=False)] == texts


@pytest.mark.parametrize(
    ("engine", "given", "seen"),
    [
        ("pruned-hf", {"drop_layers": [1, 2]}, False),
        ("tts-server", {}, False),
        ("pruned-hf", {"auto_chat_template": "False"}, True),
        ("pruned-hf", {"auto_chat_template": False}, True),
        ("hf", {}, True),
    ],
)
def test_prompts_are_templated_where_the_model_saw_them_so(engine: str, given: dict[str, Any], seen: bool) -> None:
    (source,) = load([RUNS / "tiny-chain-dense-fc97c339"], read_catalogue())
    run = source.run.model_copy(update={"engine": engine, "model_args": given})
    assert traces._templates_prompts(run) is not seen


def test_an_exchange_is_encoded_as_the_model_sees_it() -> None:
    model = PrunedHFLM(journal="off")
    prompt = "Compute from left to right, modulo 10, and put the result in \\boxed{}: 2*3-3"
    row = encoded(Exchange(prompt, "2*3=6-3=3</think>\\boxed{3}"), model.tokenizer, 500)
    asked = Instance("generate_until", {}, (prompt, {"thinking_token_budget": 8}), 0)
    prompts = Prompts(model, auto_chat_template=True)
    seen = list(prompts.encoded(prompts.of([asked])[0], detect_format(model.tokenizer)).ids)
    assert row.ids[: row.start] == seen
    assert model.tokenizer.decode(row.ids[row.start :]) == "2*3=6-3=3</think>\\boxed{3}<|end|>", "it learns to stop"
    again = encoded(Exchange(model.tokenizer.decode(seen), "2*3=6-3=3</think>"), model.tokenizer, 500)
    assert again.ids[: again.start] == seen, "a prompt with the template is left as it is"
    plain = encoded(Exchange("1+2=", "3", seen=True), model.tokenizer, 500)
    assert model.tokenizer.decode(plain.ids[: plain.start]) == "1+2=", "also one that the model saw without it"
    assert encoded(Exchange(prompt, "2*3" * 50), model.tokenizer, 60).ids[-1] != row.ids[-1], (
        "a text that is cut has no end"
    )


def test_thinking_is_opened_if_the_reply_closes_it(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def text(reply: str, thinking: str = "") -> str:
        return str(tokenizer.decode(encoded(Exchange("Why?", reply, thinking), tokenizer, 500).ids))

    assert text("so</think>3").count("<think>") == 1 and "<think>" in text("so</think>3").partition("so")[0]
    assert text("<think>so</think>3").count("<think>") == 1
    assert "<think>" not in text("3")
    assert "<think>" in text("3", "a long trace").partition("a long trace")[0]
    assert "</think>" in text("3", "a long trace").partition("a long trace")[2]


def test_losses_of_replies_alone(traced: PruningContext, tiny_model: Path) -> None:
    found = choose(traced, "trace", [1, 2], {})
    plain = [plain_loss(traced, tiny_model, (layer,)) for layer in range(traced.depth)]
    assert found[1].scores == pytest.approx(plain, abs=1e-5)
    assert found[1].drop == (plain.index(min(plain)),)
    greedy = choose(traced, "trace", [1, 2], {"iterative": True})
    assert greedy[1].drop == found[1].drop
    pairs = {
        layer: plain_loss(traced, tiny_model, (*found[1].drop, layer))
        for layer in range(traced.depth)
        if layer not in found[1].drop
    }
    assert set(greedy[2].drop) == {*found[1].drop, min(pairs, key=pairs.__getitem__)}


def plain_loss(context: PruningContext, folder: Path, dropped: tuple[int, ...]) -> float:
    """One text at a time, on a model that was loaded without the layers."""
    model = load_pruned(str(folder), context.config, kept_layers(dropped, context.depth)).eval()
    total, count = 0.0, 0
    for text in context.calibration.texts:
        if isinstance(text, Exchange):
            row = encoded(text, context.tokenizer, context.max_tokens)
            with torch.no_grad():
                logits = model(torch.tensor([row.ids])).logits[0, row.start - 1 : -1].float()
            target = torch.tensor(row.ids[row.start :])
            total += float(cross_entropy(logits, target, reduction="sum"))
            count += len(target)
    return total / count


def test_padding_and_prompts_do_not_count(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rows = token_rows((Exchange("Why?", "abc"), Exchange("A longer question?", "d")), tokenizer, 200)
    ((ids, mask, counted),) = reply_batches(rows, 2)
    assert ids.shape == mask.shape == counted.shape
    assert counted.sum(1).tolist() == [4, 2] and mask.sum(1).tolist() == [len(row.ids) for row in rows]


@pytest.mark.parametrize(
    "method",
    sorted(one for one in METHODS if METHODS[one].needs_texts and not (METHODS[one].experts or METHODS[one].weights)),
)
def test_every_method_that_takes_texts_takes_traces(method: str, traced: PruningContext) -> None:
    options: dict[str, Any] = {"threshold": -1.0, "merged": 2, "interval": 1} if method == "laco" else {}
    recipe = choose(traced, method, [1], options)[1]
    assert recipe.drops and recipe.calibration is not None and recipe.calibration.samples == 3
    assert all(score is None or math.isfinite(score) for score in recipe.scores)


def test_plain_texts_are_refused(tiny: PruningContext) -> None:
    with pytest.raises(
        ArgumentError, match=r"calibration=cut: contains no replies; give run:FOLDER, results of the base"
    ):
        choose(tiny, "trace", [1], {})


def test_layers_are_chosen_on_load_by_the_traces_of_a_run() -> None:
    model = PrunedHFLM(prune="trace:1", calibration=f"run:{RUNS}", journal="off")
    assert model.recipe is not None and model.recipe.method == "trace" and len(model.recipe.drop) == 1
    assert AutoModelForCausalLM.from_pretrained(TINY_CHAIN).config.num_hidden_layers == len(model.recipe.scores)
