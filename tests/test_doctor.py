"""`lm-eval-tts doctor` and `python -m lm_eval_ext`: what is plugged in, and how to go on where it is not."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.harness import doctor, machine
from tests.lm_eval_states import lm_eval_at
from tests.shared import ROOT
from tests.test_plugin import run

DOCTOR = (sys.executable, "-c", "from lm_eval_ext.cli import app; app()", "doctor")
RUN = ("run", "--model", "pruned-hf", "--tasks", "tts_chain_short_b8", "--limit", "2", "--log_samples")


def rows(said: str) -> dict[str, str]:
    """The table by what was looked at."""
    found: dict[str, list[str]] = {}
    what = ""
    for line in said.splitlines():
        if line.startswith("│"):
            cells = [cell.strip() for cell in line.split("│")[1:-1]]
            what = cells[1] or what  # a long cell goes on in the next line
            before = found.get(what, ["", "", "", ""])
            found[what] = [f"{one} {more}".strip() for one, more in zip(before, cells, strict=True)]
    return {what: f"{cells[0]} {cells[2]} {cells[3]}" for what, cells in found.items()}


def test_all_is_well_here() -> None:
    done = run(*DOCTOR)
    found = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["hooks"].startswith("✓ on") and found["grader"].startswith("✓ version")
    assert found["model classes"].startswith("✓ pruned-hf, pruned-vllm, tts-server")
    assert "0.4.13" in found["lm-eval"] and found["Hub"].startswith("✓ off, by HF_HUB_OFFLINE")


def test_internals_that_lm_eval_has_moved_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("lm_eval._cli.utils.split_top_level")
    monkeypatch.delattr("lm_eval.utils.env")
    found = next(one for one in doctor.findings() if one.what == "internals")
    lost = "lm_eval._cli.utils.split_top_level (model arguments), lm_eval.utils.env (the filters of our prompts)"
    assert found.found.endswith(f"lacks, and without it doesn't work: {lost}") and found.todo and not found.broken


def test_all_internals_are_looked_at() -> None:
    """What our code imports from lm-eval's `utils` and private modules, and what it replaces."""
    used: set[str] = set()
    for file in (ROOT / "lm_eval_ext").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.ImportFrom(module=str(module), names=names) if module.startswith("lm_eval."):
                    inner = re.search(r"\.(_\w+|utils)\b", module)
                    used |= {f"{module}:{name.name}" for name in names if inner}
                case ast.Call(func=ast.Name("replace"), args=[_, ast.Constant(str(name)), _]) if name != "excepthook":
                    used.add(name)
    known = " ".join(doctor.INTERNALS)
    assert len(used) > 15 and [name for name in sorted(used) if not re.search(rf"\b{name}\b", known)] == []


def test_what_is_off_is_told_with_what_to_do(tmp_path: Path) -> None:
    off: dict[str, Any] = {"LM_EVAL_TTS_AUTOLOAD": "0", "XDG_CACHE_HOME": str(tmp_path)}
    found = rows(run(*DOCTOR, **off).stdout)
    assert found["hooks"].startswith("! off, by LM_EVAL_TTS_AUTOLOAD=0 `python -m lm_eval_ext run")
    assert found["tasks"].startswith("! lm-eval doesn't see ours `python -m lm_eval_ext run")
    assert "missing: pruned-hf" in found["model classes"]
    assert found["journal"].startswith(f"✓ {tmp_path}"[:60])


@pytest.mark.parametrize("state", ["4013", "4015"])
def test_what_later_versions_of_lm_eval_find_by_themselves(state: str, tmp_path: Path) -> None:
    off: dict[str, Any] = {**lm_eval_at(state, tmp_path), "LM_EVAL_TTS_AUTOLOAD": "0"}
    found = rows(run(*DOCTOR, **off).stdout)
    assert found["model classes"].startswith("✓ pruned-hf, pruned-vllm, tts-server")
    assert found["entry points"].endswith("tasks ") == (state == "4015") == found["tasks"].startswith("✓ ")
    assert state == "4015" or f"--include_path {ROOT / 'tasks'}" in found["tasks"]


def installed(folder: Path, package: str, version: str, code: str = "") -> Path:
    """A folder for the PYTHONPATH, in which a package, made up, is installed."""
    (folder / f"{package}-{version}.dist-info").mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: {version}\n"
    (folder / f"{package}-{version}.dist-info" / "METADATA").write_text(metadata)
    if code:
        (folder / f"{package}.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("version", "code", "found"),
    [
        ("0.32.0", "raise ImportError('libcudart.so.13')\n", "vllm 0.32.0 cannot be imported: ImportError: libcudart"),
        ("0.32.0", "import sys\nsys.exit(0)\n", "vllm 0.32.0 cannot be imported: it ends Python with exit code 0"),
        ("0.32.0", "raise BaseException('odd')\n", "vllm 0.32.0 cannot be imported: BaseException: odd"),
        ("0.32.0", "x = 1\n", "vllm 0.32.0"),
        ("0.6.0", "x = 1\n", "vllm is 0.6.0, not >=0.32"),
    ],
)
def test_an_engine_is_fine_only_if_it_can_be_imported(
    version: str, code: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder := installed(tmp_path, "vllm", version, code))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    one = machine.engine_vllm()
    assert one.found.startswith(found) and bool(one.todo) == (code != "x = 1\n" or version == "0.6.0")


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder := installed(tmp_path, "vllm", "0.32.0", "import time\ntime.sleep(600)\n"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(machine, "_IMPORTING", 1.0)
    assert machine.engine_vllm().found == "vllm 0.32.0 cannot be imported: no end after 1 seconds"


def test_an_engine_that_ends_python_does_not_end_this(tmp_path: Path) -> None:
    """Nor does a console without Unicode, and no home."""
    folder = installed(tmp_path, "vllm", "0.32.0", "import os\nos.abort()\n")
    odd: dict[str, Any] = {"PYTHONIOENCODING": "cp1252", "HOME": str(tmp_path / "no"), "XDG_CACHE_HOME": ""}
    done = run(*DOCTOR, PYTHONPATH=str(folder), **odd)
    assert done.returncode == 0 and "| ok" in done.stdout, done.stdout + done.stderr
    assert "vllm 0.32.0 cannot be imported" in done.stdout and "pruned-hf, pruned-vllm" in done.stdout


def test_without_transformers_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed(tmp_path, "transformers", "5.24.0", "raise RuntimeError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    one = machine.engine_hf()
    assert one.broken and "RuntimeError: broken" in one.found


def test_a_dependency_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, "pint", "0.20"))
    assert list(machine.unmet(machine.required())) == ["pint is 0.20, not >=0.25"]


def test_a_wrong_antlr_is_found(tmp_path: Path) -> None:
    done = run(*DOCTOR, PYTHONPATH=str(installed(tmp_path, "antlr4_python3_runtime", "4.12.0")))
    assert done.returncode == 1 and rows(done.stdout)["grader"].startswith("✗"), done.stdout


def test_where_pth_files_are_not_read(tmp_path: Path) -> None:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    env: dict[str, Any] = {"PYTHONPATH": ":".join([*packages, str(ROOT)])}
    said = run(sys.executable, "-S", *DOCTOR[1:], **env).stdout
    assert rows(said)["hooks"].startswith("! off: .pth files are not read here `python -m lm_eval_ext run"), said
    done = run(sys.executable, "-S", "-m", "lm_eval_ext", *RUN, "--output_path", tmp_path, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = tmp_path.rglob("results_*.json")
    assert "tts_chain_short_b8" in json.loads(results.read_text())["results"]


NOT_INSTALLED = """
import runpy, sys
from importlib.metadata import Distribution, PackageNotFoundError

found = Distribution.from_name.__func__

def from_name(cls, name):
    if name == "lm-eval-tts":
        raise PackageNotFoundError(name)
    return found(cls, name)

Distribution.from_name = classmethod(from_name)
sys.argv[0] = sys.argv.pop(1)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def test_a_folder_that_is_not_installed_works(tmp_path: Path) -> None:
    """Only on the PYTHONPATH, without metadata."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    env: dict[str, Any] = {"PYTHONPATH": ":".join([*packages, str(ROOT)])}
    (tmp_path / "start.py").write_text(NOT_INSTALLED)
    start = (sys.executable, "-S", tmp_path / "start.py")
    done = run(*start, "lm_eval_ext.cli", "doctor", **env)
    found = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not installed" in found["Python"] and found["dependencies"].startswith("✓ unknown")
    pruned = ("--model_args", "prune=shortgpt:1,calibration=task:tts_chain_short")
    done = run(*start, "lm_eval_ext", *RUN, *pruned, "--output_path", tmp_path / "out", **env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "not installed" in run(*start, "lm_eval_ext.cli", "--version", **env).stdout


def test_tasks_are_found_by_their_folder() -> None:
    code = "from lm_eval.tasks import TaskManager; m = TaskManager(include_path='tasks', include_defaults=False)"
    listed = run(sys.executable, "-c", f"{code}; print(m.all_tasks)", cwd=ROOT, LM_EVAL_TTS_AUTOLOAD="0").stdout
    assert "'tts_aime24_b1024'" in listed


def test_the_version_is_shown() -> None:
    said = run(*DOCTOR[:-1], "--version").stdout
    assert said.startswith("lm-eval-tts 0.") and "(lm-eval 0.4.13)" in said
