"""`prune=` through the real command line, and models that were trained further."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file

from lm_eval_ext.errors import ArgumentError, DatasetError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.harness.prune_on_load import choosing
from lm_eval_ext.paths import TASKS
from lm_eval_ext.pruning.calibration import CORPORA, Exchange, calibration, write_exchanges
from tests.commands import LM_EVAL, cli, run
from tests.shared import one_line, results_in


def evaluated(model_args: str, out: Path, cache: str = "") -> tuple[dict[str, Any], str]:
    asked = ("--model", "pruned-hf", "--model_args", f"{model_args},journal=off,dtype=float32", "--limit", "2")
    cache = cache or os.environ["XDG_CACHE_HOME"]
    done = run(LM_EVAL, *asked, "--tasks", "tts_sums_b8", "--output_path", out, XDG_CACHE_HOME=cache)
    assert done.returncode == 0, done.stderr[-2000:]
    return results_in(out)["config"]["pruning"], done.stderr


def test_layers_are_chosen_on_load_once(tiny_model: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    first, said = evaluated(f"pretrained={tiny_model},prune=shortgpt:2", tmp_path / "a", cache)
    assert first["method"] == "shortgpt" and len(first["dropped_layers"]) == 2 and "recipe written to" in said
    again, said = evaluated(f"pretrained={tiny_model},prune=shortgpt:2", tmp_path / "b", cache)
    assert again == first and "recipe of an earlier run" in said
    (kept,) = (tmp_path / "cache").rglob("recipes/*.yaml")
    kept.write_text("")  # as after a loss of power
    again, said = evaluated(f"pretrained={tiny_model},prune=shortgpt:2", tmp_path / "c", cache)
    assert again == first and "it is chosen again" in said and kept.read_text()


def test_layers_are_chosen_anew_for_other_weights(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    chosen = []
    for _ in range(2):
        lm = PrunedHFLM(str(model), prune="magnitude:1", dtype="float32", journal="off", device="cpu")
        chosen.append(lm.recipe.drop if lm.recipe else ())
        for path in model.glob("*.safetensors"):
            tensors = load_file(path)
            for name, tensor in tensors.items():
                if f"layers.{chosen[0][0]}.mlp" in name:
                    tensor[1:] *= 100
            save_file(tensors, path, {"format": "pt"})
    assert chosen[0] != chosen[1], "the first rows alone are the same"


def test_layers_are_chosen_anew_for_another_tokenizer_or_chat_template(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    texts = tmp_path / "texts.jsonl"
    write_exchanges(texts, [Exchange("1 + 1 =", "2")])

    def key(method: str) -> object:
        with choosing(str(model), None, method, {}, str(texts)) as context:
            return context.score_cache.path

    before = [key("shortgpt"), key("magnitude")]
    template = model / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("<|assistant|>", "<|reply|>"), "utf-8")
    after = [key("shortgpt"), key("magnitude")]
    assert before[0] != after[0] and before[1] == after[1], "what reads no texts stays"


def test_a_cache_that_cannot_be_written_is_a_warning(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    loaded = PrunedHFLM(str(tiny_model), prune="shortgpt:2", device="cpu", journal="off")
    assert loaded.recipe is not None and len(loaded.recipe.drop) == 2
    (warning,) = [
        record.getMessage()
        for record in caplog.records
        if record.name == "lm_eval.tts" and record.levelname == "WARNING"
    ]
    assert warning.startswith("prune=shortgpt:2: the recipe is not kept (") and "XDG_CACHE_HOME" in warning


def test_laco_merges_on_load(tiny_model: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("One plain text.\n\nAnother one, a little longer.\n", "utf-8")
    spec = "laco:1:threshold=-1.0:merged=2"
    lm = PrunedHFLM(str(tiny_model), prune=spec, calibration=str(texts), dtype="float32", journal="off")
    assert lm.recipe is not None and lm.recipe.merge and lm.recipe.calibration is not None
    assert lm.recipe.calibration.samples == 2
    info = lm.get_model_info()["pruning"]
    assert info["merged_layers"] == [{"into": 4, "layers": [5]}] and info["dropped_layers"] == [5]
    dropped = PrunedHFLM(str(tiny_model), drop_layers=[5], dtype="float32", journal="off")
    assert lm.fingerprint != dropped.fingerprint


def test_a_tasks_prompts_are_texts() -> None:
    found = calibration("task:tts_sums", 3)
    assert len(found.texts) == 3 and all("Think step by step" in text for text in found.texts)


def test_a_task_of_an_included_folder_is_found(tiny_model: Path, tmp_path: Path) -> None:
    sums = (TASKS / "sums" / "tts_sums.yaml").read_text("utf-8").replace("tts_sums", "tts_mine")
    own = tmp_path / "tasks" / "mine" / "tts_mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(sums.replace("../_", f"{TASKS}/_"), "utf-8")
    words = ["prune", "--base", str(tiny_model), "--method", "shortgpt", "--calibration", "task:tts_mine"]
    found = cli(*words, "--include-path", tmp_path / "tasks", "--out", tmp_path)
    assert found.exit_code == 0, found.output
    assert "unknown task" in cli(*words, "--out", tmp_path).output

    TaskManager(include_path=str(tmp_path / "tasks"))  # as the command line of lm-eval makes one before the model
    lm = PrunedHFLM(str(tiny_model), prune="shortgpt:1", calibration="task:tts_mine", dtype="float32", journal="off")
    assert lm.recipe is not None and lm.recipe.calibration is not None
    assert lm.recipe.calibration.name == "task:tts_mine"


def test_the_embedded_texts_are_there() -> None:
    texts = calibration().texts
    assert len(texts) == 16 and len(set(texts)) == 16 and min(map(len, texts)) > 300
    assert {corpus.path.count("/") for corpus in CORPORA.values()} == {1}


def test_texts_of_any_dataset_are_named_by_split_and_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"body": "A heading"}, *({"body": f"Text {number}. {'One more sentence. ' * 5}"} for number in range(3))]
    data = tmp_path / "lab" / "texts" / "train.jsonl"
    data.parent.mkdir(parents=True)
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert [text[:7] for text in calibration("lab/texts:train:body", 2).texts] == ["Text 0.", "Text 1."]
    with pytest.raises(ArgumentError, match=r"^calibration: lab/texts has no field 'text'$"):
        calibration("lab/texts:train:text")


def test_prompts_and_replies_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    first = {"prompt": "1 + 1?", "reply": "It is\u2028 2.", "thinking": "Two ones."}
    second = '{"prompt": "<q>", "reply": "3", "seen": true}'
    path.write_text(f"{json.dumps(first, ensure_ascii=False)}\n\n{second}\n", "utf-8")
    assert calibration(str(path)).texts == (
        Exchange("1 + 1?", first["reply"], "Two ones."),
        Exchange("<q>", "3", seen=True),
    )
    for line in ('{"prompt": "a"}', '{"prompt": "a", "reply": "b", "more": 1}', "no JSON", '"text"'):
        path.write_text(f"{json.dumps(first)}\n{line}", "utf-8")
        with one_line(ArgumentError, match=r"chats.jsonl: line 2: expected a prompt and a reply"):
            calibration(str(path))


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n\n ", "contains no text"), (b"\xff\xfe", "cannot be read as UTF-8 text")]
)
def test_a_file_without_texts_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(content)
    with one_line(ArgumentError, match=f"calibration={path}: {message}"):
        calibration(str(path))


def test_a_corpus_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(
        DatasetError, match=r"^calibration: Salesforce/wikitext \(train\) cannot be loaded: no network$"
    ):
        calibration("wikitext")


def test_runs_of_their_own_have_names_of_their_own(tmp_path: Path) -> None:
    text = "base: a/b\ndrop: [1]\nmethod: laco\nsource: s\n"
    (tmp_path / "dropped.yaml").write_text(text, "utf-8")
    (tmp_path / "merged.yaml").write_text(text + "merge: [{into: 0, layers: [1]}]\n", "utf-8")
    named = [
        run_name("a/b", f"pretrained=a/b{rest}")
        for rest in (
            "",
            ",prune=reverse:1",
            ",prune=reverse:2",
            *(f",recipe={tmp_path}/{n}.yaml" for n in ("dropped", "merged")),
        )
    ]
    assert named[1] == "a/b-reverse-1" and len(set(named)) == 5
