"""Persistent store of finished completions, so that a killed run can continue where it stopped.

It is one SQLite file, in write-ahead mode; several processes may share it, unless one has opened it with `alone`. It
stores completions, not results: what an engine decoded after given ids with a given seed. So a trace is kept even if
its answers were still missing, and a run with other budgets reuses the same traces.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from lm_eval_ext.errors import JournalError
from lm_eval_ext.generation.engine import Engine, FollowUp
from lm_eval_ext.generation.request import Completion, Job
from lm_eval_ext.paths import cache_folder

logger = logging.getLogger("lm_eval.tts")

_MAGIC = 0x7454534A  # "tTSJ" in the file's header marks it as ours
VERSION = 2  # of the key format; part of the default file's name
_TABLE = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB PRIMARY KEY,
    model TEXT NOT NULL,      -- fingerprint of the weights, and versions
    phase TEXT NOT NULL,      -- think or answer
    seed INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    ids BLOB NOT NULL,        -- 32-bit token ids
    text TEXT NOT NULL,
    reason TEXT NOT NULL,     -- stop, length or loop
    finished REAL NOT NULL    -- seconds since 1970
) WITHOUT ROWID
"""
_KEEP = (
    "INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    "ids = excluded.ids, text = excluded.text, reason = excluded.reason, finished = excluded.finished "
    "WHERE length(excluded.ids) > length(ids)"
)
_PATIENCE = 60  # seconds to wait for a lock of another process
_AGAIN = 60  # seconds after which a journal that has failed is tried again
_MOST_LATER = 10_000  # completions that are held until then


def default_journal() -> Path:
    """Path of the journal that runs share by default.

    Journals of earlier versions are left in place and mentioned once.
    """
    folder = cache_folder()
    path = folder / f"journal-{VERSION}.sqlite"
    older = sorted(file for file in folder.glob("journal*.sqlite") if file != path)
    if older and not path.exists():
        names = ", ".join(file.name for file in older)
        logger.warning(
            "%s: %s is no longer read, because the journal's key format has changed; it can be deleted", folder, names
        )
    return path


@dataclass(frozen=True)
class JournalSummary:
    """Contents of a journal for one model."""

    model: str
    completions: int
    tokens: int
    last: float


class Journal:
    """An open journal.

    If the file is a journal of an earlier version, a new one is created next to it, as `NAME-2.sqlite`.

    Args:
        path: of the file.
        alone: let no other process use the file, which then needs no shared memory: for file systems that several
            machines share, where SQLite's `-shm` file doesn't work.

    Raises:
        JournalError: the file cannot be opened, is damaged, or is not a journal; it is never overwritten.
    """

    def __init__(self, path: Path, alone: bool = False) -> None:
        self.path = path
        self._alone = alone
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))  # held while a process uses the file alone
        with self._faults():
            path.parent.mkdir(parents=True, exist_ok=True)
            if alone:
                self._take()
            self._open(path)
            other = self._adopt()
            if other is not None:
                self._db.close()
                self._open(path.with_stem(f"{path.stem}-{VERSION}"))
                logger.warning("journal=%s has version %d; using %s and leaving it unchanged", path, other, self.path)
                if self._adopt() is not None:
                    raise JournalError(f"journal={self.path}: is a journal of an earlier version; name another file")
            self._write_ahead()

    def _open(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        if self._alone:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # before write-ahead mode, or there is a -shm file

    def _take(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JournalError(f"journal={self.path}: is used by another process, which has it alone") from error

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"journal={self.path}: cannot be used ({error}); name another file, or journal=off"
            ) from error

    def _adopt(self) -> int | None:
        """Initialize an empty file; returns the version of a journal of an earlier version, else None."""
        self._db.execute("BEGIN IMMEDIATE")  # several processes may start at once
        try:
            (magic,) = self._db.execute("PRAGMA application_id").fetchone()
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and magic != _MAGIC:
                raise JournalError(
                    f"journal={self.path}: is a database, but not a journal; name another file, or journal=off"
                )
            if tables and version > VERSION:
                raise JournalError(
                    f"journal={self.path}: is a journal of version {version}, not {VERSION}; name another file, or "
                    "journal=off"
                )
            if not tables:
                self._db.execute(f"PRAGMA application_id={_MAGIC}")
                self._db.execute(f"PRAGMA user_version={VERSION}")
                self._db.execute(_TABLE)
        finally:
            self._db.execute("COMMIT")
        return int(version) if tables and version != VERSION else None

    def _write_ahead(self) -> None:
        tries = _PATIENCE * 10
        while True:  # SQLite's timeout does not apply to this statement
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                tries -= 1
                if not tries:
                    raise
                time.sleep(0.1)
        self._db.execute("PRAGMA synchronous=NORMAL")

    def find(self, model: str, job: Job, sampler: int | None = None) -> Completion | None:
        """The stored completion of a job; None if there is none.

        A longer completion is cut to the job's limit; one that ended at a lower limit is not used.
        """
        with self._faults():
            query = "SELECT ids, reason FROM completions WHERE key = ?"
            row = self._db.execute(query, (_key(model, job, sampler),)).fetchone()
        if row is None:
            return None
        return Completion(tuple(array("i", row[0])), row[1], resumed=True).within(job.max_tokens)

    def keep(self, model: str, job: Job, completion: Completion, text: str, sampler: int | None = None) -> None:
        """Store a completion immediately; a longer one replaces a shorter one."""
        ids = array("i", completion.ids).tobytes()
        values = (job.phase, job.seed, len(job.ids), ids, text, completion.reason, time.time())
        with self._faults():
            self._db.execute(_KEEP, (_key(model, job, sampler), model, *values))

    def summaries(self) -> list[JournalSummary]:
        """One summary per model, most recent first."""
        with self._faults():
            rows = self._db.execute(
                "SELECT model, count(*), coalesce(sum(length(ids)), 0) / 4, max(finished) "
                "FROM completions GROUP BY model ORDER BY max(finished) DESC"
            ).fetchall()
        return [JournalSummary(*row) for row in rows]

    def prune(self, *, before: float | None = None, model: str | None = None) -> int:
        """Delete completions by finishing time (before `before`, in seconds since 1970), model, or both.

        Returns:
            The number of deleted completions.
        """
        conditions = {"finished < ?": before, "model = ?": model}
        chosen = {condition: value for condition, value in conditions.items() if value is not None}
        where = " AND ".join(chosen) or "1"
        with self._faults():
            deleted = self._db.execute(f"DELETE FROM completions WHERE {where}", tuple(chosen.values())).rowcount
            self._db.execute("VACUUM")
        return deleted

    def wait_for_locks(self, seconds: float) -> None:
        """Set for how long locks of other processes are waited for."""
        with suppress(sqlite3.Error):  # of a file that has been closed
            self._db.execute(f"PRAGMA busy_timeout={round(1000 * seconds)}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._lock.release()


def _key(model: str, job: Job, sampler: int | None) -> bytes:
    stop = [sorted(job.stop.tokens), job.stop.sequences, job.stop.strings, job.stop.loops]
    content = [VERSION, model, job.ids, stop, asdict(job.sampling), job.seed]
    if sampler is not None and job.sampling.temperature > 0:
        content.append(sampler)
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).digest()


@dataclass
class JournaledEngine:
    """An engine that looks jobs up in a journal, and stores there what another engine decodes.

    Attributes:
        create: makes the engine that decodes the jobs that are not in the journal, if there are any, because that may
            load a model.
        journal: the store, or None for no journal.
        model: identifies weights and software versions; completions of other models are not used.
        decode: ids to text, stored for people who read the journal.
        sampler: version of our own sampler if the engine uses it, since another version draws other samples.
        count: called with each job, its completion, and whether that came from the journal.
    """

    create: Callable[[], Engine]
    journal: Journal | None
    model: str
    decode: Callable[[Sequence[int]], str]
    sampler: int | None = None
    count: Callable[[Job, Completion, bool], None] = lambda job, completion, found: None
    _later: deque[tuple[Job, Completion]] = field(default_factory=deque, init=False)  # what could not be kept yet
    _tried: float | None = field(default=None, init=False)  # when the journal last failed, if it has not worked since

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups, or take them from the journal."""

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            self._keep(job, completion)
            self.count(job, completion, False)
            return self._missing(on_completion(job, completion), on_completion)

        if missing := self._missing(jobs, on_completion):
            try:
                self.create().run(missing, finished)
            finally:
                self._catch_up()

    def _missing(self, jobs: Iterable[Job], on_completion: FollowUp) -> list[Job]:
        """The jobs that have to be decoded; jobs found in the journal are completed here, with their follow-ups."""
        missing: list[Job] = []
        queue = deque(jobs)
        while queue:
            job = queue.popleft()
            completion = self._find(job)
            if completion is None:
                missing.append(job)
            else:
                self.count(job, completion, True)
                queue.extend(on_completion(job, completion))
        return missing

    def _find(self, job: Job) -> Completion | None:
        if self.journal is None or self._tried is not None:
            return None
        try:
            return self.journal.find(self.model, job, self.sampler)
        except JournalError as error:
            self._do_without(error)
            return None

    def _keep(self, job: Job, completion: Completion) -> None:
        if self.journal is None:
            return
        self._later.append((job, completion))
        if self._tried is None or time.monotonic() - self._tried >= _AGAIN:
            self._catch_up()
        while len(self._later) > _MOST_LATER:
            self._later.popleft()

    def _catch_up(self) -> None:
        """Keep what could not be kept so far; in the order in which it was decoded, as far as the journal works."""
        if self.journal is None or not self._later:
            return
        try:
            while self._later:
                job, completion = self._later[0]
                self.journal.keep(self.model, job, completion, self.decode(completion.ids), self.sampler)
                self._later.popleft()
        except JournalError as error:
            self._do_without(error)
            return
        if self._tried is not None:
            logger.warning("journal=%s: works again, and holds what was decoded meanwhile", self.journal.path)
            self._tried = None
            self.journal.wait_for_locks(_PATIENCE)

    def _do_without(self, error: JournalError) -> None:
        """Continue without the journal, and try it again later: a full disk or a lock must not end a long run."""
        assert self.journal is not None
        if self._tried is None:
            logger.warning("%s; continuing without a journal, which is tried again every %d s", error, _AGAIN)
            self.journal.wait_for_locks(1)  # not to decode nothing for a minute each time
        self._tried = time.monotonic()
