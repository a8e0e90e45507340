"""Manifests of sweeps, and the runs that they amount to."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_eval_ext.authoring.task_registry import Tasks
from lm_eval_ext.errors import ManifestError
from lm_eval_ext.harness.arguments import parse_model_args
from lm_eval_ext.redaction import mapping
from lm_eval_ext.sweep.launchers import LocalLauncher, slots
from lm_eval_ext.sweep.locks import hold, is_held, locked
from lm_eval_ext.sweep.manifest import Local
from lm_eval_ext.sweep.one import ATTEMPT, Work, do, progress, work_of
from lm_eval_ext.sweep.sources import Found, Study, model_args
from tests.commands import LM_EVAL, cli, run
from tests.shared import ROOT, case_table, results_in

GOOD: dict[str, Any] = {
    "output": "out", "models": {"tiny": "tiny-chain"}, "tasks": ["chain"], "budgets": [8, 128], "seeds": [0, 1],
    "pruning": [{"method": "shortgpt", "remove": [0, 1, 2], "calibration": "task:tts_chain_short"}],
}  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return path


def names(folder: Path, **changes: Any) -> list[str]:
    return [one.name for one in Study(written(folder, **changes)).runs]


def test_every_model_pruning_and_seed_is_one_run_of_all_tasks(tmp_path: Path) -> None:
    study = Study(written(tmp_path))
    assert [one.name for one in study.runs] == [
        f"tiny-{what}-s{seed}" for what in ("dense", "shortgpt-1", "shortgpt-2") for seed in (0, 1)
    ]
    assert {one.tasks for one in study.runs} == {("tts_chain_b8", "tts_chain_b128")}
    assert [(one.name, one.counts) for one in study.stages] == [("tiny-shortgpt", (1, 2))], "scored once for all depths"


def test_the_paper_is_sixty_runs_and_twenty_of_knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("sweep", "new", "paper", "--like", "2510.22228")
    assert done.exit_code == 0, done.output
    done = cli("sweep", "run", "paper.yaml", "--dry-run")
    commands = [shlex.split(line) for line in done.output.splitlines()]
    assert len(commands) == 80 and len({" ".join(command) for command in commands}) == 80
    reasoning = [command for command in commands if "--seed" in command]
    knowledge = [command for command in commands if "tts_knowledge" in command]
    assert len(reasoning) == 60 and len(knowledge) == 20 and not any("--gen_kwargs" in command for command in knowledge)
    assert all(command[0] == "lm_eval" and "tts_aime24_b8192" in " ".join(command) for command in reasoning)
    assert not (tmp_path / "results").exists(), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("paper", "runs", "words"),
    [
        ("2604.25098", 2 * (1 + 3 + 4) * 3, ["prune=wanda:20%:allocation=owl", "tts_amc23_b8192", "calibration=c4"]),
        ("2509.12464", (1 + 4) * 3, ["prune=sparsegpt:50%", "runs/r1-7b-dense-s0", "tts_math500"]),
    ],
)
def test_studies_of_weights_are_written(
    paper: str, runs: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("sweep", "new", "paper", "--like", paper).exit_code == 0
    done = cli("sweep", "run", "paper.yaml", "--dry-run")
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == runs
    said = done.output.replace('": "', "=").replace('"', "")
    assert all(word in said for word in words), said.splitlines()[-1]


def test_runs_that_are_not_wanted_are_left_out(tmp_path: Path) -> None:
    found = names(tmp_path, exclude=[{"remove": 2, "seed": 1}, {"method": "shortgpt", "remove": 1}])
    assert found == ["tiny-dense-s0", "tiny-dense-s1", "tiny-shortgpt-2-s0"]
    with pytest.raises(ManifestError, match="exclude: nothing is left to run"):
        names(tmp_path, exclude=[{"model": "tiny"}])
    with pytest.raises(
        ManifestError, match=r"exclude.0: no run has model=tinny; there are model: tiny; method: dense, "
    ):
        names(tmp_path, exclude=[{"model": "tinny"}])
    by_hand = [{"remove": [0]}, {"drop_layers": [3]}, {"method": "reverse", "remove": [1, 20]}]
    assert names(tmp_path, seeds=[0], pruning=by_hand, exclude=[{"remove": 0}, {"remove": 20}]) == [
        "tiny-drop3-s0", "tiny-reverse-1-s0",
    ], "layers given by hand are not a number of layers"  # fmt: skip
    assert Study(tmp_path / "study.yaml").stages[0].counts == (1,), "a depth that is left out is not chosen"


def test_models_are_made_smaller_in_every_way(tmp_path: Path) -> None:
    found = names(
        tmp_path, seeds=[3], models={"a": "tiny-chain", "b": {"pretrained": "tiny-chain", "quantize": "quanto:int8"}},
        pruning=[
            {"remove": [0]}, {"drop_layers": [3, 4]}, {"drop_attention": 8, "drop_mlp": "1-2"},
            {"drop_experts": {0: "3+7", "1-2": [1]}},
            {"recipe": "tiny-chain-mlp-1"}, {"method": "random", "remove": [1], "parameters": {"seed": 7}},
            {"method": "shortgpt", "remove": [1], "calibration": "embedded"},
            {"method": "shortgpt", "remove": [1], "calibration": "task:tts_chain_short"},
        ],
    )  # fmt: skip
    assert found[:8] == [
        "a-dense-s3", "a-drop3-4-s3", "a-drop_attention8-drop_mlp1-2-s3", "a-experts4-98c819-s3",
        "a-tiny-chain-mlp-1-s3", "a-random-1-s3", "a-shortgpt-embedded-1-s3", "a-shortgpt-task-tts_chain_short-1-s3",
    ]  # fmt: skip
    assert len(Study(tmp_path / "study.yaml").stages) == 3, "one for each choice, not for each name of a model"
    assert [one.replace("a-", "b-", 1) for one in found[:8]] == found[8:]


def test_shares_of_experts_and_weights_are_planned(tmp_path: Path) -> None:
    found = names(
        tmp_path, seeds=[0], models={"m": "tiny-moe-chain"},
        pruning=[
            {"method": "reap", "remove": [0, 2, "25%"]},
            {"method": "wanda", "remove": ["20%", "2of4"], "calibration": "traces"},
        ],
    )  # fmt: skip
    assert found == ["m-dense-s0", "m-reap-2-s0", "m-reap-25pct-s0", "m-wanda-20pct-s0", "m-wanda-2of4-s0"]
    reap, wanda = Study(tmp_path / "study.yaml").stages
    assert reap.recipe("25%") == "tiny-moe-chain-reap-25pct.yaml" and reap.traces == ""
    assert wanda.traces == "m-dense-s0" and wanda.counts == ("20%", "2of4")
    assert names(tmp_path, seeds=[0], exclude=[{"remove": "20%"}], pruning=[
        {"method": "wanda", "remove": [0, "20%", "2of4"], "calibration": "task:tts_chain"},
    ]) == ["tiny-dense-s0", "tiny-wanda-2of4-s0"]  # fmt: skip


WRONG_MANIFESTS = case_table("wrong_manifests.yaml")
WRONG = [("status", *row) for row in WRONG_MANIFESTS["sweeps"]]
WRONG += [("run", *row) for row in WRONG_MANIFESTS["names in sweeps"]]


@pytest.mark.parametrize(("command", "change", "said"), WRONG)
def test_a_wrong_manifest_is_one_line_before_anything_runs(
    command: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    done = cli("sweep", command, written(tmp_path, **change))
    assert done.exit_code == 1 and said in done.stderr, done.stderr
    assert done.stderr.startswith("lm-eval-tts: ") and done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    done = cli("sweep", "run", tmp_path / "none.yaml")
    assert done.exit_code == 1 and "none.yaml: cannot be read (No such file or directory)" in done.stderr


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = cli("sweep", "run", written(tmp_path), "--only", "tinny")
    assert done.exit_code == 1 and "--only tinny: expected one of: tiny" in done.stderr


def test_a_printed_command_works_by_itself(tmp_path: Path) -> None:
    path = written(tmp_path, limit=2, seeds=[4], budgets=[8], gen_kwargs={"temperature": 0.7})
    done = cli("sweep", "run", path, "--dry-run")
    line = next(line for line in done.output.splitlines() if "shortgpt:2" in line)
    assert f"--output_path {tmp_path}/out" in line, "from any folder"
    ended = run(LM_EVAL, *shlex.split(line)[1:])
    assert ended.returncode == 0, ended.stderr[-2000:]
    content = results_in(tmp_path / "out")
    assert len(content["config"]["model_args"]) and content["config"]["gen_kwargs"] == {"temperature": 0.7}


def test_a_manifest_to_start_from_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("sweep", "new", "mine").exit_code == 0
    assert len(Study(tmp_path / "mine.yaml").runs) == 5 and "results/mine" in (tmp_path / "mine.yaml").read_text()
    done = cli("sweep", "new", "mine")
    assert done.exit_code == 1 and "mine.yaml: exists already; choose another name" in done.stderr
    done = cli("sweep", "new", "my study")
    assert done.exit_code == 1 and "a manifest's file name has letters, digits" in done.stderr
    done = cli("sweep", "new", "there/mine")
    assert done.exit_code == 1 and "there/mine.yaml: folder there does not exist" in done.stderr
    done = cli("sweep", "new", "other", "--like", "none")
    assert done.exit_code == 1 and "--like none: expected one of: 2509.12464, 2510.22228, 2604.25098" in done.stderr


@pytest.mark.parametrize(("name", "runs"), [("tiny-study", 26), ("tiny-moe-study", 38), ("paper-2510.22228", 80)])
def test_the_examples_are_sound(name: str, runs: int) -> None:
    assert len(Study(ROOT / "examples" / f"{name}.yaml", keep=False).runs) == runs


def test_what_a_study_costs(tmp_path: Path) -> None:
    path = written(tmp_path, limit=5, seeds=[0])
    done = cli("sweep", "plan", path, "--speed", "1")
    assert done.exit_code == 0, done.output
    sentences = done.output.splitlines()[-1]
    most = 5 * 3 * (128 + 2 * 16)  # questions, samples, and a trace with two answers
    assert (
        f"3 runs: at most {3 * most:,} tokens" in sentences
        and f"{3 * most / 3600:.1f} GPU hours at 1 tokens/s" in sentences
    )
    (row,) = [line for line in done.output.splitlines() if "tiny-dense-s0" in line]
    assert f"{most:,}" in row and f"{5 * 3 * (8 + 128 + 2 * 16):,}" in row and "220,192" in row
    assert f"{3 * most / 3600 / 3:.2f}" in row and f"{2 * 220192 * most:.1e}" in row, "hours and FLOPs of each run"
    both = cli("sweep", "plan", path, "--gpu", "h100", "--speed", "5")
    assert both.exit_code == 1 and "--speed and --gpu: give one of them" in both.stderr
    voting = cli("sweep", "plan", written(tmp_path, limit=5, seeds=[0], votes=[8]))
    assert f"at most {3 * 5 * (8 * 272 + 3 * 2 * 16):,} tokens" in voting.output, "votes share the traces of budgets"
    longer = written(tmp_path, limit=5, seeds=[0], budgets=[8], gen_kwargs={"answer_token_budget": 40})
    assert f"at most {3 * 5 * 3 * (8 + 40):,} tokens" in cli("sweep", "plan", longer).output
    other = written(tmp_path, limit=5, seeds=[0], budgets=[24])  # of which there is no file
    assert f"at most {3 * 5 * 3 * (24 + 16):,} tokens" in cli("sweep", "plan", other).output
    done = cli("sweep", "plan", path, "--gpu", "abacus")
    assert done.exit_code == 1 and "--gpu abacus: expected one of: a100, h100" in done.stderr


def test_each_gpu_is_a_place_for_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pairs = slots(Local(gpus=(0, 1, 2, 3, 5), gpus_per_run=2), None)
    assert [slot.gpus for slot in pairs] == [("0", "1"), ("2", "3")] and len(slots(Local(gpus=(0, 1)), 1)) == 1
    assert [slot.gpus for slot in slots(Local(), 3)] == [(), (), ()], "without GPUs, as many as are asked for"
    other = slots(Local(gpus=(1,)), None)[0]
    assert pairs[0].take() and not other.take() and pairs[1].take(), "another sweep uses this one"
    pairs[0].release()
    assert other.take()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7f")
    assert [slot.gpus for slot in slots(Local(), None)] == [("4",), ("GPU-7f",)]
    with pytest.raises(ManifestError, match="gpus_per_run=3: this machine has 2 GPUs"):
        slots(Local(gpus_per_run=3), None)


def test_a_run_sees_its_gpus_alone_and_several_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("lm_eval_ext.sweep.launchers._PAUSE", 0.01)
    seen: list[str] = []
    together: list[int] = []
    running: list[object] = []
    said: list[str] = []

    class Process:
        """A run that is over at the third look."""

        def __init__(self, words: list[str], env: dict[str, str], **_: object) -> None:
            seen.append(env["CUDA_VISIBLE_DEVICES"])
            self.looks = 0
            running.append(self)

        def poll(self) -> int | None:
            together.append(len(running))
            self.looks += 1
            if self.looks < 3:
                return None
            running.remove(self)
            return 0

    monkeypatch.setattr("subprocess.Popen", Process)
    monkeypatch.setattr(
        Study, "found", lambda _, item: Found("done" if f"{item.name}: started" in " ".join(said) else "waiting", {})
    )
    study = Study(written(tmp_path, pruning=[], seeds=[0, 1, 2, 3]), keep=False)
    assert LocalLauncher(study, slots(Local(gpus=(4, 5, 6, 7), gpus_per_run=2), None), said.append).run(study.runs)
    assert sorted(set(seen)) == ["4,5", "6,7"] and len(seen) == 4 and max(together) == 2
    assert "tiny-dense-s0: started on GPU 4, 5" in said and said[-1] == "4 of 4 runs are done"


def test_a_run_on_ray_is_the_same_run(tmp_path: Path) -> None:
    study = Study(written(tmp_path, seeds=[0], pruning=[]), keep=False)
    plain, on_ray = (work_of(study, study.runs[0], extra) for extra in ([], ["ray_address=auto"]))
    assert plain.folder == on_ray.folder and "ray_address=auto" in " ".join(on_ray.command)


def test_what_ends_well_without_results_has_failed(tmp_path: Path) -> None:
    work = Work(tmp_path / "run", [sys.executable, "-c", "print('nothing')"], lambda: False)
    assert do(work) == 1
    assert "it ended well, but has written nothing" in (tmp_path / "run" / "failed.json").read_text()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL, as the system does when memory runs out ("),
        ("raise SystemExit('no such model')", "no such model ("),
        ("print('why'); print('  5%|#  | 3/60 [00:01<00:20,  2.9it/s]'); raise SystemExit(2)", "why ("),
        ("raise SystemExit(3)", "it said nothing ("),
    ],
)
def test_why_it_failed_is_of_the_last_attempt(program: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text(f"{ATTEMPT}2026-01-01T00:00:00Z\nan older reason\n")
    do(Work(tmp_path / "run", [sys.executable, "-c", program], lambda: False))
    said = json.loads((tmp_path / "run" / "failed.json").read_text())["why"]
    assert said == f"{why}{tmp_path}/run/log.txt)"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("", ("", "", "")),
        ("  0%|   | 0/200 [00:00<?, ?it/s]\r100%|███| 200/200 [00:00<00:00, 2178.86it/s]", ("", "", "")),
        (
            "Thinking:  12%|█▏  | 72/600 [00:12<01:20,  6.5it/s, 1234 tokens/s, 2 of 2 replicas]\nwarning: 5% | 1",
            ("72/600", "1234", "01:20"),
        ),
        ("Loading weights: 100%|█| 134/134 [00:00<00:00, 9.1it/s]", ("", "", "")),
        ("Running loglikelihood requests:   5%|▌ | 10/200 [1:00:03<11:01:00,  3.1s/it]", ("10/200", "", "11:01:00")),
    ],
)
def test_how_far_a_run_is_stands_in_its_log(said: str, found: tuple[str, str, str], tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(f"Thinking: 99%|█| 9/9 [0<9, 1it/s]\n{ATTEMPT}now\n{said}", "utf-8")
    assert progress(tmp_path / "log.txt") == found


def test_the_schema_knows_what_manifests_say() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((ROOT / "lm_eval_ext" / "sweep" / "schema.json").read_text())
    shipped = [ROOT / "examples" / f"{name}.yaml" for name in ("tiny-study", "paper-2510.22228")]
    for path in [*shipped, *(ROOT / "lm_eval_ext" / "sweep" / "manifests").glob("*.yaml")]:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    for broken in ({**GOOD, "ouput": "x"}, {**GOOD, "seeds": ["one"]}, {**GOOD, "models": ["a"]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


@pytest.mark.parametrize("value", ["a,b", "a=b", "01", "1e5", "None", "true", "a[0]", 'a"b', "", "-5", {"x": {"y": 1}}])
def test_model_arguments_are_read_as_they_were_written(value: object) -> None:
    text = model_args({"pretrained": "folder/with space", "s": value, "n": 3, "drop_layers": [1, 2]})
    read = json.loads(text) if text.startswith("{") else parse_model_args(text)
    assert read["s"] == value and type(read["s"]) is type(value) and read["n"] == 3
    assert read["pretrained"] == "folder/with space"


def test_mappings_in_model_arguments_are_given_whole() -> None:
    assert model_args({"pretrained": "a", "drop_layers": [1, 2], "seed": None}) == "pretrained=a,drop_layers=[1,2]"
    given = {"pretrained": "a", "hf_overrides": {"rope": {"theta": 5, "kind": "x"}}, "journal": Path("j")}
    assert json.loads(model_args(given)) == {**given, "journal": "j"}


def test_a_study_may_ask_for_any_budget(tmp_path: Path) -> None:
    done = cli("sweep", "run", written(tmp_path, budgets=[24], seeds=[0]), "--dry-run")
    assert done.exit_code == 0 and "tts_chain_b24" in done.output, done.output
    fields = Tasks().fields("tts_chain_b24")
    assert fields is not None and fields["task"] == "tts_chain_b24"
    assert mapping(fields["generation_kwargs"])["thinking_token_budget"] == 24
    assert Tasks().members("tts_chain_b8_b3") == Tasks().members("tts_chain_b0") == []


# Locks: one holder, kept by what it starts, seen by those who may only read -------------------------------------------


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    assert not is_held(path) and not path.parent.exists(), "looking makes nothing"
    descriptor = hold(path)
    assert descriptor is not None and is_held(path) and hold(path) is None
    os.close(descriptor)
    assert not is_held(path)


def test_a_lock_is_passed_on_where_input_output_and_errors_are_closed(tmp_path: Path) -> None:
    """As of some daemons: then a lock would take one of their numbers, and what is started has others there."""
    path = tmp_path / "lock"
    script = (
        "import os, subprocess as s; from pathlib import Path; from lm_eval_ext.sweep.locks import hold; "
        f"lock = hold(Path({str(path)!r})); os.set_inheritable(lock, True); "
        "s.Popen(['sleep', '30'], stdin=s.DEVNULL, stdout=s.DEVNULL, stderr=s.DEVNULL, close_fds=False, "
        f"preexec_fn=lambda: Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())))"
    )
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script], check=True, timeout=60)
    assert is_held(path)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_was_started_keeps_it(tmp_path: Path) -> None:
    descriptor = hold(tmp_path / "lock")
    assert descriptor is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    os.close(descriptor)
    assert is_held(tmp_path / "lock")
    child.communicate(b"\n")
    assert not is_held(tmp_path / "lock")


def test_looking_at_a_lock_does_not_keep_others_from_it(tmp_path: Path) -> None:
    path, done = tmp_path / "lock", threading.Event()
    path.touch()
    looking = threading.Thread(target=lambda: [is_held(path) for _ in iter(done.is_set, True)])
    looking.start()
    try:
        for _ in range(200):
            descriptor = hold(path, 5.0)
            assert descriptor is not None
            os.close(descriptor)
    finally:
        done.set()
        looking.join()


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ManifestError, match=r"lock: its file system has no locks \(No locks available\)"):
        hold(tmp_path / "lock")


def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert hold(tmp_path / "lock", 0.2) is None
    assert not is_held(tmp_path / "lock")
