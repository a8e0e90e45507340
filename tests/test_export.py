"""A recipe written out: what stock libraries load is what `pruned-hf` runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.lm_eval_output import scores, write_output
from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, weight_bytes
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.loading import Sliced, load_pruned
from lm_eval_ext.pruning.recipe import Recipe, load_recipe, write_recipe
from lm_eval_ext.pruning.vllm_loader import engine_arguments
from tests.checkpoints import ARCHITECTURES, write_checkpoint
from tests.commands import COMMAND, cli, run
from tests.shared import case_table


def recipe_for(folder: Path, **fields: object) -> Recipe:
    return Recipe.model_validate(
        {"base": str(folder), "drop": (1, 4), "method": "selection", "source": "a test", **fields}
    )


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_stock_transformers_loads_it_with_the_same_logits(kind: str, tmp_path: Path) -> None:
    folder = write_checkpoint(kind, tmp_path / "base")
    out = export(recipe_for(folder), tmp_path / "out", shard_bytes=30_000)
    assert len(list(out.glob("*.safetensors"))) > 2
    ids = torch.arange(3, 20)[None]
    ours = load_pruned(str(folder), AutoConfig.from_pretrained(folder), [0, 2, 3, 5])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(out)(ids).logits, ours(ids).logits)


def test_a_config_that_changes_what_it_reads_is_exported_right_or_refused(tmp_path: Path) -> None:
    """That of Gemma 4 makes the last layer attend to all tokens, also where a sliding one was kept last."""
    types = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    folder = write_checkpoint(
        "gemma4_text", tmp_path / "base", layer_types=[*types[:-1], "full_attention"], hidden_size_per_layer_input=0,
        global_head_dim=8, sliding_window=4,
    )  # fmt: skip
    with pytest.raises(ArchitectureError, match=r"cannot be exported: .* logits differ by"):
        export(recipe_for(folder, drop=(5,)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"], "nothing half-done is left"
    out = export(recipe_for(folder, drop=(1, 3)), tmp_path / "out")
    ids = torch.arange(3, 40)[None]
    ours = load_pruned(str(folder), AutoConfig.from_pretrained(folder), [0, 2, 4, 5])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(out)(ids).logits, ours(ids).logits)


def test_per_layer_embeddings_are_exported_and_weighed_without_those_of_dropped_layers(tmp_path: Path) -> None:
    types = ["sliding_attention", "full_attention"] * 3
    folder = write_checkpoint(
        "gemma4_text", tmp_path / "base", layer_types=types, num_kv_shared_layers=2, hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=96, global_head_dim=8, sliding_window=4,
    )  # fmt: skip
    out = export(recipe_for(folder, drop=(0, 4)), tmp_path / "out", shard_bytes=30_000)
    config, ids = AutoConfig.from_pretrained(folder), torch.arange(3, 40)[None]
    ours = load_pruned(str(folder), config, [1, 2, 3, 5])
    with torch.no_grad():
        assert torch.equal(AutoModelForCausalLM.from_pretrained(out)(ids).logits, ours(ids).logits)
    assert weight_bytes(str(folder), [1, 2, 3, 5], {}) == weight_bytes(str(out), range(4), {})
    with pytest.raises(
        ArchitectureError, match="cannot be dropped in vLLM, which reads its per-layer embeddings whole"
    ):
        engine_arguments(str(folder), config, Sliced((1, 2, 3, 5), NO_CHANGES, config), {})


def test_merged_layers_are_written_merged(tiny_model: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tiny_model, merge=[{"into": 0, "layers": [1]}, {"into": 3, "layers": [4]}])
    out = export(recipe, tmp_path / "out")
    ours = load_pruned(str(tiny_model), AutoConfig.from_pretrained(tiny_model), [0, 2, 3, 5], changes=recipe.changes)
    theirs = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.state_dict().items())


def test_what_else_belongs_to_a_model_comes_along(tiny_model: Path, tmp_path: Path) -> None:
    (tiny_model / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Tiny\n", "utf-8")
    out = export(recipe_for(tiny_model), tmp_path / "out")
    (tiny_model / "README.md").unlink()
    card = (out / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["license"] == "apache-2.0" and "arXiv 2510.22228" in card
    assert load_recipe(str(out / "recipe.yaml")) == recipe_for(Path(tiny_model.name))
    text = "x</think>"
    whole, pruned = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(out)
    assert whole.encode(text) == pruned.encode(text) and whole.chat_template == pruned.chat_template
    assert json.loads((out / "generation_config.json").read_text("utf-8"))


def test_an_empty_folder_may_be_there(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    out = export(recipe_for(tiny_model), tmp_path / "out")
    assert AutoConfig.from_pretrained(out).num_hidden_layers == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing half-done is left"


def test_killed_it_leaves_an_empty_folder_empty_or_whole(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    (tmp_path / "out").mkdir()
    for name in ("shutil.move", "pathlib.Path.rename"):
        monkeypatch.setattr(name, killed)
    with pytest.raises(Killed):
        export(recipe_for(tiny_model), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.undo()
    monkeypatch.setattr("shutil.move", killed)  # which is not needed
    export(recipe_for(tiny_model), tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").num_hidden_layers == 4


def test_into_a_folder_that_cannot_be_replaced_its_files_are_moved(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr("pathlib.Path.rename", busy)
    export(recipe_for(tiny_model), tmp_path / "out")
    assert AutoConfig.from_pretrained(tmp_path / "out").num_hidden_layers == 4
    with pytest.raises(OSError, match="busy"):
        export(recipe_for(tiny_model), tmp_path / "other")


def test_it_is_written_where_one_stands_and_through_links(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ArgumentError, match="loop: is a link to itself; give a new folder"):
        export(recipe_for(tiny_model), tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    export(recipe_for(tiny_model), tmp_path / "link")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644, "others may read it"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export(recipe_for(tiny_model), Path())
    assert AutoConfig.from_pretrained(Path.cwd()).num_hidden_layers == 4


def test_the_card_names_the_base_on_the_hub(tiny_model: Path, tmp_path: Path) -> None:
    """Also one loaded from a local copy, whose own card cannot be read."""
    (tiny_model / "README.md").write_text("---\nlicense: [mit\n---\n# Tiny\n", "utf-8")
    out = export(recipe_for(Path("lab/tiny")), tmp_path / "out", pretrained=str(tiny_model))
    (tiny_model / "README.md").unlink()
    metadata = yaml.safe_load((out / "README.md").read_text("utf-8").split("---")[1])
    assert metadata["base_model"] == "lab/tiny" and "license" not in metadata


def test_no_file_of_it_says_where_the_base_or_the_texts_are(tiny_model: Path, tmp_path: Path) -> None:
    base, texts = tmp_path / "private" / "tiny-base", tmp_path / "private" / "texts.txt"
    shutil.copytree(tiny_model, base)
    config = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    noted = {"name_or_path": str(base), "special_tokens_map_file": str(base / "special_tokens_map.json")}
    (base / "tokenizer_config.json").write_text(json.dumps(config | noted), "utf-8")
    calibration = {"name": f"run:{texts}", "samples": 1, "max_tokens": 9, "sha256": "0" * 64}
    recipe = recipe_for(
        base, checkpoint=f"{base}-awq/", relation="quantized", calibration=calibration, source=str(texts)
    )
    out = export(recipe, tmp_path / "out", pretrained=str(base))
    assert not [path.name for path in out.rglob("*") if b"private" in path.read_bytes()]
    written = load_recipe(str(out / "recipe.yaml"))
    assert (written.base, written.checkpoint, written.source) == ("tiny-base", "tiny-base-awq", "texts.txt")
    assert written.calibration and written.calibration.name == "run:texts.txt"
    assert "base_model" not in (out / "README.md").read_text("utf-8"), "others can't load it"
    models = [
        PrunedHFLM(pretrained=str(where), recipe=given, journal="off").model
        for where, given in ((out, None), (base, str(out / "recipe.yaml")))
    ]
    theirs, ours = (model.state_dict() for model in models)
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert AutoTokenizer.from_pretrained(out).encode("x") == AutoTokenizer.from_pretrained(base).encode("x")


@pytest.mark.parametrize(("base", "public"), [("Org/Model-8B", "Org/Model-8B"), (".", "here"), ("lab/tiny", "tiny")])
def test_a_name_on_the_hub_is_public_and_a_folder_is_not(
    base: str, public: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "lab" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert recipe_for(Path(base)).published().base == public


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path / "a" / "tiny", checkpoint=str(tmp_path / "b" / "tiny"), relation="quantized")
    with pytest.raises(ArgumentError, match="base and checkpoint are both folders named tiny"):
        export(recipe, tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ArgumentError, match="is not empty"):
        export(recipe_for(tiny_model), tmp_path)


@pytest.mark.long
def test_28_of_30_layers_of_a_real_model(tmp_path: Path) -> None:
    if not SMOLLM2.is_dir():
        pytest.skip(f"no model at {SMOLLM2} (make .models/smollm2/model.safetensors)")
    out = export(recipe_for(SMOLLM2, drop=(25, 26)), tmp_path / "out", shard_bytes=50_000_000)
    config = AutoConfig.from_pretrained(SMOLLM2)
    ours = load_pruned(str(SMOLLM2), config, [layer for layer in range(30) if layer not in (25, 26)])
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = torch.tensor([tokenizer.encode("The three largest cities of Europe are")])
    texts = [
        model.generate(ids, max_new_tokens=24, do_sample=False)[0].tolist()
        for model in (ours, AutoModelForCausalLM.from_pretrained(out))
    ]
    assert texts[0] == texts[1] and len(texts[0]) > 20


def test_layers_of_unknown_names_are_refused(tmp_path: Path) -> None:
    base = write_checkpoint("llama", tmp_path / "base", shard_size="10MB")
    weights = load_file(base / "model.safetensors")
    renamed = {name.replace("layers", "storeys"): tensor for name, tensor in weights.items()}
    save_file(renamed, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArchitectureError, match="cannot tell which layers the tensors"):
        export(recipe_for(tmp_path / "base", drop=(0,)), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"], "nothing half-done is left"


def test_layers_that_a_config_cannot_do_without_are_kept(tmp_path: Path) -> None:
    """Refused before the weights are looked at, which this base does not even have."""
    config = AutoConfig.for_model("olmo_hybrid", num_hidden_layers=6)
    config.save_pretrained(tmp_path / "base")
    linear = [layer for layer, kind in enumerate(config.layer_types) if kind == "linear_attention"]
    with pytest.raises(ArchitectureError, match="expects at least one 'linear_attention' layer"):
        export(recipe_for(tmp_path / "base", drop=linear), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"], "nothing half-done is left"


def test_a_recipe_of_other_layers_is_not_overwritten(tiny_model: Path, tmp_path: Path) -> None:
    def prune(*more: str) -> tuple[int, str]:
        done = cli("prune", "--base", tiny_model, "--out", tmp_path, "--method", "random", *more)
        return done.exit_code, done.stderr

    (tmp_path / f"{tiny_model.name.lower()}-random-1.yaml").write_text("base: a\ndrop: 77\nmethod: m\nsource: s\n")
    code, said = prune("--remove", "1,2")
    assert code == 1 and "random-1.yaml: already exists and is another recipe; use another --out, or --force" in said
    assert (tmp_path / f"{tiny_model.name.lower()}-random-2.yaml").is_file(), "the others are written"
    assert prune("--force")[0] == 0 and prune()[0] == 0
    assert prune("--set", "seed=5")[0] == 0
    assert (tmp_path / f"{tiny_model.name.lower()}-random-5-1.yaml").is_file()


@pytest.mark.parametrize(("method", "kinds"), [("joint", ["attention", "mlp"]), ("mlp", ["mlp"])])
def test_the_plot_shows_which_blocks_are_left_out(
    method: str, kinds: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    arguments = ["--method", method, "--remove", "3", "--samples", "2", "--max-tokens", "32", "--out", str(tmp_path)]
    done = cli("prune", "--base", tiny_model, *arguments)
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("*.svg")
    recipe, plot = load_recipe(str(path.with_suffix(".yaml"))), path.read_text("utf-8")
    left_out = [f"{kind} {layer}" for kind in kinds for layer in recipe.blocks._asdict()[kind]]
    assert re.findall(r'hatch\)"><title>(.*?):', plot) == left_out and len(left_out) == 3
    assert plot.count("<title>") == 6 * len(kinds) and f"{recipe.summary} of 6 layers" in plot


# The command line ---------------------------------------------------------------------------------------------


def test_from_a_question_to_a_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    asked = ("--method", "shortgpt", "--remove", "1,2", "--samples", "2", "--max-tokens", "32")
    done = run(COMMAND, "prune", "--base", tiny_model, *asked, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / f"{tiny_model.name.lower()}-shortgpt-{count}.yaml" for count in (1, 2)]
    recipes = [load_recipe(str(path)) for path in paths]
    assert [len(recipe.drop) for recipe in recipes] == [1, 2] and len(recipes[0].scores) == 6
    assert recipes[0].calibration and recipes[0].calibration.name == "embedded"
    assert "<svg" in paths[0].with_suffix(".svg").read_text("utf-8")
    done = run(COMMAND, "export", str(paths[1]), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert AutoConfig.from_pretrained(tmp_path / "out").num_hidden_layers == 4
    shown = run(COMMAND, "recipes", "show", str(paths[1])).stdout
    assert "method: shortgpt" in shown and recipes[1].digest in shown


@pytest.mark.long
def test_results_of_the_model_go_into_its_card_and_those_of_another_are_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    write_recipe(recipe_for(tiny_model, drop=(1, 3)), recipe)
    for dropped in ((1, 3), (1,)):
        tasks = {"tts_aime24_b512": scores(0.4, 30, 3, 0)}
        write_output(tmp_path / f"run{len(dropped)}", tasks, base=str(tiny_model), dropped=dropped)
    done = run(COMMAND, "export", recipe, tmp_path / "other", "--results", tmp_path / "run1")
    assert done.returncode == 1 and "results of" in done.stderr and not (tmp_path / "other").exists()
    assert "drops 1+3" in done.stderr.splitlines()[-1]
    done = run(COMMAND, "export", recipe, tmp_path / "out", "--results", tmp_path / "run2")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert (
        card.startswith("---\n")
        and "## Evaluation" in card
        and "| `tts_aime24_b512` | 512 | 35.6 (21.1 to 53.3) | 30 x 3 |" in card
    )
    assert not (tmp_path / "out" / ".eval_results").exists(), "AIME 2024 with a budget is nothing that the Hub shows"


def test_recipes_are_listed_and_checked(tmp_path: Path) -> None:
    assert "qwen3-8b-reverse-1" in run(COMMAND, "recipes", "list").stdout
    done = run(COMMAND, "recipes", "check")
    assert done.returncode == 0 and "0 invalid" in done.stdout
    text = "base: a/b\ndrop: [1]\nmethod: m\nsource: s\n"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    (tmp_path / "b.yaml").write_text(text, "utf-8")
    (tmp_path / "c.yaml").write_text(text + "dorp: 2\n", "utf-8")
    done = run(COMMAND, "recipes", "check", *[str(tmp_path / f"{name}.yaml") for name in "abc"])
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and "the same model as" in lines[0] and "dorp" in lines[1] and "2 invalid" in lines[2]


@pytest.mark.parametrize(("arguments", "message"), case_table("wrong_arguments.yaml")["prune"])
def test_a_wrong_wish_is_one_line(arguments: list[str], message: str, tiny_model: Path, tmp_path: Path) -> None:
    done = cli("prune", "--base", tiny_model, "--out", tmp_path, *arguments)
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 1 and last.startswith("lm-eval-tts: ") and message in last
