"""`tasks check` on what a stranger sends: nothing of it is run, and each file gets one clear line."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.authoring.task_file import TaskFinding
from lm_eval_ext.cli.tasks import checked
from lm_eval_ext.paths import TASKS
from tests.commands import cli
from tests.shared import case_table
from tests.test_authoring import GOOD, write_questions

REACHING = "cycler.__init__.__globals__.os.system('touch CANARY')"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, one in zip("abcdefghi", "bcdefghij", strict=True)
)  # fmt: skip
TEXT = "{{problem}}"
TARGET = "doc_to_target: answer"

HOSTILE = case_table("wrong_tasks.yaml")["hostile"] | {
    "anchors": (GOOD, GOOD + BOMB, "yaml", "anchors"),
    "circle": (GOOD, GOOD + "tag: &a [*a]\n", "yaml", "anchors"),
    "huge": (GOOD, GOOD + "# " + "x" * 1_100_000 + "\n", "yaml", "is larger"),
    "deep": (GOOD, GOOD + "tag: " + "[" * 5_000 + "]" * 5_000 + "\n", "yaml", "cannot be read"),
}


class Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[TaskFinding]]:
    """What one check of all of them finds, by file; nothing of them is run."""
    root = tmp_path_factory.mktemp("hostile")
    folder, canary = root / "tasks" / "evil", root / "canary"
    folder.mkdir(parents=True)
    shutil.copy(TASKS / "_math", folder.parent / "_math")
    write_questions(folder / "questions.jsonl")
    for name in ("evil", "loader"):
        (folder / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n", "utf-8")
    (folder / "questions.pkl").write_bytes(pickle.dumps(Evil(canary)))
    for name, (old, new, *_) in HOSTILE.items():
        content = GOOD.replace(old, new) if old != GOOD else new
        content = content.replace("include: _math\n", "include: ../_math\n").replace("NAME", name)
        content = content.replace("FOLDER", str(folder)).replace("CANARY", str(canary))
        (folder / f"tts_{name}.yaml").write_text(content, "utf-8")
    found: dict[str, list[TaskFinding]] = {name: [] for name in HOSTILE}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for one in checked([folder], data=True):
            found[one.path.stem.removeprefix("tts_")].append(one)
    assert not canary.exists(), "something was run"
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_one_line_says_what_is_wrong(name: str, findings: dict[str, list[TaskFinding]]) -> None:
    _, _, rule, text = HOSTILE[name]
    (found,) = [finding for finding in findings[name] if not finding.warning]
    assert found.rule == rule and text in found.text and "\n" not in str(found)
    assert found.line > (0 if rule != "yaml" else -1)
    assert "root:" not in found.text, "what a file holds that it should not reach is not shown"


def test_sync_reads_and_runs_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    folder = tmp_path / "evil"
    folder.mkdir()
    shutil.copy(TASKS / "_math", tmp_path / "_math")
    text = GOOD.replace("NAME", "evil").replace("include: _math", "include: ../_math").replace("FOLDER", str(folder))
    hostile = text.replace(TEXT, f"{{{{{REACHING}}}}}".replace("CANARY", str(canary)))
    (folder / "tts_evil.yaml").write_text(hostile + "  variants: {budgets: [8]}\n", "utf-8")
    cli("tasks", "sync", tmp_path)
    assert not canary.exists()


def test_who_trusts_a_file_has_it_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tasks" / "own"
    folder.mkdir(parents=True)
    shutil.copy(TASKS / "_math", folder.parent / "_math")
    write_questions(folder / "questions.jsonl")
    (folder / "own_functions.py").write_text("def same(docs):\n    return docs\n", "utf-8")
    text = GOOD.replace("NAME", "own").replace("include: _math", "include: ../_math").replace("FOLDER", str(folder))
    text = text.replace("test_split: test\n", "test_split: test\nprocess_docs: !function own_functions.same\n")
    path = folder / "tts_own.yaml"
    path.write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    refused = cli("tasks", "check", path, "--json")
    assert refused.exit_code == 1 and "--trust" in json.loads(refused.output)[0]["text"]
    assert cli("tasks", "check", path, "--trust").exit_code == 0


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("faulty_functions.refuse", "faulty_functions.refuse fails (ValueError: no such question)"),
        ("faulty_functions.absent", "faulty_functions.absent cannot be imported"),
        ("no_such_module.same", "no_such_module.same cannot be imported"),
        ("same", "same cannot be imported; expected !function package.module.name"),
    ],
)
def test_a_trusted_function_that_fails_is_one_finding(
    named: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(TASKS / "_math", tmp_path / "_math")
    write_questions(tmp_path / "questions.jsonl")
    code = "def refuse(docs):\n    raise ValueError('no such\\nquestion')\n"
    (tmp_path / "faulty_functions.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    text = GOOD.replace("NAME", "own").replace("FOLDER", str(tmp_path))
    text = text.replace("test_split: test\n", f"test_split: test\nprocess_docs: !function {named}\n")
    (tmp_path / "tts_own.yaml").write_text(text, "utf-8")
    (found,) = checked([tmp_path], data=True, trust=True)
    assert (found.line, found.rule) == (6, "function") and message in found.text
