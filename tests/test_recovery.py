"""`lm-eval-tts recover`: training a pruned model further."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning import finetuning
from lm_eval_ext.pruning.calibration import Exchange, TokenRow, encoded
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.finetuning import Memory, estimated, training
from lm_eval_ext.pruning.quantization import parse_quantize
from lm_eval_ext.pruning.recipe import Recipe, load_recipe, write_recipe
from lm_eval_ext.pruning.recovery import recover
from tests.commands import COMMAND, cli, run
from tests.shared import case_table
from tests.test_prune_on_load import evaluated

SHORT: dict[str, Any] = {"data": "embedded", "steps": 6, "batch_size": 4, "max_tokens": 24, "samples": 8}


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Recipe:
    made = Recipe(base=str(tiny_model), drop=(2,), method="selection", source="a test")
    write_recipe(made, tmp_path / "r.yaml")
    return made


class Killed(Exception):
    pass


def killed_at(step: int) -> Any:
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc]  # transformers' type is unknown here
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                raise Killed

    return Callback()


@pytest.mark.long
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_recovered_model_is_marked(lora: bool, recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    options = ["--data", "embedded", "--steps", "3", "--batch-size", "2", "--max-tokens", "32"]
    done = run(COMMAND, "recover", tmp_path / "r.yaml", tmp_path / "out", *options, *(["--lora"] if lora else []))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "step 3 of 3, loss" in done.stderr and "training takes about" in done.stderr
    model = f"pretrained={tiny_model},recipe={tmp_path / 'r.yaml'},peft={tmp_path / 'out'}"
    info, _ = evaluated(model if lora else f"pretrained={tmp_path / 'out'}", tmp_path / "results")
    assert info["recovered"]["kind"] == ("lora" if lora else "full") and info["recovered"]["steps"] == 3
    assert info["recovered"]["recipe"] == load_recipe(str(tmp_path / "r.yaml")).digest
    assert "recovered" not in evaluated(f"pretrained={tiny_model}", tmp_path / "plain")[0]


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_killed_training_goes_on(lora: bool, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = training(**SHORT, lora=lora, micro_batch_size=2)
    (tmp_path / "whole" / "training" / "pruned").mkdir(parents=True)  # as it is left by a kill during its first export
    whole = recover(recipe, tmp_path / "whole", settings, save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "progress", lambda logger: killed_at(5))
        with pytest.raises(Killed):
            recover(recipe, tmp_path / "out", settings, save_steps=2)
    other = settings.model_copy(update={"learning_rate": 1e-3})
    with pytest.raises(ArgumentError, match=r"holds an unfinished training with learning_rate=None, not 0\.001"):
        recover(recipe, tmp_path / "out", other)
    begun = len(list((tmp_path / "out" / "training").glob("checkpoint-4")))
    half = tmp_path / "out" / "training" / "checkpoint-6"
    shutil.copytree(half.with_name("checkpoint-4"), half, ignore=lambda *_: ["trainer_state.json", "optimizer.pt"])
    resumed = recover(recipe, tmp_path / "out", settings, save_steps=2)
    assert begun == 1 and not (resumed / "training").exists()
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    one, two = load_file(whole / name), load_file(resumed / name)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    marks = [json.loads((folder / "recovery.json").read_text()) for folder in (whole, resumed)]
    assert marks[0] == marks[1] and len(marks[0]["loss"]) == 6
    with pytest.raises(ArgumentError, match="is not empty; give a new folder"):
        recover(recipe, whole, settings)


def test_training_lowers_the_loss_and_changes_what_it_should(recipe: Recipe, tmp_path: Path) -> None:
    settings = training(**{**SHORT, "steps": 12}, learning_rate=3e-3)
    folder = recover(recipe, tmp_path / "full", settings)
    losses = json.loads((folder / "recovery.json").read_text())["loss"]
    assert losses[-1] < losses[0] - 0.1
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 5 and model.dtype == read_config(recipe.base, "main", False).dtype
    adapter = load_file(
        recover(recipe, tmp_path / "lora", training(**SHORT, lora=True, rank=4)) / "adapter_model.safetensors"
    )
    assert {tensor.shape[0] for name, tensor in adapter.items() if "lora_A" in name} == {4}
    assert {name.split(".")[-3] for name in adapter} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_blocks_that_are_left_out_are_not_trained_back(lora: bool, tiny_model: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        base=str(tiny_model), drop=(0,), drop_attention=(2,), drop_mlp=(3,), method="by hand", source="a test"
    )
    folder = recover(recipe, tmp_path / "out", training(**SHORT, learning_rate=1e-2, lora=lora))
    write_recipe(recipe, tmp_path / "r.yaml")
    if lora:
        names = load_file(folder / "adapter_model.safetensors")
        assert any("layers.1.mlp" in name for name in names) and any("layers.2.self_attn" in name for name in names)
        assert not any("layers.1.self_attn" in name or "layers.2.mlp" in name for name in names)
        trained = PrunedHFLM(recipe=str(tmp_path / "r.yaml"), peft=str(folder), dtype="float32", journal="off")
        assert trained.get_model_info()["pruning"]["dropped_attention"] == [2]
    else:
        tensors = load_file(folder / "model.safetensors")
        for name in ("layers.1.self_attn.o_proj", "layers.2.mlp.down_proj"):
            assert not tensors[f"model.{name}.weight"].any(), "the same block is left out of the trained model"


def test_an_adapter_of_other_layers_is_refused(recipe: Recipe, tiny_model: Path, tmp_path: Path) -> None:
    folder = str(recover(recipe, tmp_path / "out", training(**SHORT, lora=True)))
    PrunedHFLM(str(tiny_model), drop_layers=[2], peft=folder, journal="off")
    for others, said in (({"drop_layers": [3]}, r"drop_layers=\[3\]"), ({}, "all layers")):
        options: dict[str, Any] = {"peft": folder, "journal": "off", **others}
        with pytest.raises(ArgumentError, match=rf"a model with drop_layers=\[2\], and this one has {said}"):
            _ = PrunedHFLM(str(tiny_model), **options).model


def test_what_cannot_be_trained_is_one_line(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = Recipe(base="tiny-chain", quantization=parse_quantize("quanto:int8"), source="a test")
    with pytest.raises(ArgumentError, match="quantized while they are loaded"):
        recover(quantized, tmp_path / "out", training(**SHORT))
    broken = tmp_path / "broken" / "training" / "settings.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"recipe": ')
    with pytest.raises(ArgumentError, match=r"settings.json: cannot be read as JSON .*; give a new folder"):
        recover(recipe, tmp_path / "broken", training(**SHORT))


def test_a_folder_of_somebody_else_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "training" / "notes.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("kept")
    with pytest.raises(ArgumentError, match="theirs: is not empty; give a new folder"):
        recover(recipe, tmp_path / "theirs", training(**SHORT))
    assert theirs.read_text() == "kept"


def test_a_training_that_was_killed_before_its_settings_were_written_begins_anew(
    recipe: Recipe, tmp_path: Path
) -> None:
    begun = tmp_path / "out" / "training"
    for name in ("pruned", ".pruned-a1b2"):
        (begun / name).mkdir(parents=True)
    (begun / "settings.json.123.part").write_text("{")
    recover(recipe, tmp_path / "out", training(**SHORT, lora=True))
    assert not begun.exists()


def test_a_training_that_was_killed_at_its_very_end_is_not_taken_up(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = training(**SHORT, lora=True)
    delete, out = shutil.rmtree, tmp_path / "out"

    def killed(path: Path, **options: Any) -> None:
        if Path(path).parent == out and (path / "settings.json").exists():
            (path / "settings.json").unlink()
            raise Killed
        delete(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr("lm_eval_ext.pruning.recovery.shutil.rmtree", killed)
        with pytest.raises(Killed):
            recover(recipe, out, settings)
    assert json.loads((out / "recovery.json").read_text())["steps"] == SHORT["steps"]
    with pytest.raises(ArgumentError, match="is not empty; give a new folder"):
        recover(recipe, out, settings)
    left = {path.name for path in out.iterdir()}
    assert left == {"README.md", "adapter_config.json", "adapter_model.safetensors", "recovery.json"}


_LATE = """
import os, time
from lm_eval_ext.cli import app
from lm_eval_ext.pruning import recovery
save = recovery._save
def late(*args):
    time.sleep(3 * int(os.environ["RANK"]))
    save(*args)
recovery._save = late
app()
"""


@pytest.mark.long
def test_two_processes_make_the_same_step(recipe: Recipe, tmp_path: Path) -> None:
    one = recover(recipe, tmp_path / "one", training(**SHORT))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SHORT.items()]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    late = tmp_path / "late.py"  # the second process is late at the end, when the first removes the pruned model
    late.write_text(_LATE, "utf-8")
    done = run(
        *launch,
        late,
        "recover",
        tmp_path / "r.yaml",
        tmp_path / "two",
        *options,
        CUDA_VISIBLE_DEVICES="",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "in each process" in done.stderr and (tmp_path / "two" / "recovery.json").is_file()
    found = load_file(tmp_path / "two" / "model.safetensors")
    for name, tensor in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(tensor, found[name], atol=2e-5, rtol=1e-3)


def test_micro_batches_make_the_same_step(recipe: Recipe, tmp_path: Path) -> None:
    found = []
    for micro in (1, 4):
        folder = recover(recipe, tmp_path / str(micro), training(**SHORT, micro_batch_size=micro))
        found.append(load_file(folder / "model.safetensors"))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=2e-5, rtol=1e-3)


def test_only_replies_count(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    row = encoded(Exchange("1+2?", "<think>easy</think>3"), tokenizer, 99)
    labels = finetuning._batch([row])["labels"][0].tolist()
    written = tokenizer.decode([token for token in labels if token >= 0])
    assert written == f"<think>easy</think>3{tokenizer.eos_token}", "to the end of its turn"
    batch = finetuning._batch([TokenRow([1, 2, 3], 1), TokenRow([4, 5], 1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 5, 0]] and batch["attention_mask"].tolist()[1] == [1, 1, 0]
    assert batch["labels"].tolist() == [[-100, 2, 3], [-100, 5, -100]]


def test_settings_of_a_paper_can_be_changed() -> None:
    found = training("s1", lora=True)
    assert (found.rank, found.alpha, found.epochs, found.rate, found.weight_decay) == (16, 32, 5.0, 1e-5, 1e-4)
    assert (found.batch_size, found.max_tokens, found.data) == (16, 32_768, "s1k-chat")
    assert found.total_steps(1000) == 315
    assert training("s1", steps=7).epochs is None and training("s1", steps=7).total_steps(1000) == 7
    assert training("s1", epochs=1.0, batch_size=4, micro_batch_size=2).accumulation(1) == 2


@pytest.mark.parametrize(("given", "words"), case_table("wrong_arguments.yaml")["training"])
def test_settings_that_cannot_be_are_one_line(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        training(**given)
    assert str(caught.value) == words


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval_ext.pruning.recovery._free_bytes", lambda processes: 1_000_000)
    with pytest.raises(ArgumentError, match=r"^training takes about .* MB \(trained weights .*\), but 1 MB are free"):
        recover(recipe, tmp_path / "out", training(**SHORT))
    assert not (tmp_path / "out").exists()


def test_the_estimate_counts_what_is_trained(tiny_model: Path) -> None:
    config = read_config(str(tiny_model), "main", False)
    numbers = AutoModelForCausalLM.from_config(config).num_parameters()
    full = estimated(training(**SHORT), config, 100, 4, 4)
    assert full.trained == 16 * numbers and full.weights == 0
    lora = estimated(training(**SHORT, lora=True), config, 100, 4, 2)
    assert lora.weights == 2 * numbers and lora.trained < full.trained
    assert estimated(training(**SHORT), config, 200, 4, 4).activations == 2 * full.activations
    Memory(1, 1, 1).check(3)


def test_training_without_its_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    done = cli("recover", "qwen3-8b-reverse-1", tmp_path / "out", "--data", "embedded")
    assert done.exit_code == 1 and not list(tmp_path.iterdir())
    assert done.stderr.startswith("lm-eval-tts: recover needs the extra `train`: pip install 'lm-eval-tts[train]' (")
