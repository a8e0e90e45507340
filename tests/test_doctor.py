"""`lm-eval-tts doctor` and `python -m lm_eval_ext`: what is plugged in, and how to go on where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.harness import doctor
from tests.commands import run
from tests.shared import ROOT

DOCTOR = (sys.executable, "-c", "from lm_eval_ext.cli import app; app()", "doctor")
RUN = ("run", "--model", "pruned-hf", "--tasks", "tts_chain_short_b8", "--limit", "2", "--log_samples")

VLLM = doctor.CHECKS["engine vllm"]


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


def installed(folder: Path, package: str, version: str, code: str = "") -> Path:
    """A folder for the PYTHONPATH, in which a package, made up, is installed."""
    (folder / f"{package}-{version}.dist-info").mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: {version}\n"
    (folder / f"{package}-{version}.dist-info" / "METADATA").write_text(metadata)
    if code:
        (folder / f"{package}.py").write_text(code)
    return folder


def test_all_is_well_here() -> None:
    done = run(*DOCTOR)
    found = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["hooks"].startswith("✓ on") and found["grader"].startswith("✓ version")
    assert found["model classes"].startswith("✓ pruned-hf, pruned-vllm, tts-server")
    assert "lm-eval 0.4.13" in found["versions"] and "the Hub is off, by HF_HUB_OFFLINE" in found["datasets"]


def test_what_is_off_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Also where an engine ends Python, on a console without Unicode, and without a home."""
    folder = installed(tmp_path, "vllm", "0.32.0", "import os\nos.abort()\n")
    odd: dict[str, Any] = {"PYTHONIOENCODING": "cp1252", "HOME": str(tmp_path / "no"), "XDG_CACHE_HOME": ""}
    done = run(*DOCTOR, PYTHONPATH=str(folder), LM_EVAL_TTS_AUTOLOAD="0", **odd)
    assert done.returncode == 0 and "| ok" in done.stdout, done.stdout + done.stderr
    assert "off, by LM_EVAL_TTS_AUTOLOAD=0" in done.stdout and "python -m lm_eval_ext run" in done.stdout
    assert "lm-eval doesn't see ours" in done.stdout and "missing: pruned-hf" in done.stdout
    assert "vllm 0.32.0: cannot be imported" in done.stdout


@pytest.mark.parametrize(
    ("version", "code", "found"),
    [
        ("0.32.0", "raise ImportError('libcudart.so.13')\n", "vllm 0.32.0: cannot be imported: ImportError: libcudart"),
        ("0.32.0", "import sys\nsys.exit(0)\n", "vllm 0.32.0: cannot be imported: it ends Python with exit code 0"),
        ("0.32.0", "x = 1\n", "vllm 0.32.0"),
        ("0.6.0", "x = 1\n", "vllm 0.6.0: vllm is 0.6.0, not >=0.32"),
    ],
)
def test_an_engine_is_fine_only_if_it_can_be_imported(
    version: str, code: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder := installed(tmp_path, "vllm", version, code))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    one = VLLM()
    assert one.found.startswith(found) and bool(one.todo) == (one.found != "vllm 0.32.0")


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder := installed(tmp_path, "vllm", "0.32.0", "import time\ntime.sleep(600)\n"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(doctor, "_IMPORTING", 1.0)
    assert VLLM().found == "vllm 0.32.0: cannot be imported: no end after 1 seconds"


def test_without_transformers_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed(tmp_path, "transformers", "5.24.0", "raise RuntimeError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    one = doctor.CHECKS["engine hf"]()
    assert one.broken and "RuntimeError: broken" in one.found


def test_a_dependency_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed(tmp_path, "pint", "0.20"))
    assert list(doctor.unmet(doctor.required())) == ["pint is 0.20, not >=0.25"]


def test_a_grader_that_grades_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval_ext.grading.grading.grades", lambda pairs: [])
    one = doctor.grader()
    assert one.broken and "grades wrongly here" in one.todo


def test_where_pth_files_are_not_read(tmp_path: Path) -> None:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    env: dict[str, Any] = {"PYTHONPATH": ":".join([*packages, str(ROOT)])}
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
    pruned = ("--model_args", "prune=shortgpt:1,calibration=task:tts_chain_short")
    done = run(*start, "lm_eval_ext", *RUN, *pruned, "--output_path", tmp_path / "out", **env)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_version_is_shown() -> None:
    said = run(*DOCTOR[:-1], "--version").stdout
    assert said.startswith("lm-eval-tts 0.") and "(lm-eval 0.4.13)" in said
