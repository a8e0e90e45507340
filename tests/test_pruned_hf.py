"""`--model pruned-hf` through lm-eval's own entries, on a whole (random) model."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lm_eval_ext.errors import TTSError
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.paths import TINY_CHAIN
from tests.commands import LM_EVAL, run
from tests.fake_server import FakeServer, scripted

CASES = Path(__file__).parent / "cases" / "tasks"
SWEEP = [
    f"tts_{name}_b{budget}" for name in ("aime24", "aime25", "math500") for budget in (512, 1024, 2048, 4096, 8192)
]
SMALL = ["--limit", "2", "--gen_kwargs", "max_gen_toks=20,thinking_token_budget=6", "--batch_size", "8"]


MODULE = [sys.executable, "-m", "lm_eval"]


def results_in(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = folder.rglob("results_*.json")
    return path.parent, json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "entry",
    [[LM_EVAL], *(pytest.param(entry, marks=pytest.mark.long) for entry in ([LM_EVAL, "run"], MODULE))],
    ids=len,
)
def test_the_sweep_from_the_command_line(
    entry: list[str], tiny_model: Path, original_hub: Path, tmp_path: Path
) -> None:
    model = ("--model", "pruned-hf", "--model_args", f"pretrained={tiny_model},drop_layers=[2,3]")
    out = tmp_path / "out"
    done = run(*entry, *model, "--tasks", "tts_math", *SMALL, "--output_path", out, "--log_samples", cwd=original_hub)
    assert done.returncode == 0, done.stderr[-3000:]
    folder, results = results_in(out)
    assert set(SWEEP) <= set(results["results"])
    assert all(0 <= results["results"][name]["acc,answer"] <= 1 for name in SWEEP)
    assert folder.name.endswith("-drop2-3")
    pruning = results["config"]["pruning"]
    assert (pruning["dropped_layers"], pruning["kept_layers"]) == ([2, 3], [0, 1, 4, 5])
    assert pruning["parameters_before"] > pruning["parameters_after"] == results["config"]["model_num_parameters"]
    tokens = results["config"]["generation"]
    # The second and third of these runs find the first one's text in the journal.
    assert tokens["thinking_tokens"] + tokens["answer_tokens"] + tokens["resumed_tokens"] > 0 <= tokens["seconds"]
    named = {f"{name},answer" for name in ("thinking_tokens", "answer_tokens", "forced", "looped", "answered")}
    assert named <= set(results["results"][SWEEP[0]])
    assert len(pruning["model_fingerprint"]) == len(pruning["recipe_hash"]) == 16
    for name in SWEEP:
        (samples,) = folder.glob(f"samples_{name}_*.jsonl")
        for line in samples.read_text("utf-8").splitlines():
            sample = json.loads(line)
            assert len(sample["resps"][0]) == len(sample["filtered_resps"][0]) == 3


SCRIPT = """
import sys
import lm_eval
results = lm_eval.simple_evaluate(
    model="pruned-hf", model_args="pretrained=" + sys.argv[1] + ",drop_layers=[2,3]", tasks=["tts_math"],
    limit=2, batch_size=8, gen_kwargs="max_gen_toks=20,thinking_token_budget=6",
)
print(sorted(results["results"]))
"""


@pytest.mark.long
def test_the_sweep_from_a_plain_script(tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    """No `if __name__ == "__main__"`: worker processes must not run the script again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(sys.executable, script, tiny_model, cwd=original_hub)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(SWEEP) <= set(json.loads(done.stdout.strip().splitlines()[-1].replace("'", '"')))


def evaluated(model: str, arguments: dict[str, Any], tasks: list[str]) -> dict[str, Any]:
    manager = TaskManager(include_path=str(CASES))
    results = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=tasks,
        device="cpu",
        batch_size=4,
        task_manager=manager,
        bootstrap_iters=0,
    )
    assert results is not None
    return dict(results)


def test_nothing_dropped_is_stock_hf(tiny_model: Path, original_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original_hub)
    arguments = {"pretrained": str(tiny_model)}
    ours, stock = (evaluated(model, dict(arguments), ["quiz", "quiz_words"]) for model in ("pruned-hf", "hf"))
    assert ours["results"] == stock["results"]
    for task in ("quiz", "quiz_words"):
        assert [one["resps"] for one in ours["samples"][task]] == [one["resps"] for one in stock["samples"][task]]


def test_dropped_layers_change_loglikelihoods(
    tiny_model: Path, original_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(original_hub)
    dense, pruned = (
        evaluated("pruned-hf", {"pretrained": str(tiny_model), **drop}, ["quiz"])["samples"]["quiz"]
        for drop in ({}, {"drop_layers": "1+4"})
    )
    assert [one["resps"] for one in dense] != [one["resps"] for one in pruned]


def instances(text: str, repeats: int, **kwargs: Any) -> list[Instance]:
    one = Instance("generate_until", {}, (text, kwargs), 0, metadata=("task", 0, repeats))
    return [one] * repeats


SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 40, "until": []}


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> PrunedHFLM:
    return PrunedHFLM(str(tiny_model), drop_layers=[1], batch_size=4, device="cpu")


def test_repeats_differ_and_come_again(lm: PrunedHFLM) -> None:
    first, again = (lm.generate_until(instances("Hello", 8, thinking_token_budget=10, **SAMPLED)) for _ in range(2))
    assert first == again and len(set(first)) == 8
    assert all(isinstance(text, Generation) and text.thinking_tokens <= 10 for text in first)


def test_padding_clones_count_as_the_same_repeats(lm: PrunedHFLM) -> None:
    """Ranks of a distributed run are padded with whole further sets of a request's repeats."""
    one = instances("Hello", 3, thinking_token_budget=10, **SAMPLED)
    texts = lm.generate_until(one + one)
    assert texts[:3] == texts[3:] and len(set(texts)) == 3


def test_a_journal_that_was_named_must_work(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes, not a journal\n" * 100)
    named = PrunedHFLM(str(tiny_model), journal=str(tmp_path / "notes.txt"), device="cpu")
    with pytest.raises(TTSError, match=r"journal=.*notes\.txt: cannot be used"):
        named.generate_until(instances("Hello", 1, thinking_token_budget=6, **SAMPLED))


def test_the_chat_template_is_applied_once(lm: PrunedHFLM, caplog: pytest.LogCaptureFixture) -> None:
    templated = lm.apply_chat_template([{"role": "user", "content": "Hello"}])
    with caplog.at_level(logging.INFO, "lm_eval.tts"):
        by_us = lm.generate_until(instances("Hello", 1, thinking_token_budget=6, **SAMPLED))
        assert "chat template applied to 1 prompts" in caplog.text
        caplog.clear()
        by_lm_eval = lm.generate_until(instances(templated, 1, thinking_token_budget=6, **SAMPLED))
        assert "chat template" not in caplog.text
    assert by_us == by_lm_eval


def test_own_marks_and_an_own_chat_template_reach_the_model(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text("{% for one in messages %}<{{ one.content }}>{% endfor %}", "utf-8")
    marks = {"start": "<r>", "end": "</r>"}
    own = PrunedHFLM(
        str(tiny_model), thinking_format=marks, chat_template=str(tmp_path / "own.jinja"), device="cpu", journal="off"
    )
    assert own.apply_chat_template([{"role": "user", "content": "Hello"}]) == "<Hello>"
    asked = {"until": [], "max_gen_toks": 24, "thinking_token_budget": 4, "answer_token_budget": 4}
    (text,) = own.generate_until([Instance("generate_until", {}, ("Hello", asked), 0)])
    settings = own.get_model_info()["settings"]
    assert "</r>" in text and settings["thinking_format"] == json.dumps(marks, sort_keys=True)


def test_the_chat_template_can_be_left_off(tiny_model: Path, lm: PrunedHFLM) -> None:
    bare = PrunedHFLM(str(tiny_model), drop_layers=[1], auto_chat_template=False, device="cpu")
    request = instances("Hello", 1, thinking_token_budget=6, **SAMPLED)
    assert bare.generate_until(request) != lm.generate_until(request)


def test_other_requests_are_left_to_hf(lm: PrunedHFLM) -> None:
    (text,) = lm.generate_until(instances("Hello", 1, until=["\n"], max_gen_toks=5))
    assert not isinstance(text, Generation)


def test_unknown_generation_arguments_are_named(lm: PrunedHFLM) -> None:
    with pytest.raises(TTSError, match=r"unknown generation argument 'budget'.*expected one of: do_sample"):
        lm.generate_until(instances("Hello", 1, thinking_token_budget=6, budget=3))


def test_what_does_not_fit_is_said(lm: PrunedHFLM, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lm_eval.tts"):
        lm.generate_until(instances("Hello", 1, thinking_token_budget=9, **{**SAMPLED, "max_gen_toks": 8}))
    assert "leaves no room for an answer" in caplog.text
    with pytest.raises(TTSError, match="leaves no room in the model's context of 512"):
        lm.generate_until(instances("Hello" * 200, 1, thinking_token_budget=9, **SAMPLED))


def test_a_recipe_names_its_base(tiny_model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"base: {tiny_model}\ndrop: [0, 5]\nmethod: selection\nsource: a test\n")
    pruned = PrunedHFLM(recipe=str(recipe), device="cpu")
    assert pruned.get_model_info()["pruning"]["kept_layers"] == [1, 2, 3, 4]
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("base: org/out-of-reach\ndrop: [0, 5]\nmethod: selection\nsource: a test\n")
    local = PrunedHFLM(str(tiny_model), recipe=str(elsewhere), device="cpu")
    assert (
        local.get_model_info()["pruning"]["model_fingerprint"]
        == pruned.get_model_info()["pruning"]["model_fingerprint"]
    )


def test_a_prompt_that_does_not_fit_is_found_before_anything_is_decoded(lm: PrunedHFLM) -> None:
    """Also if it is another format's, whose requests come later."""
    short = instances("Hello", 1, thinking_token_budget=4, **SAMPLED)
    long = instances("Hello " * 200, 1, thinking_token_budget=4, thinking_end="</done>", **SAMPLED)
    decoded = lm._thinking.totals.thinking_tokens
    with pytest.raises(TTSError, match="leaves no room in the model's context of 512"):
        lm.generate_until(short + long)
    assert lm._thinking.totals.thinking_tokens == decoded


def adapter(model: Path, folder: Path, layers: int = 6, **config: Any) -> Any:
    """A random adapter of the first layers of a model, saved to a folder; returns the model that it is merged into."""
    from peft import LoraConfig, get_peft_model  # the lowest versions are tested without it

    base = AutoModelForCausalLM.from_pretrained(model, num_hidden_layers=layers)
    options = {"target_modules": ["q_proj", "down_proj"], **config}
    adapted = get_peft_model(base, LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False, **options))
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"layers_to_transform": [0, 2, 3]},
        {"target_modules": r".*layers\.(1|3)\.self_attn\.(q|v)_proj"},
        {"target_modules": ["model.layers.3.self_attn.q_proj", "model.layers.1.mlp.up_proj"]},
        {"rank_pattern": {"model.layers.3.self_attn.q_proj": 4}, "alpha_pattern": {"q_proj": 3}},
    ],
)
def test_an_adapter_of_the_base_follows_its_layers(config: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    whole = adapter(tiny_model, tmp_path / "adapter", **config).eval()
    whole.model.layers = torch.nn.ModuleList([layer for index, layer in enumerate(whole.model.layers) if index != 1])
    ids = torch.arange(3, 40)[None]
    pruned = PrunedHFLM(str(tiny_model), drop_layers=[1], peft=str(tmp_path / "adapter"), device="cpu").model
    found, expected = (model(ids, use_cache=False).logits for model in (pruned, whole))
    torch.testing.assert_close(found, expected[..., : found.shape[-1]], atol=1e-3, rtol=1e-3)


def test_how_an_adapter_is_applied_makes_another_model(tiny_model: Path, tmp_path: Path) -> None:
    found = []
    for alpha in (2, 64, 2):
        torch.manual_seed(0)
        adapter(tiny_model, tmp_path / "adapter", lora_alpha=alpha)
        lm = PrunedHFLM(str(tiny_model), peft=str(tmp_path / "adapter"), device="cpu", journal="off")
        found.append(lm.fingerprint)
    assert found[0] == found[2] != found[1], "its tensors are the same"


def test_adapters_fit_their_model_or_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    def loaded(name: str, **arguments: Any) -> Any:
        return PrunedHFLM(str(tiny_model), peft=str(tmp_path / name), device="cpu", journal="off", **arguments)

    adapter(tiny_model, tmp_path / "5", layers=5)
    lm = loaded("5", drop_layers=[1])
    assert "PeftModel" in type(lm.model).__name__
    assert len(lm.generate_until(instances("Hi", 1, thinking_token_budget=4, **SAMPLED))) == 1
    adapter(tiny_model, tmp_path / "other", layers_to_transform=[3])
    config = tmp_path / "other" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_model), "org/other"))
    adapter(tiny_model, tmp_path / "merged")
    adapter(tiny_model, tmp_path / "gone", layers_to_transform=[1])
    adapter(tiny_model, tmp_path / "pickled")
    (tmp_path / "pickled" / "adapter_model.safetensors").rename(tmp_path / "pickled" / "adapter_model.bin")
    adapter(tiny_model, tmp_path / "damaged")
    (tmp_path / "damaged" / "adapter_config.json").write_text("[")
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "damaged": ({"drop_layers": [1]}, r"adapter_config\.json: cannot be read as JSON"),
        "5": ({"drop_layers": [1, 2]}, "cannot be told: it has weights for 5 layers, and names "),
        "other": ({"drop_layers": [1]}, "cannot be told: it has weights for 1 layers, and names org/other"),
        "gone": ({"drop_layers": [1]}, "of all layers that the adapter has weights for, none is kept"),
        "pickled": ({"drop_layers": [1]}, r"no adapter_model\.safetensors there"),
        "merged": ({"prune": "laco:1:threshold=-1:merged=2:interval=1"}, "can't be renumbered.*: layers are merged"),
    }
    for name, (arguments, words) in refused.items():
        with pytest.raises(TTSError, match=words):
            loaded(name, **arguments)


CUSTOM = """
import torch
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class OwnConfig(PreTrainedConfig):
    model_type = "own"

    def __init__(self, vocab_size=300, n_blocks=2, **others):
        self.vocab_size, self.n_blocks = vocab_size, n_blocks
        super().__init__(**others)


class Own(PreTrainedModel, GenerationMixin):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, 8)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(config.n_blocks)])
        self.head = torch.nn.Linear(8, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, attention_mask=None, state=None, use_cache=None):
        states = self.embed(input_ids)
        for layer in self.layers:
            states = states + layer(states)
        return ModelOutput(logits=self.head(states), state=states)
"""


def test_custom_code_that_names_its_layers_otherwise_runs_whole(tmp_path: Path, tiny_model: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(CUSTOM, "utf-8")
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}), "utf-8")
    options: dict[str, Any] = {"trust_remote_code": True, "device": "cpu", "journal": "off", "dtype": "float32"}
    config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    AutoModelForCausalLM.from_config(config, trust_remote_code=True).save_pretrained(tmp_path)
    lm = PrunedHFLM(str(tmp_path), **options)
    assert len(lm.generate_until(instances("Hi", 1, thinking_token_budget=4, **SAMPLED))) == 1
    assert lm.get_model_info()["pruning"]["kept_layers"] == []
    with pytest.raises(TTSError, match="its config has no number of layers in num_hidden_layers"):
        PrunedHFLM(str(tmp_path), drop_layers=[1], **options)


def test_custom_code_that_changes_makes_another_model(tmp_path: Path, tiny_model: Path) -> None:
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}), "utf-8")
    options: dict[str, Any] = {"trust_remote_code": True, "device": "cpu", "journal": "off", "dtype": "float32"}
    found: list[str] = []
    for code in (CUSTOM, CUSTOM, CUSTOM.replace("states + layer(states)", "states - layer(states)")):
        (tmp_path / "own.py").write_text(code, "utf-8")
        if not found:
            config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
            AutoModelForCausalLM.from_config(config, trust_remote_code=True).save_pretrained(tmp_path)
            (tmp_path / "own.py").write_text(code, "utf-8")
        found.append(PrunedHFLM(str(tmp_path), **options).fingerprint)
    assert found[0] == found[1] != found[2]


@pytest.mark.long
def test_accelerate_launch(tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    """Two processes give the results of one. (Without GPUs lm-eval gives each of them all requests.)"""
    model = ["--model", "pruned-hf", "--model_args", f"pretrained={tiny_model},drop_layers=[2]", "--device", "cpu"]
    common = [*model, "--tasks", "tts_aime24_b512", *SMALL, "--limit", "3", "--log_samples", "--output_path"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "lm_eval"]
    found = []
    for name, command in (("one", [LM_EVAL]), ("two", launch)):
        done = run(*command, *common, tmp_path / name, cwd=original_hub)
        assert done.returncode == 0, done.stderr[-3000:]
        (samples,) = (tmp_path / name).rglob("samples_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
        found.append(sorted((row["doc_id"], row["resps"]) for row in rows))
    assert found[0] == found[1]


EXACT = """
task: tts_plain_target
dataset_path: json
dataset_kwargs: {data_files: {test: QUESTIONS}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
gen_prefix: "<think>\\n\\n</think>\\n\\nIt is"
generation_kwargs: {until: [], max_gen_toks: 12, thinking_token_budget: 4}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""


@pytest.mark.parametrize("template", [pytest.param([], marks=pytest.mark.long), ["--apply_chat_template"]])
def test_a_task_of_strings_without_a_filter_ends_well(tiny_model: Path, tmp_path: Path, template: list[str]) -> None:
    """lm-eval makes the gold answer a value of the result's own type; a `gen_prefix` stays in the assistant's turn."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "2+2?", "answer": "4"}\n{"question": "3+3?", "answer": "6"}\n', "utf-8")
    (tmp_path / "tts_plain_target.yaml").write_text(EXACT.replace("QUESTIONS", str(questions)), "utf-8")
    done = run(
        LM_EVAL, "--model", "pruned-hf", "--model_args", f"pretrained={tiny_model},journal=off", "--tasks",
        "tts_plain_target", "--include_path", tmp_path, "--output_path", tmp_path / "out", "--log_samples", *template,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text("utf-8"))["results"]["tts_plain_target"]["exact_match,none"] == 0.0
    assert done.stderr.count("tts_plain_target: the prompt already closes the thinking") == 1


# Model classes that can't force a thinking budget are told so, before they decode anything ----------------------------


COMMAND = (LM_EVAL, "run", "--limit", "1")


@pytest.mark.parametrize("cached", [(), ("--use_cache", "cache")])
def test_hf_cannot_run_a_task_with_a_budget(cached: tuple[str, ...], tmp_path: Path) -> None:
    tasks = ("--tasks", "tts_chain_short_b8,tts_sums")
    model = ("--model", "hf", "--model_args", f"pretrained={TINY_CHAIN}")
    found = run(*COMMAND, *model, *tasks, *(str(tmp_path / one) if one == "cache" else one for one in cached))
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert last.startswith("lm-eval-tts: tts_chain_short_b8, tts_sums: HFLM can't force a thinking budget; expected")


def test_a_chat_endpoint_runs_tasks_without_a_budget(tmp_path: Path) -> None:
    """What only our models know is not sent; a budget is refused before anything is asked."""
    with FakeServer("chat", script=partial(scripted, words=20)) as server:
        arguments = f"base_url={server.url}/v1/chat/completions,model=m"
        command = (*COMMAND, "--model", "local-chat-completions", "--model_args", arguments, "--apply_chat_template")
        without = ("--gen_kwargs", "thinking_token_budget=-1,answer_token_budget=-1")
        done = run(*command, *without, "--tasks", "tts_chain_maj8", "--output_path", str(tmp_path), "--log_samples")
        assert done.returncode == 0, done.stderr
        assert "sends the same seed with every request" in done.stderr
        assert len(server.asked) == 8 and all("thinking_token_budget" not in body for body in server.asked)
        assert server.asked[0]["messages"][0]["role"] == "user" and server.asked[0]["temperature"] == 1.0
        found = run(*command, "--tasks", "tts_chain_maj8,tts_chain_b8")
        assert found.returncode == 1 and "Traceback" not in found.stderr and len(server.asked) == 8
        assert "tts_chain_maj8, tts_chain_b8: LocalChatCompletion can't force a thinking budget" in found.stderr
    (path,) = tmp_path.rglob("results_*.json")
    assert "maj@8,answer" in json.loads(path.read_text())["results"]["tts_chain_maj8"]


def test_a_model_that_decodes_nothing_may() -> None:
    assert run(*COMMAND, "--model", "dummy", "--tasks", "tts_chain_short_b8").returncode == 0


@pytest.mark.parametrize(("model", "said"), [("dummy", ""), ("pruned-hf", "run the same command again to go on")])
def test_ctrl_c_in_other_models_stays_as_it_is(model: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    import lm_eval
    from lm_eval.api.registry import get_model

    monkeypatch.setattr(get_model(model), "generate_until", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        lm_eval.simple_evaluate(model=model, tasks=["tts_chain_short_b8"], limit=1)
    assert str(stopped.value) == said
