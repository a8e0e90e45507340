from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lm_eval_ext.errors import JournalError
from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.journal import Journal, JournaledEngine, default_journal
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from tests.commands import LM_EVAL, Started, cli, started
from tests.scripted import ScriptedEngine

JOB = Job((1, 2, 3), 5, Stop(frozenset({9})), Sampling(1.0), seed=7)


def journaled(engine: Engine, journal: Journal) -> JournaledEngine:
    return JournaledEngine(lambda: engine, journal, "m", str)


def limited(job: Job, max_tokens: int) -> Job:
    return Job(job.ids, max_tokens, job.stop, job.sampling, job.seed)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "deep" / "journal.sqlite")


def test_what_is_kept_is_found(journal: Journal) -> None:
    assert journal.find("m", JOB) is None
    journal.keep("m", JOB, Completion((4, 5, 9), "stop"), "text")
    assert journal.find("m", JOB) == Completion((4, 5, 9), "stop")
    assert Journal(journal.path).find("m", JOB) == Completion((4, 5, 9), "stop"), "on opening it again"


@pytest.mark.parametrize(
    "other",
    [
        Job((1, 2), 5, JOB.stop, JOB.sampling, 7),
        Job(JOB.ids, 5, Stop(frozenset({8})), JOB.sampling, 7),
        Job(JOB.ids, 5, JOB.stop, Sampling(0.9), 7),
        Job(JOB.ids, 5, JOB.stop, JOB.sampling, 8),
    ],
)
def test_nothing_else_is(journal: Journal, other: Job) -> None:
    journal.keep("m", JOB, Completion((4, 5, 9), "stop"), "text")
    assert journal.find("m", other) is None
    assert journal.find("another model", JOB) is None


def test_a_limit_cuts_a_longer_completion_and_misses_a_shorter(journal: Journal) -> None:
    journal.keep("m", JOB, Completion((4, 5, 6, 7, 8), "length"), "text")
    assert journal.find("m", limited(JOB, 3)) == Completion((4, 5, 6), "length")
    assert journal.find("m", limited(JOB, 5)) == Completion((4, 5, 6, 7, 8), "length")
    assert journal.find("m", limited(JOB, 6)) is None
    journal.keep("m", limited(JOB, 9), Completion((4, 5, 6, 7, 8, 9), "stop"), "text")
    assert journal.find("m", limited(JOB, 100)) == Completion((4, 5, 6, 7, 8, 9), "stop")
    journal.keep("m", limited(JOB, 2), Completion((4, 5), "length"), "text")
    assert journal.find("m", limited(JOB, 100)) == Completion((4, 5, 6, 7, 8, 9), "stop"), "a shorter one replaced it"


@pytest.mark.parametrize("content", [b"no database, but of some length " * 50, b"SQLite format 3\x00" + b"\x07" * 4000])
def test_a_damaged_file_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="cannot be used") as error:
        Journal(path)
    assert path.read_bytes() == content and "\n" not in str(error.value)


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="is a database, but not a journal"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_later_version_is_refused(journal: Journal) -> None:
    journal.close()
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(JournalError, match="a journal of version 99, not 2"):
        Journal(journal.path)


def _write(path: Path, start: int) -> None:
    journal = Journal(path)
    for seed in range(start, start + 50):
        journal.keep("m", Job((1,), 5, Stop(), Sampling(), seed), Completion((seed,), "length"), "")


def test_several_processes_share_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, start)) for start in (0, 50, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    (held,) = Journal(path).summaries()
    assert (held.model, held.completions, held.tokens) == ("m", 150, 150)


def test_a_sample_is_that_of_one_version_of_the_sampler(journal: Journal) -> None:
    """What is greedy stays valid, as does what engines with a sampler of their own decoded."""
    greedy = Job((1, 2, 3), 5, Stop(frozenset({9})), Sampling(), seed=0)
    for job in (JOB, greedy):
        journal.keep("m", job, Completion((4, 5, 9), "stop"), "text")
    assert journal.find("m", greedy, sampler=2) == journal.find("m", JOB) == Completion((4, 5, 9), "stop")
    assert journal.find("m", JOB, sampler=2) is None


def test_an_engine_decodes_only_what_is_missing(journal: Journal) -> None:
    def follow(job: Job, completion: Completion) -> list[Job]:
        done.append((job.ids, completion))
        return [Job((*job.ids, *completion.ids), 2, Stop(), Sampling(), 1, phase="answer")] if len(job.ids) == 1 else []

    runs = []
    for _ in range(2):
        done: list[tuple[tuple[int, ...], Completion]] = []
        inner = ScriptedEngine(lambda job: range(100))
        engine = journaled(inner, journal)
        engine.run([Job((start,), 3, Stop(), Sampling(), 0) for start in (5, 6)], follow)
        runs.append((sorted(done, key=str), len(inner.jobs)))
    assert runs[0][0] == runs[1][0]
    assert (runs[0][1], runs[1][1]) == (4, 0)


def test_the_commands(journal: Journal) -> None:
    journal.keep("model-a", JOB, Completion((4,), "length"), "")
    journal.keep("model-b", JOB, Completion((4, 5), "length"), "")
    where = ("--path", journal.path)
    shown = cli("journal", "show", *where).output
    assert "model-a" in shown and "2 tokens" in shown and "MB" in shown
    assert "1 stretches" in cli("journal", "prune", "--model", "model-a", *where).output
    assert "0 stretches" in cli("journal", "prune", "--older-than", "1", *where).output
    assert cli("journal", "prune", *where).exit_code == 1
    unknown = cli("journal", "prune", "--model", "model-a", *where)
    assert unknown.exit_code == 1 and "--model model-a: not in" in " ".join(unknown.output.split())
    assert journal.prune(before=time.time() + 1) == 1
    assert cli("journal", "show", "--path", str(journal.path) + "x").exit_code == 1


@pytest.mark.parametrize("words", [["show"], ["prune", "--older-than", "0"]])
def test_a_damaged_page_is_one_line(words: list[str], journal: Journal) -> None:
    for seed in range(2_000):
        journal.keep("m", replace(JOB, seed=seed), Completion((4,) * 50, "length"), "text")
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:8192] + b"\x05" * (len(whole) - 8192))
    done = cli("journal", words[0], "--path", journal.path, *words[1:])
    assert done.exit_code == 1 and done.output.count("\n") == 1 and "cannot be used" in done.output, done.output


@pytest.mark.parametrize(
    ("name", "left"), [("6faa, torch 2.13", ["6faa, torch 2.14", "7"]), ("6faa", ["7"]), ("7", None)]
)
def test_a_model_is_pruned_by_its_name_or_its_fingerprint(journal: Journal, name: str, left: list[str] | None) -> None:
    names = ["6faa, torch 2.13", "6faa, torch 2.14", "7"]
    for model in names:
        journal.keep(model, JOB, Completion((4,), "length"), "")
    done = cli("journal", "prune", "--model", name, "--path", journal.path)
    assert done.exit_code == 0, done.output
    assert sorted(held.model for held in journal.summaries()) == (left or names[:2])


def test_a_full_disk_does_not_end_a_run(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    engine = journaled(ScriptedEngine(lambda job: range(9)), journal)
    journal.close()  # whatever is asked of it from now on fails
    done: list[Completion] = []

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        done.append(completion)
        return []

    engine.run([JOB, limited(JOB, 2)], on_completion)
    assert [completion.ids for completion in done] == [(0, 1, 2, 3, 4), (0, 1)]
    assert caplog.text.count("continuing without a journal") == 1


def test_a_disk_that_is_full_when_it_writes_does_not_end_a_run(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.keep("m", limited(JOB, 2), Completion((0, 1), "length"), "")
    with sqlite3.connect(journal.path) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON completions BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    engine = journaled(ScriptedEngine(lambda job: range(9)), journal)
    done: list[Completion] = []

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        done.append(completion)
        return []

    engine.run([limited(JOB, 2), JOB], on_completion)
    assert [completion.ids for completion in done] == [(0, 1), (0, 1, 2, 3, 4)]
    assert "disk is full" in caplog.text and caplog.text.count("continuing without a journal") == 1


def test_what_a_lock_kept_out_is_kept_when_it_is_gone(
    journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another process that compacts a large file for longer than one waits."""
    journal.wait_for_locks(0)
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    now = 0.0
    kept: list[int] = []
    clock = SimpleNamespace(sleep=time.sleep, time=time.time, monotonic=lambda: now)
    monkeypatch.setattr("lm_eval_ext.generation.journal.time", clock)

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        nonlocal now
        if job.seed == 5:
            other.execute("ROLLBACK")
            now = 61.0
        kept.append(sum(held.completions for held in Journal(journal.path).summaries()) if job.seed > 5 else 0)
        return []

    engine = journaled(ScriptedEngine(lambda job: range(9)), journal)
    engine.run([replace(JOB, seed=seed) for seed in range(8)], on_completion)
    assert kept == [0, 0, 0, 0, 0, 0, 7, 8], "each is kept at once again"
    assert caplog.text.count("continuing without a journal") == 1 and caplog.text.count("works again") == 1
    assert all(journal.find("m", replace(JOB, seed=seed)) for seed in range(8))


def test_what_a_lock_kept_out_is_kept_at_the_end(journal: Journal) -> None:
    journal.wait_for_locks(0)
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        if job.seed == 3:
            other.execute("ROLLBACK")
        return []

    journaled(ScriptedEngine(lambda job: range(9)), journal).run(
        [replace(JOB, seed=seed) for seed in range(4)], on_completion
    )
    assert all(journal.find("m", replace(JOB, seed=seed)) for seed in range(4))


@pytest.mark.parametrize("patient", [True, False])
def test_it_waits_for_another_process_that_opens_it(
    patient: bool, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is switched to write-ahead logging when nobody else holds it, or not at all."""
    journal.keep("m", JOB, Completion((4, 5, 9), "stop"), "text")
    journal.close()
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("PRAGMA journal_mode=DELETE")
    waits: list[float] = []

    class Crowded(sqlite3.Connection):
        """Another process is faster, every time that this one wants the file for itself."""

        def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
            if sql.endswith("=WAL") and not other.in_transaction and not waits:
                other.execute("BEGIN IMMEDIATE")
            return super().execute(sql, *given)

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if patient and len(waits) == 3:
            other.execute("COMMIT")

    monkeypatch.setattr("sqlite3.connect", partial(sqlite3.connect, factory=Crowded))
    clock = SimpleNamespace(sleep=wait, time=time.time)  # the module's own: other threads sleep as ever
    monkeypatch.setattr("lm_eval_ext.generation.journal.time", clock)
    if patient:
        assert Journal(journal.path).find("m", JOB) == Completion((4, 5, 9), "stop") and len(waits) == 3
    else:
        with pytest.raises(JournalError, match="cannot be used"):
            Journal(journal.path)
    other.close()


def _open(path: Path, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    Journal(path).close()


def test_processes_may_open_a_new_one_at_the_same_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    opening = [context.Process(target=_open, args=(tmp_path / "new", time.time() + 3)) for _ in range(4)]
    for process in opening:
        process.start()
    for process in opening:
        process.join(60)
    assert [process.exitcode for process in opening] == [0] * 4


def test_alone_it_needs_no_shared_memory_and_lets_nobody_else_in(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path, alone=True)
    journal.keep("m", JOB, Completion((4, 5, 9), "stop"), "text")
    assert path.with_name("journal.sqlite-wal").exists() and not path.with_name("journal.sqlite-shm").exists()
    with pytest.raises(JournalError, match=r"journal=.*: is used by another process, which has it alone"):
        Journal(path, alone=True)
    journal.close()
    assert Journal(path, alone=True).find("m", JOB) == Completion((4, 5, 9), "stop"), "and what it kept is there"


def test_a_killed_process_leaves_it_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    code = (
        "from pathlib import Path; from lm_eval_ext.generation.journal import Journal; "
        f"held = Journal(Path({str(path)!r}), alone=True); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(JournalError, match="used by another process"):
            Journal(path, alone=True)
        process.kill()
    Journal(path, alone=True).close()


def test_an_earlier_version_is_left_as_it_is_and_the_run_is_journaled_all_the_same(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.close()
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA user_version=1")
    before = journal.path.read_bytes()
    again = Journal(journal.path)
    again.keep("m", JOB, Completion((4,), "length"), "")
    assert again.path.name == "journal-2.sqlite" and journal.path.read_bytes() == before
    assert "has version 1; using" in caplog.text
    assert Journal(journal.path).find("m", limited(JOB, 1)) == Completion((4,), "length")


def test_two_earlier_versions_are_left_as_they_are(journal: Journal) -> None:
    journal.close()
    Journal(journal.path.with_stem("journal-2")).close()
    for name in ("journal", "journal-2"):
        with sqlite3.connect(journal.path.with_stem(name)) as db:
            db.execute("PRAGMA user_version=1")
    with pytest.raises(JournalError, match=r"journal-2.sqlite: is a journal of an earlier version; name another file"):
        Journal(journal.path)


def test_the_default_is_named_after_its_version_and_names_old_ones_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = tmp_path / "lm-eval-tts" / "journal.sqlite"
    old.parent.mkdir()
    old.write_bytes(b"an old one")
    for _ in range(2):
        Journal(default_journal()).close()
    assert default_journal().name == "journal-2.sqlite" and old.read_bytes() == b"an old one"
    assert caplog.text.count("journal.sqlite is no longer read") == 1


# A run that is killed and started again ends as one that was not ------------------------------------------------------


KILLS = int(os.environ.get("LM_EVAL_TTS_KILLS", "1"))  # more of them are for trying by hand
TOKENS = "max_gen_toks=220,thinking_token_budget=200"
OF_THE_MOMENT = (
    "date",
    "total_evaluation_time_seconds",
    "start_time",
    "end_time",
    "config",
    "configs",  # holds the model arguments, and in them the journal's path
    "pretty_env_info",
)


def start(model: Path, hub: Path, journal: Path, out: Path) -> Started:
    arguments = f"pretrained={model},drop_layers=2,journal={journal}"
    asked = ("--model_args", arguments, "--tasks", "tts_aime24_b512,tts_aime25_b1024", "--gen_kwargs", TOKENS)
    options = ("--batch_size", "4", "--output_path", out, "--log_samples")
    return started(LM_EVAL, "--model", "pruned-hf", *asked, *options, cwd=hub)


def finished(process: Started) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return errors


def outcome(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (results,) = out.rglob("results_*.json")
    samples = [json.loads(line) for path in sorted(out.rglob("samples_*")) for line in path.read_text().splitlines()]
    content = json.loads(results.read_text())
    return {key: value for key, value in content.items() if key not in OF_THE_MOMENT}, samples


def kept(journal: Path) -> int:
    if not journal.is_file():
        return 0
    try:
        with sqlite3.connect(journal) as db:
            return int(db.execute("SELECT count(*) FROM completions").fetchone()[0])
    except sqlite3.OperationalError:  # its table is not there yet
        return 0


def stop_at(
    process: Started, journal: Path, completions: int, delay: float, by: signal.Signals = signal.SIGKILL
) -> str:
    while process.poll() is None and kept(journal) < completions:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(by)
    return process.communicate()[1]


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_run_goes_on(seed: int, tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    finished(start(tiny_model, original_hub, tmp_path / "whole.sqlite", tmp_path / "whole"))
    every = kept(tmp_path / "whole.sqlite")
    moment = random.Random(seed)
    journal, out = tmp_path / "killed.sqlite", tmp_path / "killed"
    stop_at(start(tiny_model, original_hub, journal, out), journal, moment.randrange(1, every), moment.random() * 0.2)
    before = kept(journal)
    assert before > 0 and not list(out.rglob("results_*.json")), "it was killed too early or too late"
    errors = finished(start(tiny_model, original_hub, journal, out))
    assert f"resumed: {before} completions" in errors
    assert kept(journal) == every
    assert outcome(out) == outcome(tmp_path / "whole")


def test_ctrl_c_is_one_line_and_says_how_to_go_on(tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    process = start(tiny_model, original_hub, journal, tmp_path / "out")
    errors = stop_at(process, journal, 1, 0, signal.SIGINT)
    assert process.returncode == -signal.SIGINT, "shells show it as 130, and end their own loops"
    assert "Traceback" not in errors and errors.splitlines()[-1] == (
        f"lm-eval-tts: interrupted: finished work is kept in the journal {journal}; run the same command again to go on"
    )
    assert kept(journal) > 0
