"""Models side by side: which base each has, what it keeps, how it ranks, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.analysis.board import Board, Position, kept_of
from lm_eval_ext.api import build_site
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.site.rendering import Names


def board(results: Path) -> Board:
    catalogue = read_catalogue()
    return Board([source.run for source in load([results], catalogue)], catalogue)


def test_models_at_other_revisions_have_bases_of_their_own(tmp_path: Path) -> None:
    for number, (mean, revision, dropped) in enumerate([(0.9, "main", ()), (0.1, "step1000", ()), (0.8, "main", (5,))]):
        tasks = {"tts_aime24_b512": scores(mean, 30, 3)}
        write_output(tmp_path / str(number), tasks, dropped=dropped, config={"model_revision": revision})
    shown = board(tmp_path)
    pruned = next(entry for entry in shown.entries if entry.latest.dropped)
    pair = shown.beside_dense(pruned, "tts_aime24")
    assert pair is not None and pair[1].run.revision == "main"


def test_controls_are_no_smaller_models_and_have_bases_of_their_own(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.8, 30, 3), "tts_sums": scores(0.9, 50)}
    for number, (dropped, arguments) in enumerate([((), {}), ((), {"thinking": "off"}), ((5,), {"thinking": "off"})]):
        write_output(
            tmp_path / str(number), tasks, dropped=dropped,
            config={"model_args": {"pretrained": "Org/Model-8B", **arguments}},
        )  # fmt: skip
    shown = board(tmp_path)
    base, control, pruned = sorted(shown.entries, key=lambda entry: (len(entry.latest.dropped), not entry.dense))
    assert base.dense and control.whole and not control.dense and not (control.smaller or pruned.smaller)
    assert shown.dense(pruned) is control and kept_of(shown, pruned).long is not None
    names = Names.of(shown.entries)
    assert str(names[control.key]) == "thinking=off" and "thinking=off" in str(names[pruned.key])
    text = build_site([tmp_path], tmp_path / "site").read_text("utf-8")
    assert 'class="r row"' not in text and 'data-kind="control"' in text


def test_seeds_are_put_together_and_other_sampling_is_not(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": [[True, True], [False, False], [True, False]]}
    other = {"tts_aime24_b512": [[True, False], [False, False], [True, True]]}
    for number, (seed, rows) in enumerate([(0, tasks), (1, other), (1, other)]):
        config = {"model_args": {"pretrained": "Org/Model-8B", "seed": seed}, "random_seed": seed}
        write_output(tmp_path / str(number), rows, config=config, date=f"2026-11-0{number + 1}T00-00-00.000000")
    (entry,) = board(tmp_path).entries
    one = entry.results["tts_aime24"][Position(0, 512)]
    assert one.task.scores == (0.75, 0.0, 0.75) and one.task.repeats == 4 and one.task.accuracy.value == 0.5
    assert one.name == "tts_aime24_b512" and entry.single["tts_aime24"][Position(0, 512)].task.repeats == 2
    assert ">50.0<" in build_site([tmp_path], tmp_path / "site").read_text("utf-8")


def test_below_guessing_nothing_is_kept(tmp_path: Path) -> None:
    for number, (dropped, mean) in enumerate([((), 0.7), ((5,), 0.1)]):
        write_output(tmp_path / str(number), {"tts_aime24_b512": scores(mean, 40, 3)}, dropped=dropped)
    shown = board(tmp_path)
    for run in shown.runs:
        task = run.tasks["tts_aime24_b512"].model_copy(update={"chance": 0.25})
        run.tasks["tts_aime24_b512"] = task
    entry = next(entry for entry in shown.entries if entry.smaller)
    long = kept_of(shown, entry).long
    assert long is not None and long.interval.low == long.interval.estimate == 0 <= long.interval.high < 0.3


def test_what_cannot_be_compared_is_not_beside_its_base(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.8, 30, 3)}
    write_output(tmp_path / "a", tasks)
    path = write_output(tmp_path / "b", tasks, dropped=(5,))
    content = json.loads(path.read_text("utf-8"))
    content["configs"]["tts_aime24_b512"]["generation_kwargs"]["temperature"] = 0.6
    path.write_text(json.dumps(content), "utf-8")
    shown = board(tmp_path)
    assert all(kept_of(shown, entry).long is None for entry in shown.entries)


def test_names_and_pages_are_all_different(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.8, 30, 3), "math": scores(0.8, 30, 1), "math+": scores(0.7, 30, 1)}
    for number, (base, dropped) in enumerate([("A/M", ()), ("B/M", ()), ("A/M", (3,)), ("A/M", (4,)), ("B/M", (3,))]):
        write_output(tmp_path / str(number), tasks, base=base, dropped=dropped)
    shown = board(tmp_path)
    names = Names.of(shown.entries)
    assert len({names.full(entry) for entry in shown.entries}) == 5 and names.base("A/M") == "A/M"
    site = build_site([tmp_path], tmp_path / "site").parent
    assert len(list(site.glob("questions*.html"))) == 3 and len(list(site.glob("budgets*.html"))) == 1


def test_ranks_are_at_one_budget_which_is_named(tmp_path: Path) -> None:
    both = {"tts_aime24_b512": scores(0.5, 30, 3), "tts_aime24_b1024": scores(0.7, 30, 3)}
    write_output(tmp_path / "a", both)
    write_output(tmp_path / "b", {"tts_aime24_b512": scores(0.5, 30, 3)}, dropped=[5])
    shown = board(tmp_path)
    assert {task.budget for task in shown.ranked.values()} == {512}
    assert "AIME 2024 at 512 thinking tokens" in build_site([tmp_path], tmp_path / "site").read_text("utf-8")


def test_a_complete_result_stands_for_the_model_though_a_partial_one_is_newer(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {"tts_aime24_b512": scores(0.6, 30, 3)})
    newer = write_output(tmp_path / "b", {"tts_aime24_b512": scores(0.1, 5, 3)}, of=30)
    content = json.loads(newer.read_text("utf-8"))
    newer.write_text(json.dumps({**content, "date": content["date"] + 1e6}), "utf-8")
    (entry,) = board(tmp_path).entries
    best = entry.best("tts_aime24")
    assert entry.latest.tasks["tts_aime24_b512"].partial and best is not None and not best.task.partial
