"""What a run and a choice of layers are known by: all that their results depend on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import PRUNED_MODELS, TASKS, TINY_CHAIN
from lm_eval_ext.sweep.sources import Sources, Study
from tests.test_sweep import written


def test_what_a_run_is_does_not_depend_on_where_it_runs(tmp_path: Path) -> None:
    def identities(**changes: Any) -> list[str]:
        study = Study(written(tmp_path, pruning=[], seeds=[0], **changes))
        return [str(study.folder_of(one)).rpartition("-")[2] for one in study.runs]

    plain = identities()
    assert plain == identities(batch_size=4) == identities(launch={"local": {"jobs": 2}}) == identities(output="there")
    assert plain == identities(models={"tiny": {"pretrained": "tiny-chain", "device": "cpu"}})
    others = [
        identities(limit=5), identities(gen_kwargs={"temperature": 0.5}), identities(budgets=[8]),
        identities(models={"tiny": {"pretrained": "tiny-chain", "dtype": "float32"}}),
    ]  # fmt: skip
    assert len({one[0] for one in [plain, *others]}) == 5


def test_paths_are_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("here", "there")):
        folder = tmp_path / name
        shutil.copytree(TINY_CHAIN, folder / "model")
        (folder / "tasks").mkdir()
        shutil.copy(PRUNED_MODELS / "tiny-chain-mlp-1.yaml", folder / "r.yaml")
        monkeypatch.chdir(tmp_path if number else folder)
        path = written(
            folder, seeds=[0], budgets=[8], models={"m": "model"}, include_path="tasks",
            pruning=[{"recipe": "r.yaml"}, {"method": "shortgpt", "remove": [1], "calibration": "run:tasks"}],
        )  # fmt: skip
        study = Study(path, keep=False)
        words = [" ".join(study.plain_command(one)) for one in study.runs]
        assert all(f"pretrained={folder}/model" in one and f"--include_path {folder}/tasks" in one for one in words)
        assert f"recipe={folder}/r.yaml" in words[0] and f"calibration=run:{folder}/tasks" in words[1]
        assert study.stages[0].base == f"{folder}/model"
    found = [Study(tmp_path / name / "study.yaml", keep=False) for name in ("here", "there")]
    assert len({str(one.folder_of(one.runs[0])).rpartition("-")[2] for one in found}) == 1, "the same run elsewhere"


def test_layers_are_chosen_anew_if_what_they_depend_on_changes(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("One text.")
    found = []
    for changes in ({}, {"calibration": "embedded"}, {"samples": 4}, {"max_tokens": 9}, {"calibration": "texts.txt"}):
        pruning = [{"method": "shortgpt", "remove": [1], "calibration": "task:tts_chain_short", **changes}]
        study = Study(written(tmp_path, pruning=pruning), keep=False)
        found.append(study.folder_of(study.stages[0]))
        assert str(found[-1]) in study.stage_command(study.stages[0])
    (tmp_path / "texts.txt").write_text("Two text.")  # of the same size
    again = Study(tmp_path / "study.yaml", keep=False)
    found.append(again.folder_of(again.stages[0]))
    assert len(set(found)) == len(found) == 6
    deeper = [{"method": "shortgpt", "remove": [1, 2], "calibration": "task:tts_chain_short"}]
    study = Study(written(tmp_path, pruning=deeper), keep=False)
    assert study.folder_of(study.stages[0]) == found[0], "more depths are no other choice"


def local(folder: Path) -> Path:
    """A study of a model, a tokenizer, a task and a recipe in files of its own."""
    shutil.copytree(TINY_CHAIN, folder / "model")
    with (folder / "model" / "large.safetensors").open("wb") as file:
        file.truncate(40 << 20)
    shutil.copytree(TINY_CHAIN, folder / "tokenizer")
    shutil.copytree(TASKS / "chain", folder / "tasks" / "chain")
    for path in sorted((folder / "tasks" / "chain").rglob("tts_chain_b8.yaml")):
        path.rename(path.with_name("tts_mine.yaml"))
        text = path.with_name("tts_mine.yaml").read_text("utf-8")
        path.with_name("tts_mine.yaml").write_text(text.replace("tts_chain_b8", "tts_mine"), "utf-8")
    shutil.copy(PRUNED_MODELS / "tiny-chain-mlp-1.yaml", folder / "r.yaml")
    return written(
        folder, models={"m": {"pretrained": "model", "tokenizer": "tokenizer"}}, include_path="tasks", seeds=[0],
        tasks=["mine"], budgets=[], pruning=[{"recipe": "r.yaml"}],
    )  # fmt: skip


def flipped(path: Path) -> None:
    """Change one byte in the middle of a file, which keeps its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def changed_at(path: Path, place: int) -> None:
    """Change one byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\1")


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda at: flipped(at / "model" / "model.safetensors"),
        lambda at: changed_at(at / "model" / "large.safetensors", 1_000_003),
        lambda at: replaced(at / "model" / "chat_template.jinja", "}", "} "),
        lambda at: flipped(at / "tokenizer" / "tokenizer.json"),
        lambda at: replaced(next((at / "tasks").rglob("tts_mine.yaml")), "tts_mine", "tts_mine\ndescription: new"),
        lambda at: replaced(at / "r.yaml", "[", "[1, "),
    ],
    ids=["weights", "a shard", "chat template", "tokenizer", "task", "recipe"],
)
def test_a_file_that_changes_in_place_makes_it_another_run(change: Callable[[Path], object], tmp_path: Path) -> None:
    path = local(tmp_path / "here")
    (run,) = Study(path, keep=False).runs
    assert run.name == "m-r-s0", "a task of one's own with seeds"
    before = Study(path, keep=False).folder_of(run)
    assert before == Study(path, keep=False).folder_of(run)
    moved = tmp_path / "there"
    (tmp_path / "here").rename(moved)
    study = Study(moved / path.name, keep=False)
    assert study.folder_of(study.runs[0]) is not None and before is not None
    assert study.folder_of(study.runs[0]).name == before.name, "the same elsewhere"  # type: ignore[union-attr] # checked
    change(moved)
    study = Study(moved / path.name, keep=False)
    assert study.folder_of(study.runs[0]).name != before.name  # type: ignore[union-attr] # checked


def test_data_and_arguments_in_files_make_it_another_run(tmp_path: Path) -> None:
    """Also files that are neither in the model's folder nor in that of the tasks."""
    (tmp_path / "tasks").mkdir()
    data = tmp_path / "data" / "rows.jsonl"
    for folder in ("data", "delta", "adapter"):
        (tmp_path / folder).mkdir()
    config = [tmp_path / folder / "adapter_config.json" for folder in ("delta", "adapter")]
    for file in (data, tmp_path / "texts.txt", *config):
        file.write_text("1")
    lines = ["task: tts_mine", "dataset_path: json", f"dataset_kwargs: {{data_files: {{test: {data}}}}}",
             "output_type: generate_until", "generation_kwargs: {until: [x]}"]  # fmt: skip
    (tmp_path / "tasks" / "tts_mine.yaml").write_text("\n".join(lines))
    model = {"pretrained": "tiny-chain", "delta": "delta", "lora_local_path": "adapter"}
    chosen = {**model, "prune": "shortgpt:1", "calibration": "texts.txt"}
    path = written(
        tmp_path, models={"m": model, "chosen": chosen}, include_path="tasks", seeds=[0], tasks=["mine"], budgets=[],
        pruning=[{"method": "shortgpt", "remove": [0, 1], "calibration": "task:tts_mine"}],
    )  # fmt: skip

    def found() -> list[str]:
        study = Study(path, keep=False)
        runs = {run.model: run for run in study.runs if run.stage is None}
        return [str(study.folder_of(item)) for item in (runs["m"], runs["chosen"], study.stages[0])]

    before = found()
    assert before == found()
    for file, changes in (
        (data, (1, 1, 1)),
        (config[0], (1, 1, 0)),
        (config[1], (1, 1, 0)),
        (path.parent / "texts.txt", (0, 1, 0)),
    ):
        file.write_text("2")
        now = found()
        assert tuple(one != other for one, other in zip(before, now, strict=True)) == changes, file
        before = now


def test_groups_are_known_by_their_tasks(tmp_path: Path) -> None:
    study = Study(written(tmp_path, tasks=["mini"], budgets=[], seeds=[0], pruning=[]), keep=False)
    content: Any = study.content_of(study.runs[0])
    assert {"tts_chain_b8", "tts_chain_short_b128"} <= set(content["tasks"]) and all(content["tasks"].values())


COMMIT, OTHER = "a" * 40, "b" * 40


def in_cache(cache: Path, name: str, commit: str, kind: str = "models") -> None:
    refs = cache / f"{kind}--{name.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    (refs / "main").write_text(commit)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_commit_is_what_it_was_when_the_study_began(hub: Path, tmp_path: Path) -> None:
    def planned(**model: Any) -> tuple[str, str]:
        models = {"m": {"pretrained": "org/model", **model}}
        study = Study(written(tmp_path, models=models, pruning=[], seeds=[0], budgets=[8]))
        return str(study.folder_of(study.runs[0])), " ".join(study.plain_command(study.runs[0]))

    in_cache(hub, "org/model", COMMIT)
    folder, command = planned()
    assert f"revision={COMMIT}" in command
    assert planned(revision="main")[0] == folder == planned(revision=COMMIT)[0], "three words for the same"
    in_cache(hub, "org/model", OTHER)
    assert planned() == (folder, command), "the Hub has moved, this study has not"
    assert planned(revision=OTHER)[0] != folder


def test_what_is_unknown_stays_so_within_a_study(hub: Path, tmp_path: Path) -> None:
    assert Sources(tmp_path, keep=True).commit_of("dataset", "org/texts", None) is None
    in_cache(hub, "org/texts", COMMIT, "datasets")
    assert Sources(tmp_path, keep=True).commit_of("dataset", "org/texts", None) is None
    assert Sources(tmp_path / "another", keep=True).commit_of("dataset", "org/texts", None) == COMMIT
    one, other = Sources(tmp_path, keep=True), Sources(tmp_path, keep=True)
    in_cache(hub, "org/a", COMMIT)
    in_cache(hub, "org/b", OTHER)
    assert (one.commit_of("model", "org/a", None), other.commit_of("model", "org/b", None)) == (COMMIT, OTHER)
    assert len(json.loads((tmp_path / "commits.json").read_text())) == 3, "no one loses what another has found"
    (tmp_path / "commits.json").write_text("[]")
    with pytest.raises(ManifestError, match="expected a JSON object; delete it"):
        Sources(tmp_path, keep=True)


def test_a_hub_that_does_not_answer_is_one_line(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    assert Sources(tmp_path, keep=False).commit_of("model", "org/model", None) is None, "nothing depends on it yet"
    with pytest.raises(ManifestError, match=r"org/model: the Hub cannot be reached .*no route.*HF_HUB_OFFLINE=1"):
        Sources(tmp_path, keep=True).commit_of("model", "org/model", None)
