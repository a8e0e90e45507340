"""Fields of task files that lm-eval needs to find and list tasks, kept between runs.

lm-eval has 14,000 task files and parses each at every start, which takes 6 to 9 seconds. Loading a task always reads
its file again, so the kept fields never decide how a task runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.paths import TASKS, cache_folder, write_whole

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry

log = logging.getLogger("lm_eval")

Fields = dict[str, object]

_FIELDS = ("class", "group", "task", "tag", "output_type")  # all that lm-eval's index and its lists use


def with_kept_fields(build: Callable[..., object], paths: Iterable[Path], **options: object) -> object:
    """`TaskIndex.build` that keeps the fields of lm-eval's and our task files."""
    from lm_eval.tasks import _index

    paths, parse = list(paths), _index.load_yaml
    ours = [folder for folder in (Path(_index.__file__).parent, TASKS) if folder in paths]
    with kept_fields(ours, parse) as load:
        _index.load_yaml = load
        try:
            return build(paths, **options)
        finally:
            _index.load_yaml = parse


@contextmanager
def kept_fields(folders: Iterable[Path], parse: Callable[..., Fields]) -> Iterator[Callable[..., Fields]]:
    """A function for use instead of `parse`, lm-eval's `load_yaml`, that keeps the fields of files in these folders."""
    kept = [files for folder in folders if (files := _of_folder(folder)) is not None]

    def load(path: Path, **options: object) -> Fields:
        files = next((files for files in kept if str(path).startswith(files.prefix)), None)
        return files.load(path, partial(parse, path, **options)) if files else parse(path, **options)

    yield load
    for files in kept:
        files.keep()


def _of_folder(folder: Path) -> TaskFiles | None:
    try:
        return TaskFiles(folder)
    except (OSError, RuntimeError) as error:  # it cannot be read, or there is no home folder for the cache
        log.debug("lm-eval-tts: task files are parsed anew: %s", error)
        return None


class TaskFiles:
    """The fields of all task files in a folder. They are parsed again after any file in the folder has changed."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"{folder}{os.sep}"
        self._stamp = _stamp(folder)
        self._cache = cache_folder() / "tasks" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.json"
        self._fields = self._kept()
        self._complete = bool(self._fields)

    def _kept(self) -> dict[str, Fields]:
        try:
            kept = json.loads(self._cache.read_text("utf-8"))
            return dict(kept["fields"]) if kept["stamp"] == self._stamp else {}
        except (OSError, ValueError, TypeError, KeyError):  # not there yet, or damaged
            return {}

    def load(self, path: Path, parse: Callable[[], Fields]) -> Fields:
        """The fields of one file; `parse` reads it if they are not kept."""
        name = str(path)
        if name not in self._fields:
            config = parse()
            self._fields[name] = {field: config[field] for field in _FIELDS if field in config}
            if not isinstance(config.get("task"), str):
                self._fields[name].pop("task", None)  # the members of a group: long, and not used
            self._complete = False
        return dict(self._fields[name])

    def keep(self) -> None:
        """Write what was parsed to the cache, if it can be written."""
        if self._complete:
            return
        try:
            content = {"stamp": self._stamp, "fields": self._fields}
            write_whole(self._cache, json.dumps(content, default=str))
        except OSError as error:
            log.debug("lm-eval-tts: the list of task files was not kept: %s", error)


def _stamp(folder: Path) -> str:
    """A hash of the path, size and time of change of each file, including those that task files include."""
    digest = hashlib.sha256(repr(_FIELDS).encode())
    for file in sorted(_files(str(folder))):
        digest.update(repr(file).encode())
    return digest.hexdigest()


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            elif (stat := _stat(entry)) is not None:
                yield entry.path, stat.st_mtime_ns, stat.st_size


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a link to nothing, or a file that was deleted just now
        return None


def tables_of_tasks(
    manager: TaskManager, list_groups: bool = True, list_tags: bool = True, list_subtasks: bool = True
) -> str:
    """Tables of all groups, tags and tasks, with the text that `TaskManager.list_all_tasks` returns."""
    index = manager.task_index
    tables = []
    if list_groups:
        rows = [(name, _location(index[name])) for name in manager.all_groups]
        tables.append(_table(("Group", "Config Location"), rows))
    if list_tags:
        tables.append(_table(("Tag",), [(name,) for name in manager.all_tags]))
    if list_subtasks:
        tasks = [(name, _location(index[name]), _output_type(index[name])) for name in manager.all_subtasks]
        tables.append(_table(("Task", "Config Location", "Output Type"), tasks))
    return "\n" + "".join(f"{table}\n\n" for table in tables)


def _location(entry: Entry) -> str:
    below = str(entry.yaml_path or "---").split("lm_eval/tasks/")
    return below[0] if len(below) == 1 else f"lm_eval/tasks/{below[-1]}"


def _output_type(entry: Entry) -> str:
    return str((entry.cfg or {}).get("output_type", "")) if entry.yaml_path else ""


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table as lm-eval prints it: centered headers, left-aligned cells."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(headers, *rows, strict=True)]
    lines = [[f"{header:^{width}}" for header, width in zip(headers, widths, strict=True)]]
    lines.append(["-" * width for width in widths])
    lines += [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "".join(f"|{'|'.join(line)}|\n" for line in lines)
