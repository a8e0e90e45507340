"""How the package shows up in stock lm-eval, from the outside: each case is a process of its own."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from lm_eval_ext.errors import TaskError
from lm_eval_ext.harness.patches import report_our_errors_in_one_line
from tests.commands import LM_EVAL, run
from tests.shared import ROOT


def test_no_module_needs_unix_to_be_imported() -> None:
    """Modules that Windows doesn't have are imported where they are used, not at the top of a file."""
    unix = {"fcntl", "grp", "pwd", "resource", "termios"}
    files = sorted((ROOT / "lm_eval_ext").rglob("*.py"))
    at_the_top = {
        f"{file.name}: {name.name}"
        for file in files
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.Import)
        for name in node.names
        if name.name in unix
    }
    assert len(files) > 100 and at_the_top == set()


def test_tasks_are_listed() -> None:
    listed = run(LM_EVAL, "ls", "tasks").stdout
    assert all(f"|{name} " in listed for name in ("tts", "tts_math", "tts_aime24_b512", "tts_gpqa_diamond_maj8"))


def test_the_model_is_known() -> None:
    shown = run(LM_EVAL, "--model", "nonsense", "--tasks", "tts_sums").stderr
    assert re.search(r"Supported model names: .*\bpruned-hf\b", shown)
    assert "huggingface" in shown, "lm-eval's own models are still there"


def test_listing_tasks_does_not_import_torch() -> None:
    code = (
        "import sys; from lm_eval.tasks import TaskManager; TaskManager(); print('lm_eval_ext.models' in sys.modules)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "False"


def test_the_command_line_does_not_import_torch() -> None:
    heavy = "('torch', 'transformers', 'lm_eval')"
    code = f"import sys, lm_eval_ext.cli; print([name for name in {heavy} if name in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_the_log_says_what_matters_once(tmp_path: Path) -> None:
    """And nothing of other libraries."""
    given = ("--model", "pruned-hf", "--limit", "1", "--model_args", "journal=off")
    said = run(LM_EVAL, *given, "--tasks", "tts_sums,tts_chain_b8", cwd=tmp_path).stderr
    assert "Running generate_until" in said
    assert not [noise for noise in ("Failed to load", "Enum subclass", "Custom kwargs") if noise in said]
    (warning,) = [line for line in said.splitlines() if "mean nothing" in line]
    assert (
        "tiny-chain, the embedded model, only computes chains of sums: its scores on tts_sums mean nothing" in warning
    )
    assert "give pretrained=MODEL, or try --tasks tts_mini" in warning


def test_registering_twice_changes_nothing() -> None:
    code = (
        "from lm_eval_ext.harness import plugin\n"
        "import lm_eval.tasks.manager as m, lm_eval.models\n"
        "before = len(m.TaskManager().all_tasks)\n"
        "plugin.register_tasks(); plugin.register_models()\n"
        "assert len(m.TaskManager().all_tasks) == before\n"
        "assert m.TaskManager(include_defaults=False).all_tasks == []\n"
    )
    done = run(sys.executable, "-W", "error::UserWarning", "-c", code)
    assert (done.returncode, "overrides" in done.stderr) == (0, False), done.stderr


def test_a_broken_plugin_does_not_break_lm_eval() -> None:
    code = "import sys; sys.modules['lm_eval_ext.harness.plugin'] = None; import lm_eval.tasks.manager"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "lm-eval-tts could not register itself: " in done.stderr


def test_a_module_that_lm_eval_lacks_is_missing_as_before(tmp_path: Path) -> None:
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "__init__.py").touch()
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import lm_eval.models"
    done = run(sys.executable, "-c", code)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'lm_eval.models'"


def test_a_users_task_of_the_same_name_wins(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: tts_sums\ndataset_path: mine\n")
    code = (
        "import sys; from lm_eval.tasks import TaskManager\n"
        "print(TaskManager(include_path=sys.argv[1]).task_index['tts_sums'].yaml_path)"
    )
    assert run(sys.executable, "-c", code, tmp_path).stdout.strip() == str(tmp_path / "mine.yaml")


def test_the_interpreter_starts_as_before() -> None:
    """Nothing of ours is imported but the two files that wait for lm-eval."""
    code = "import sys; print(sorted(name for name in sys.modules if 'lm_eval' in name))"
    assert run(sys.executable, "-c", code).stdout.strip() == "['lm_eval_ext', 'lm_eval_ext._autoload']"


def test_a_wrong_argument_is_one_line(tiny_model: Path) -> None:
    arguments = ["--model_args", f"pretrained={tiny_model},drop_layers=[6]"]
    done = run(LM_EVAL, "--model", "pruned-hf", *arguments, "--tasks", "tts_sums", "--limit", "1")
    expected = "lm-eval-tts: drop_layers=6: layer 6 does not exist; the model has layers 0-5"
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, expected)
    assert "Traceback" not in done.stderr


def test_a_misspelt_task_is_one_line() -> None:
    done = run(LM_EVAL, "--model", "pruned-hf", "--tasks", "tts_mini,tts_mathh_b4096")
    expected = "lm-eval-tts: unknown task 'tts_mathh_b4096'; did you mean tts_math500_b4096?"
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, expected)
    assert "Traceback" not in done.stderr


def test_a_misspelt_argument_is_named_before_the_model_is_looked_for() -> None:
    arguments = ["--model_args", "pretrained=no/such-model,drop_layrs=3"]
    done = run(LM_EVAL, "--model", "pruned-hf", *arguments, "--tasks", "tts_mini", HF_HUB_OFFLINE="1")
    named, missing = (done.stderr.find(words) for words in ("did you mean", "pretrained=no/such-model: "))
    assert done.returncode == 1 and -1 < named < missing, done.stderr


def test_a_traceback_is_shown_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: shown.append(str(error)))
    report_our_errors_in_one_line()
    sys.excepthook(TaskError, TaskError("hidden"), None)
    monkeypatch.setenv("LM_EVAL_TTS_TRACEBACK", "1")
    sys.excepthook(TaskError, TaskError("asked for"), None)
    assert shown == ["asked for"]


def test_a_dataset_out_of_reach_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    model = ["--model", "pruned-hf", "--model_args", f"pretrained={tiny_model}"]
    done = run(LM_EVAL, *model, "--tasks", "tts_aime24_b512", cwd=tmp_path, HF_HOME=str(tmp_path / "empty"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.match(
        r"lm-eval-tts: task tts_aime24_b512: dataset Maxwell-Jia/AIME_2024 cannot be reached \(.*\); ", last
    )
    assert "./Maxwell-Jia/AIME_2024" in last and "HF_HUB_OFFLINE=1" in last
