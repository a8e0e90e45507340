"""lm-eval's index of task files is the same whether it was parsed or kept from an earlier start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from lm_eval_ext.harness.task_files import kept_fields
from lm_eval_ext.paths import TASKS

Entries = dict[str, tuple[object, ...]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "_base").write_text("tag: first\noutput_type: generate_until\n")
    (tasks / "one.yaml").write_text("include: _base\ntask: one\n")
    (tasks / "all.yaml").write_text("group: all\ntask: [one, {task: two, when: 2026-01-01}]\n")
    yield tasks


def read(folder: Path) -> tuple[dict[str, dict[str, object]], list[str]]:
    """The fields of the two files, and which of them were parsed."""
    parsed: list[str] = []

    def parse(path: Path, **options: bool) -> dict[str, object]:
        parsed.append(path.stem)
        return dict(load_yaml(path, **options))

    with kept_fields([folder], parse) as load:
        return {name: load(folder / f"{name}.yaml", resolve_func=False) for name in ("one", "all")}, parsed


def entries(index: dict[str, object]) -> Entries:
    return {name: (entry.kind, entry.yaml_path, entry.tags) for name, entry in index.items()}  # type: ignore[attr-defined]


def test_a_second_start_parses_nothing(folder: Path) -> None:
    first, parsed = read(folder)
    assert first["one"] == {"task": "one", "tag": "first", "output_type": "generate_until"}
    assert first["all"] == {"group": "all"} and parsed == ["one", "all"]
    assert read(folder) == (first, [])


@pytest.mark.parametrize("changed", ["one.yaml", "_base"])
def test_a_changed_file_is_parsed_again_also_if_it_is_only_included(folder: Path, changed: str) -> None:
    read(folder)
    file = folder / changed
    file.write_text(file.read_text() + "output_type: multiple_choice\n")
    fields, parsed = read(folder)
    assert (fields["one"]["output_type"], parsed) == ("multiple_choice", ["one", "all"])


def test_a_change_of_equal_size_is_seen(folder: Path) -> None:
    read(folder)
    (folder / "_base").write_text("tag: other\noutput_type: generate_until\n")
    os.utime(folder / "_base", ns=(1, 1))
    assert read(folder)[0]["one"]["tag"] == "other"


def test_a_new_file_is_seen(folder: Path) -> None:
    read(folder)
    (folder / "two.yaml").write_text("task: two\n")
    assert read(folder)[1] == ["one", "all"]


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"stamp": 1}', '{"stamp": null, "fields": 3}'])
def test_a_damaged_cache_is_replaced(folder: Path, damaged: str, tmp_path: Path) -> None:
    first, _ = read(folder)
    (cache,) = (tmp_path / "cache").rglob("*.json")
    cache.write_text(damaged)
    assert read(folder) == (first, ["one", "all"])
    assert read(folder) == (first, [])


def test_a_cache_that_cannot_be_written_changes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert read(folder)[1] == ["one", "all"]
    assert read(folder)[1] == ["one", "all"]


def test_links_to_nothing_are_passed_over(folder: Path) -> None:
    (folder / ".#one.yaml").symlink_to("nobody@nowhere")
    first, _ = read(folder)
    assert read(folder) == (first, [])


def test_without_a_home_folder_files_are_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert read(folder)[1] == ["one", "all"]


def test_a_broken_file_is_reported_each_time(folder: Path) -> None:
    read(folder)
    (folder / "one.yaml").write_text("task: [\n")
    for _ in range(2):
        with pytest.raises(yaml.YAMLError):
            read(folder)


@pytest.mark.long
def test_the_index_is_lm_evals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parsed, kept = TaskManager().task_index, TaskManager().task_index
    folders = [Path(load_yaml.__code__.co_filename).parent, TASKS]
    stock = TaskIndex.build.__wrapped__.__wrapped__(folders)  # by functools.wraps, once for each of our patches
    assert entries(parsed) == entries(kept) == entries(stock)


def test_the_tables_are_lm_evals() -> None:
    ours = TaskManager(include_defaults=False, include_path=str(TASKS / "bbh"))
    stock = TaskManager.list_all_tasks.__wrapped__
    for chosen in ({}, {"list_tags": False}, {"list_groups": False, "list_subtasks": False}):
        assert ours.list_all_tasks(**chosen) == stock(ours, **chosen)
