"""What candidates would write at each step of their base's traces: against brute force, by hand, and as a user asks."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.blocks import Blocks
from lm_eval_ext.pruning.calibration import Exchange
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.runs.correct_traces import CorrectTrace
from lm_eval_ext.shrinking.distributions import PASS, BaseDistributions
from lm_eval_ext.shrinking.diverge import measured_at
from lm_eval_ext.shrinking.divergence import Divergence, kl_bits, until_fork
from lm_eval_ext.shrinking.forced import LocalModel
from lm_eval_ext.shrinking.localise import localised
from lm_eval_ext.shrinking.token_traces import TokenTrace, token_traces
from tests.checkpoints import LAYERS, write_checkpoint
from tests.commands import cli
from tests.fake_server import FakeServer
from tests.servers import assert_lower_bound
from tests.shared import BASE_RUN, case_table
from tests.tokenizers import byte_tokenizer

VOCABULARY = 96


def random_traces(count: int = 6, seed: int = 0) -> list[TokenTrace]:
    numbers = np.random.default_rng(seed)
    found = []
    for number in range(count):
        length, start = int(numbers.integers(20, 40)), int(numbers.integers(3, 9))
        places = length - start
        thinking = np.arange(places) < places // 2
        turns = thinking & (numbers.random(places) < 0.3)
        ids = tuple(int(token) for token in numbers.integers(3, VOCABULARY, length))
        found.append(TokenTrace(f"question {number // 2}", ids, start, thinking, turns))
    return found


def loaded(folder: Path, kept: Sequence[int] = range(LAYERS), **options: Any) -> Any:
    return load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, dtype="auto", **options).eval()


def measured(base: Any, candidate: Any, traces: Sequence[TokenTrace], folder: Path, top: int = 10**6) -> Divergence:
    kept = BaseDistributions(folder, traces, str(id(base)), top)
    kept.compute(LocalModel(base), lambda _: None)
    return measured_at(LocalModel(candidate), kept, lambda _: None)


def brute_force(base: Any, candidate: Any, trace: TokenTrace) -> dict[str, np.ndarray[Any, Any]]:
    """Everything at each place of a trace, in float64, from whole logits."""
    p, q = (
        torch.log_softmax(model(input_ids=torch.tensor([trace.ids]), use_cache=False).logits[0].double(), -1)
        for model in (base, candidate)
    )
    p, q = p[trace.start - 1 : -1].detach(), q[trace.start - 1 : -1].detach()
    written = torch.tensor(trace.ids[trace.start :])[:, None]
    nucleus = [set(smallest(row.exp().tolist())) for row in p]
    return {
        "kl": ((p.exp() * (p - q)).sum(-1) / math.log(2)).numpy(),
        "other": (p.argmax(-1) != q.argmax(-1)).double().numpy(),
        "leaves": np.array([float(int(best) not in one) for best, one in zip(q.argmax(-1), nucleus, strict=True)]),
        "excess": (p.gather(-1, written) - q.gather(-1, written))[:, 0].numpy(),
    }


def smallest(probabilities: Sequence[float]) -> list[int]:
    """The fewest tokens that have at least 95%."""
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    total = 0.0
    for number, token in enumerate(order, 1):
        total += probabilities[token]
        if total >= 0.95:
            return order[:number]
    return order


CANDIDATES: Mapping[str, tuple[str, dict[str, Any], Sequence[int]]] = {
    "llama": ("llama", {}, (0, 2, 3, 5)),
    "qwen3": ("qwen3", {}, (1, 2, 3, 4, 5)),
    "qwen3_moe": ("qwen3_moe", {}, (0, 1, 2, 3, 5)),
    "gemma3_text": ("gemma3_text", {}, (0, 1, 2, 3, 4)),
    "gpt_oss": ("gpt_oss", {}, (0, 1, 3, 4, 5)),
    "olmo3": ("olmo3", {}, (0, 1, 2, 4, 5)),
    "llama without blocks": ("llama", {"blocks": Blocks(attention=(2,), mlp=(4,))}, range(LAYERS)),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_it_equals_brute_force(name: str, tmp_path: Path) -> None:
    kind, options, kept = CANDIDATES[name]
    folder = write_checkpoint(kind, tmp_path / kind)
    check_against_brute_force(loaded(folder), loaded(folder, kept, **options), tmp_path)


def test_it_equals_brute_force_for_a_quantized_model(tmp_path: Path) -> None:
    names = ("tiny-chain-attention-2", "tiny-chain-int4")
    base, candidate = [cast("Any", tts.load(recipe=name, journal="off")) for name in names]
    check_against_brute_force(base.model, candidate.model, tmp_path)


def check_against_brute_force(base: Any, candidate: Any, folder: Path) -> None:
    traces = random_traces()
    found = measured(base, candidate, traces, folder)
    with torch.no_grad():
        right = [brute_force(base, candidate, trace) for trace in traces]
    every = {column: np.concatenate([one[column] for one in right]) for column in right[0]}
    flags = {
        "thinking": [trace.thinking for trace in traces], "answer": [~trace.thinking for trace in traces],
        "turns": [trace.turns for trace in traces], "elsewhere": [trace.thinking & ~trace.turns for trace in traces],
        "first half": [np.arange(trace.places) < trace.thinking.sum() // 2 for trace in traces],
        "second half": [
            (np.arange(trace.places) >= trace.thinking.sum() // 2) & trace.thinking for trace in traces
        ],
    }  # fmt: skip
    bits = {column: every["kl"][np.concatenate(some)].mean() for column, some in flags.items()}
    measures = {column: value.estimate for column, value in found.measures.items() if value is not None}
    assert found.kl is not None and found.kl.estimate > 0.01
    assert found.kl.estimate == pytest.approx(every["kl"].mean(), rel=1e-5)
    assert measures == {
        "thinking": pytest.approx(bits["thinking"], rel=1e-5), "answer": pytest.approx(bits["answer"], rel=1e-5),
        "turns": pytest.approx(bits["turns"], rel=1e-5),
        "turns_excess": pytest.approx(bits["turns"] - bits["elsewhere"], rel=1e-4),
        "growth": pytest.approx(bits["second half"] - bits["first half"], rel=1e-4),
        "other_choice": pytest.approx(every["other"].mean()),
        "leaves_nucleus": pytest.approx(every["leaves"].mean()),
        "until_fork": pytest.approx(
            np.mean([np.exp(-one["excess"]).clip(max=1).cumprod().sum() for one in right]), rel=1e-5
        ),
        "perplexity_ratio": pytest.approx(math.exp(every["excess"].mean()), rel=1e-5),
        "elsewhere": pytest.approx(bits["elsewhere"], rel=1e-5),
        **{
            f"{where}_{name}": pytest.approx(every[column][np.concatenate(flags[where])].mean())
            for where in ("turns", "elsewhere")
            for name, column in (("other_choice", "other"), ("leaves_nucleus", "leaves"))
        },
        **{
            f"{where}_perplexity_ratio": pytest.approx(
                math.exp(every["excess"][np.concatenate(flags[where])].mean()), rel=1e-5
            )
            for where in ("turns", "elsewhere")
        },
    }  # fmt: skip
    assert found.left_out is None, "all tokens are known"
    first = found.positions[0]
    assert first.kl.estimate == pytest.approx(np.mean([one["kl"][0] for one in right]), rel=1e-5)


def test_equal_models_give_exactly_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "llama")
    traces = random_traces()
    for top in (4, 10**6):
        found = measured(loaded(folder), loaded(folder), traces, tmp_path / str(top), top)
        assert found.kl == (0.0, 0.0, 0.0) and all(at.kl.estimate == 0 for at in found.positions)
        measures = found.measures
        assert measures["thinking"] == measures["answer"] == (0.0, 0.0, 0.0)
        for name in ("other_choice", "leaves_nucleus"):
            share = measures[name]
            assert share is not None and share[:2] == (0.0, 0.0) and 0 < share.high < 1, "none of these tokens"
        assert measures["perplexity_ratio"] == (1.0, 1.0, 1.0)
        fork = measures["until_fork"]
        assert fork is not None and fork.estimate == pytest.approx(np.mean([trace.places for trace in traces]))


def test_what_is_left_out_is_measured(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "llama")
    base, candidate, traces = loaded(folder), loaded(folder, (0, 1, 3, 5)), random_traces(24)
    whole = measured(base, candidate, traces, tmp_path)
    for top in (1, 8, 40):
        part = measured(base, candidate, traces, tmp_path / str(top), top)
        assert part.kl is not None and whole.kl is not None and part.left_out is not None
        assert 0 < part.kl.estimate < whole.kl.estimate
        assert part.kl.estimate + part.left_out.estimate == pytest.approx(whole.kl.estimate, rel=0.2)
        low, high = part.left_out.low, part.left_out.high
        assert low <= whole.kl.estimate - part.kl.estimate <= high


@pytest.mark.parametrize("vocabulary", [VOCABULARY - 2, VOCABULARY + 6])
def test_a_vocabulary_may_be_padded_differently(vocabulary: int, tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path / "llama")
    base, candidate = loaded(folder), loaded(folder)
    candidate.resize_token_embeddings(vocabulary, mean_resizing=False)
    traces = [trace for trace in random_traces() if max(trace.ids) < VOCABULARY - 2]
    assert len({trace.question for trace in traces}) > 1
    found = measured(base, candidate, traces, tmp_path, 8)
    assert found.kl is not None and 0 <= found.kl.estimate < 0.5


def test_long_traces_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval_ext.shrinking import forced

    folder = write_checkpoint("llama", tmp_path / "llama")
    base, candidate, traces = loaded(folder), loaded(folder, (0, 1, 3, 5)), random_traces()
    whole = measured(base, candidate, traces, tmp_path / "whole", 16)
    monkeypatch.setattr(forced, "_LOGITS", 7 * VOCABULARY)
    monkeypatch.setattr(forced, "_ROWS", 3 * VOCABULARY)
    pieces = measured(base, candidate, traces, tmp_path / "pieces", 16)
    assert pieces.kl is not None and whole.kl is not None
    assert pieces.kl.estimate == pytest.approx(whole.kl.estimate, rel=1e-6)
    assert pieces.left_out == pytest.approx(whole.left_out, rel=1e-5)


distributions = st.lists(st.floats(0.001, 1), min_size=2, max_size=12)


@given(distributions, st.data())
def test_divergences_are_sound(weights: list[float], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.floats(0.001, 1), min_size=len(weights), max_size=len(weights)))
    p, q = (np.log(np.array([one]) / np.sum(one)) for one in (weights, others))
    kl = kl_bits(p, q)
    assert kl[0] >= -1e-12
    known = data.draw(st.integers(1, len(weights) - 1))
    joined = [np.column_stack([one[:, :known], np.log(np.exp(one[:, known:]).sum(-1))]) for one in (p, q)]
    assert kl_bits(joined[0], joined[1])[0] <= kl[0] + 1e-9, "what is joined can only hide a difference"


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)), min_size=7, max_size=7))
def test_tokens_in_common_by_enumeration(nodes: list[tuple[float, float]]) -> None:
    """All texts of three tokens, whose probabilities depend on those before: the mean is the expected number."""
    expected = estimated = 0.0
    for text in itertools.product((0, 1), repeat=3):
        node, both, drawn, excess = 0, 1.0, 1.0, []
        for place, token in enumerate(text):
            p, q = (one if token else 1 - one for one in nodes[node])
            both, drawn, node = both * min(p, q), drawn * p, 2 * node + 1 + token
            excess.append(math.log(p / q))
            expected += both / 2 ** (2 - place)  # each beginning is that of so many texts
        estimated += drawn * until_fork(np.array(excess))
    assert estimated == pytest.approx(expected)


# Traces -----------------------------------------------------------------------------------------------


def test_thinking_answer_and_turns_are_told_apart() -> None:
    tokenizer = byte_tokenizer()
    reply = "Two. Wait, no: 3.</think>But 3."
    (trace,) = token_traces([CorrectTrace("t", 0, Exchange("1+2", reply))], tokenizer, 500)
    words = [tokenizer.decode([token]) for token in trace.ids[trace.start :]]
    assert "".join(words) == reply + "</s>"
    assert "".join(word for word, flag in zip(words, trace.thinking, strict=True) if flag) == "Two. Wait, no: 3."
    assert [at for at, flag in enumerate(trace.turns) if flag] == [reply.index("Wait")], (
        "marks of the answer don't count"
    )
    (cut,) = token_traces([CorrectTrace("t", 0, Exchange("1+2", reply))], tokenizer, trace.start + 5)
    assert cut.places == 5 and cut.thinking.all() and len(cut.turns) == 5
    with pytest.raises(ArgumentError, match=r"max_tokens=3: no reply begins before"):
        token_traces([CorrectTrace("t", 0, Exchange("1+2", reply))], tokenizer, 3)


# By layers --------------------------------------------------------------------------------------------


def test_a_single_change_explains_everything(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen3", tmp_path / "qwen3")
    base, traces = loaded(folder), random_traces()
    kept = BaseDistributions(tmp_path, traces, "base", 200)
    kept.compute(LocalModel(base), lambda _: None)

    def kl(model: LocalModel) -> Any:
        return measured_at(model, kept, lambda _: None).kl

    changed = loaded(folder)
    with torch.no_grad():
        changed.model.layers[3].mlp.down_proj.weight.mul_(0.5)
    found = localised(LocalModel(base), LocalModel(changed), range(LAYERS), kl)
    assert [at.how for at in found] == ["the same"] * 3 + ["exchanged"] + ["the same"] * 2
    assert found[3].kl == pytest.approx(kl(LocalModel(changed)), rel=1e-6) and kl(LocalModel(changed)).low > 0
    dropped = loaded(folder, (0, 1, 2, 3, 5))
    found = localised(LocalModel(base), LocalModel(dropped), (0, 1, 2, 3, 5), kl)
    assert [at.how for at in found] == ["the same"] * 4 + ["left out"] + ["the same"]
    assert found[4].kl == pytest.approx(kl(LocalModel(dropped)), rel=1e-6) and kl(LocalModel(dropped)).low > 0
    assert kl(LocalModel(base)).estimate == 0, "the base is as it was"


# As a user asks ---------------------------------------------------------------------------------------


def diverged(*words: str) -> Any:
    return cli("diverge", *words)


def test_from_the_command_line(tmp_path: Path) -> None:
    common = ("--traces", f"run:{BASE_RUN}", "--samples", "12", "--keep", str(tmp_path / "kept"))
    candidates = ("pretrained=tiny-chain", "drop_layers=[8]", "tiny-chain-attention-2")
    done = diverged(
        "base=tiny-chain", *candidates, *common, "--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html")
    )
    assert done.exit_code == 0, done.output
    assert "pretrained=tiny-chain: writes what the base writes." in done.output
    content = json.loads((tmp_path / "a.json").read_text())
    by_name = {one["name"]: one["divergence"] for one in content["candidates"]}
    assert by_name["pretrained=tiny-chain"]["kl"]["estimate"] == 0
    assert by_name["drop_layers=[8]"]["kl"]["estimate"] > by_name["tiny-chain-attention-2"]["kl"]["estimate"] > 0
    assert content["questions"] == content["traces"] == 12, "one of each question first"
    assert "<svg" in (tmp_path / "a.html").read_text() and "drop_layers=[8]" in (tmp_path / "a.html").read_text()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.*")}
    damaged = next(path for path in files if path.suffix == ".npz")
    damaged.write_bytes(damaged.read_bytes()[:100])
    again = diverged("base=tiny-chain", *candidates, *common)
    assert again.exit_code == 0, again.output
    assert again.stdout == done.stdout, "what is kept, and computed anew, is the same"
    assert [path for path in files if path.stat().st_mtime_ns != files[path]] == [damaged]


def test_from_python_by_layers() -> None:
    found = tts.diverge("tiny-chain", {"two": {"pretrained": "tiny-chain", "drop_layers": [8, 9]}}, BASE_RUN, samples=6,
                        localise=True)  # fmt: skip
    (two,) = found.candidates
    assert [at.layer for at in two.layers if at.how == "left out"] == [8, 9]
    assert "by layers" in str(found) and "the same: layers 0-7, 10-11" in str(found)
    frame = found.to_frame()
    assert list(frame.candidate) == ["two"] and frame.kl[0] > frame.kl_low[0] > 0


@pytest.mark.parametrize(("words", "message"), case_table("wrong_arguments.yaml")["diverge"])
def test_what_can_t_be_done_is_one_line(words: Sequence[str], message: str) -> None:
    given_traces = () if "--traces" in words else ("--traces", f"run:{BASE_RUN}")
    done = diverged(*words, *given_traces, "--samples", "4")
    assert done.exit_code == 1, done.output
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("lm-eval-tts: ") and message in said, done.output


def test_recipes_of_one_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "smallest.yaml" for folder in ("a", "b")]
    for path, layer in zip(paths, (7, 8), strict=True):
        path.parent.mkdir()
        Recipe(base="tiny-chain", drop=(layer,), method="by hand", source="test").save(path)
    words = ("base=tiny-chain", *map(str, paths), "--traces", f"run:{BASE_RUN}", "--samples", "4")
    done = diverged(*words, "--json", str(tmp_path / "found.json"))
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [one["name"] for one in found["candidates"]] == [str(path) for path in paths]


def test_another_tokenizer_is_one_line(tiny_model: Path) -> None:
    done = diverged("base=tiny-chain", str(tiny_model), "--traces", f"run:{BASE_RUN}", "--samples", "4")
    assert done.exit_code == 1 and "has another tokenizer than the base (token" in done.stderr, done.output


def test_a_server_gives_a_lower_bound(tmp_path: Path) -> None:
    """A vLLM-like server of the model without a layer, which says only what its twenty likeliest tokens are."""
    lm: Any = tts.load("tiny-chain", drop_layers=[8], journal="off")

    def scores(body: dict[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([body["prompt"]]), use_cache=False).logits[0].double()
        log_probs = torch.log_softmax(logits, -1)
        entries: list[Any] = [None]
        for place, token in enumerate(body["prompt"][1:]):
            values, ids = log_probs[place].topk(body["prompt_logprobs"])
            known = {int(one): float(value) for one, value in zip(ids, values, strict=True)}
            known[token] = float(log_probs[place, token])
            entries.append({str(one): {"logprob": value} for one, value in known.items()})
        return {"choices": [{"finish_reason": "length", "token_ids": [1], "prompt_logprobs": entries}]}

    with FakeServer(script=lambda job: itertools.repeat(5)) as server:
        server._scores = scores  # type: ignore[method-assign]  # the fake one's are arbitrary
        served = {"base_url": server.url, "tokenizer": str(TINY_CHAIN), "drop_layers": [8], "base": "tiny-chain"}
        here = {"pretrained": "tiny-chain", "drop_layers": [8]}
        found = tts.diverge("tiny-chain", {"served": served, "here": here}, BASE_RUN, samples=6)
        with FakeServer(script=lambda job: itertools.repeat(5)) as other:  # by the same name, with arbitrary scores
            both = {"one": served, "other": served | {"base_url": other.url}}
            one, unlike = tts.diverge("tiny-chain", both, BASE_RUN, samples=4).candidates
            assert one.divergence != unlike.divergence
        with pytest.raises(ArgumentError, match="needs base and candidate here"):
            tts.diverge("tiny-chain", {"served": served}, BASE_RUN, samples=4, localise=True)
    assert "truncated: the whole one is larger" in str(found)
    assert_lower_bound(*found.candidates)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_short_traces_share_passes(lengths: list[int]) -> None:
    nothing = np.zeros(0, dtype=np.bool_)
    traces = [TokenTrace("", (0,) * length, 0, nothing, nothing) for length in lengths]
    passes = BaseDistributions(Path(), traces, "").passes
    assert [number for numbers in passes for number in numbers] == list(range(len(lengths))), "each once, in order"
    padded = [max(lengths[number] for number in numbers) * len(numbers) for numbers in passes]
    assert all(tokens <= PASS or len(numbers) == 1 for tokens, numbers in zip(padded, passes, strict=True))
    for before, after in pairwise(passes):
        together = range(before.start, after.start + 1)
        assert max(lengths[number] for number in together) * len(together) > PASS, "as many as fit"
