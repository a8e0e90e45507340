"""The site as files: valid HTML, the same bytes every time, nothing that a page must not hold."""

from __future__ import annotations

import csv
import json
import re
import shutil
from errno import ENOSPC
from pathlib import Path
from typing import NoReturn

import html5lib
import pytest

from benchmarks.lm_eval_output import scores, write_board, write_output
from lm_eval_ext.analysis.board import Board, kept_of
from lm_eval_ext.api import build_site
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.metrics import METRICS
from lm_eval_ext.paths import LEADERBOARD
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.literature import read_literature
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.publish import publish
from lm_eval_ext.site.data import RunRow
from lm_eval_ext.site.lines import Family, depth_charts, share_charts, vote_charts
from lm_eval_ext.site.rendering import MEASURES, NAVIGATION, Names, measure
from lm_eval_ext.site.traces import pieces
from tests.published import said


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_board(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site([results], tmp_path_factory.mktemp("site")).parent


def board(results: Path) -> Board:
    catalogue = read_catalogue()
    return Board([source.run for source in load([results], catalogue)], catalogue)


def family(shown: Board) -> Family:
    kept = {entry.key: kept_of(shown, entry) for entry in shown.entries}
    return Family(shown, next(iter(shown.bases)), Names.of(shown.entries), kept)


def test_every_page_is_valid_html(site: Path) -> None:
    paths = sorted(site.rglob("*.html"))
    assert {path.name for path in site.glob("*.html")} >= {path for path, _ in NAVIGATION}
    assert len(list(site.glob("questions*.html"))) == 8 and len(list(site.glob("runs/*/index.html"))) == 5
    for path in paths:
        html5lib.HTMLParser(strict=True).parse(path.read_text("utf-8"))


@pytest.mark.parametrize("write", ["write_bytes", "write_text"])
def test_a_full_disk_is_one_line(write: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(ENOSPC, "No space left on device")  # as the kernel says it: of no file

    monkeypatch.setattr(Path, write, full)
    text = said("build", results, "-o", tmp_path / "site", code=1)
    assert text == f"lm-eval-tts: {tmp_path / 'site'}: No space left on device\n" and not list(tmp_path.iterdir())


def test_two_builds_are_the_same(results: Path, site: Path, tmp_path: Path) -> None:
    again = build_site([results], tmp_path / "again").parent
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (site, again)
    )
    assert first == second


def test_nothing_points_elsewhere(site: Path) -> None:
    sources = [source.url for source in read_literature().sources.values()]
    outside = ("https://arxiv.org/", "https://github.com/lm-eval-tts/lm-eval-tts/", *sources)
    for path in site.rglob("*.html"):
        text = path.read_text("utf-8")
        for attribute in ('src="', 'href="'):
            for part in text.split(attribute)[1:]:
                link = part.split('"')[0].split("#")[0]
                if link and not link.startswith(("data:", *outside)):
                    assert (path.parent / link).resolve().is_file(), (path, link)


def test_every_figure_and_table_that_can_be_saved_is_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        wanted = set(re.findall(r' data-(?:figure|table)="([^"]+)"', text))
        assert wanted <= set(re.findall(r' id="([^"]+)"', text)), page.name


def test_a_folder_with_something_else_is_left_alone(results: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\begin{document}")
    with pytest.raises(ResultsError, match="is not a site"):
        build_site([results], tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_numbers_can_be_had_as_csv_json_and_parquet(site: Path) -> None:
    import pandas

    content = json.loads((site / "data" / "runs.json").read_text("utf-8"))
    schema = json.loads((site / "data" / "runs.schema.json").read_text("utf-8"))
    assert content["version"] == 1 and len(content["runs"]) == 45
    for row in content["runs"]:
        RunRow.model_validate(row)
    frame = pandas.read_parquet(site / "data" / "runs.parquet")
    assert list(frame.columns) == list(schema["properties"]) and len(frame) == 45
    whole = frame[(frame["task"] == "tts_aime24_b8192") & (frame["model"] == "base")].iloc[0]
    assert whole["accuracy"] == pytest.approx(0.7222, abs=1e-3) and pandas.isna(whole["kept_long"])
    pruned = frame[frame["layers_off"] == 2].iloc[0]
    assert pruned["kept_long"] < pruned["kept_short"] and pruned["model"].endswith("2 layers reverse")
    rows = list(csv.DictReader((site / "data" / "leaderboard.csv").open(encoding="utf-8")))
    row = next(
        row
        for row in rows
        if row["task"] == "tts_aime24_b8192" and row["measure"] == "accuracy" and row["model"] == "base"
    )
    assert float(row["value"]) == whole["accuracy"] and row["base"] == "Org/Model-8B"


def test_every_shown_measure_has_one_name() -> None:
    shown = {one.name for metric in METRICS for one in metric.gives if one.shown}
    assert shown == set(MEASURES) and len(set(MEASURES.values())) == len(MEASURES)
    assert (measure("maj@8"), measure("looped"), measure("exact_match")) == ("maj@8", "repeating", "exact_match")


def test_ranks_are_no_finer_than_the_data(results: Path) -> None:
    shown = board(results)
    ranks = {entry.label: tuple(shown.ranks[entry.key]) for entry in shown.entries}
    assert ranks["dense"] == (1, 1) and ranks["shortgpt -1"] == ranks["reverse -1"] == (2, 3)
    assert shown.ranked_by == "tts_aime24"


def test_partial_runs_are_shown_and_not_ranked(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {"tts_aime24_b512": scores(0.6, 30, 3)})
    write_output(tmp_path / "b", {"tts_aime24_b512": scores(0.3, 30, 3)}, dropped=[5])
    write_output(tmp_path / "c", {"tts_aime24_b512": scores(0.9, 5, 3)}, dropped=[6], of=30)
    shown = board(tmp_path)
    assert len(shown.entries) == 3 and len(shown.ranks) == 2
    text = build_site([tmp_path], tmp_path / "site").read_text("utf-8")
    assert "½" in text.split('id="overview"')[1] and "of 5" in text


def test_runs_of_one_model_are_one_row_and_the_newest_counts(tmp_path: Path) -> None:
    write_output(tmp_path / "a", {"tts_aime24_b512": scores(0.2, 30, 3)})
    newer = write_output(tmp_path / "b", {"tts_aime24_b512": scores(0.6, 30, 3), "tts_sums": scores(0.9, 9)})
    content = json.loads(newer.read_text("utf-8"))
    newer.write_text(json.dumps({**content, "date": content["date"] + 1e6}), "utf-8")
    (entry,) = board(tmp_path).entries
    best = entry.best("tts_aime24")
    assert len(entry.runs) == 2 and best is not None and best.task.accuracy.value > 0.4 and entry.best("tts_sums")


def test_a_site_that_holds_something_of_somebodys_is_left_alone(results: Path, tmp_path: Path) -> None:
    out = build_site([results], tmp_path / "site").parent
    (out / "CNAME").write_text("example.org")
    with pytest.raises(ResultsError, match="CNAME, which is not part of a site"):
        build_site([results], out)
    (out / "CNAME").unlink()
    write_output(out / "runs", {"tts_sums": [[True]]})
    with pytest.raises(ResultsError, match="which the site is built from"):
        build_site([next((out / "runs").glob("results_*"))], out)


def test_texts_of_a_benchmark_that_became_gated_are_not_written(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_aime24_b512": [[True]]}, text="a secret</think>\\boxed{%s}")
    catalogue = read_catalogue()
    for source in load([tmp_path / "out"], catalogue):
        publish(source, tmp_path / "results")
    settings = tmp_path / "site.yaml"
    settings.write_text(
        (LEADERBOARD / "site.yaml").read_text("utf-8").replace("gated: [gpqa]", "gated: [aime]"), "utf-8"
    )
    for _ in range(2):
        for site in (None, settings):
            out = build_site([tmp_path / "results"], tmp_path / "site", site=site).parent
        texts = "".join(path.read_text("utf-8", "replace") for path in out.rglob("*") if path.is_file())
        assert "secret" not in texts and "What is it" not in texts


def test_places_in_texts_are_as_javascript_counts_them() -> None:
    text = "\N{GRINNING FACE}" * 7_000 + "x" * 20_000
    parts = pieces(text, [7_000])
    assert parts[0][0] == 0 and parts[-1][0] + len(parts[-1][1]) == 34_000
    assert all(start % 2 == 0 for start, part in parts if part[0] != "x")


def test_runs_that_lack_benchmarks_or_samples_are_shown_without(tmp_path: Path) -> None:
    both = {"tts_aime24_b512": scores(0.6, 30, 3), "tts_sums": scores(0.9, 9)}
    write_output(tmp_path / "a", both)
    write_output(tmp_path / "b", {"tts_sums": scores(0.5, 9)}, dropped=[5], samples=False)
    shown = board(tmp_path)
    entry = next(entry for entry in shown.entries if entry.latest.dropped)
    assert kept_of(shown, entry).long is None and kept_of(shown, entry).short is not None
    text = build_site([tmp_path], tmp_path / "site").read_text("utf-8")
    assert "not measured" in text and "A sentence with numbers stands here as soon as" in text
    pages = [path.read_text("utf-8") for path in (tmp_path / "site" / "runs").glob("*/index.html")]
    assert sorted('class="grids"' in page for page in pages) == [False, True], "a square for each question"


def test_of_a_long_text_the_ends_and_what_surrounds_the_cuts_are_shown(tmp_path: Path) -> None:
    short = f"It begins. {'la ' * 9000}"
    long = f"{short}The second cut. {'lo ' * 9000} It ends."
    tasks = {"tts_aime24_b512": [[True]], "tts_aime24_b1024": [[True]]}
    texts = {name: [[f"{text}</think>\\boxed{{%s}}"]] for name, text in zip(tasks, (short.rstrip(), long), strict=True)}
    write_output(tmp_path / "out", tasks, texts=texts)
    build_site([tmp_path / "out"], tmp_path / "site")
    (file,) = (tmp_path / "site").rglob("tts_aime24-0.js")
    shown = file.read_text("utf-8")
    assert all(part in shown for part in ("It begins.", "The second cut.", "It ends.")) and len(shown) < 16_000
    (trace,) = json.loads(shown.removeprefix("lmtts.traces(").rstrip(";\n)"))["questions"][0]["traces"]
    assert [cut[2] for cut in trace["cuts"]] == [len(short.rstrip()), len(long)]
    assert sum(len(text) for _, text in trace["thinking"]) < 12_000


def test_only_what_changed_is_written_again(results: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(results, runs)
    out = build_site([runs], tmp_path / "site").parent
    before = {path: path.stat().st_ino for path in out.glob("runs/*/**/*") if path.is_file()}
    write_output(runs / "new", {"tts_aime24_b512": scores(0.1, 30, 3)}, base="Org/Other")
    build_site([runs], out)
    after = {path: path.stat().st_ino for path in out.glob("runs/*/**/*") if path.is_file()}
    assert {path: inode for path, inode in after.items() if path in before} == before
    assert len({path.relative_to(out).parts[1] for path in after.keys() - before.keys()}) == 1
    fresh = build_site([runs], tmp_path / "fresh").parent
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == {
        p.relative_to(fresh): p.read_bytes() for p in fresh.rglob("*") if p.is_file()
    }


def test_numbers_of_samples_without_a_vote_have_no_point(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"tts_aime24_maj8": scores(0.5, 30, 8)})
    content = json.loads(path.read_text("utf-8"))
    del content["results"]["tts_aime24_maj8"]["maj@4,answer"]
    path.write_text(json.dumps(content), "utf-8")
    charts = list(vote_charts(family(board(tmp_path))))
    assert [[point.at for point in chart.panel.lines[0].points] for chart in charts] == [[1, 2, 4, 8], [1, 2, 8]]


def test_models_at_another_budget_are_not_beside_the_others_by_depth(tmp_path: Path) -> None:
    both = {"tts_aime24_b512": scores(0.5, 30, 3), "tts_aime24_b1024": scores(0.7, 30, 3)}
    for number, dropped in enumerate([(), (5,), (5, 6)]):
        write_output(tmp_path / str(number), both, dropped=dropped)
    write_output(tmp_path / "few", {"tts_aime24_b512": scores(0.1, 30, 3)}, dropped=(5, 6, 7))
    (chart,) = depth_charts(family(board(tmp_path)))
    assert [point.at for line in chart.panel.lines for point in line.points] == [0, 1, 2]


def test_the_page_of_layers_lists_no_method_that_takes_none_off(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.5, 30, 3)}
    write_output(tmp_path / "base", tasks)
    write_output(tmp_path / "pruned", tasks, dropped=(5,))
    arguments = {"pretrained": "Org/Model-8B", "load_in_4bit": True}
    write_output(tmp_path / "quantized", tasks, config={"model_args": arguments})
    build_site([tmp_path], tmp_path / "site")
    assert "4 bits" in family(board(tmp_path)).marks
    assert "4 bits" not in (tmp_path / "site" / "depth.html").read_text("utf-8")


def test_the_same_share_of_parameters_gone_three_ways(tmp_path: Path) -> None:
    tasks = {"tts_aime24": scores(0.7, 30, 3)}
    write_output(tmp_path / "base", tasks)
    lost: dict[str, tuple[float, dict[str, object]]] = {
        "shortgpt": (0.2, {"dropped_layers": [5, 6], "parameters_before": 100, "parameters_after": 80}),
        "reap": (0.5, {
            "dropped_experts": {"0": "0-3"}, "experts": 16, "parameters_before": 100, "parameters_after": 82,
        }),
        "wanda": (0.6, {
            "sparsity": {"amount": "20%", "sha256": "a" * 64, "zeros": 19},
            "parameters_before": 100, "parameters_after": 100,
        }),
    }  # fmt: skip
    for method, (accuracy, pruning) in lost.items():
        path = write_output(tmp_path / method, {"tts_aime24": scores(accuracy, 30, 3)}, method=method)
        content = json.loads(path.read_text("utf-8"))
        depth = content["config"]["pruning"]["kept_layers"]
        kept = [layer for layer in depth if layer not in (5, 6)] if method == "shortgpt" else depth
        content["config"]["pruning"] |= {
            **pruning,
            "method": method,
            "kept_layers": kept,
            "recipe_hash": f"{len(method)}" * 16,
            "model_fingerprint": f"{len(method)}" * 16,
        }
        path.write_text(json.dumps(content), "utf-8")
    (chart,) = share_charts(family(board(tmp_path)))
    found = {line.name: [round(point.at, 2) for point in line.points] for line in chart.panel.lines}
    assert found == {"experts: reap": [0, 0.18], "layers: shortgpt": [0, 0.2], "weights: wanda": [0, 0.19]}
    page = (build_site([tmp_path], tmp_path / "site").parent / "depth.html").read_text("utf-8")
    sentence = page.partition("With about 20% of the parameters gone")[2].partition("</h2>")[0]
    assert sentence.index("with zeros (wanda)") < sentence.index("without experts (reap)")
    assert sentence.index("without experts") < sentence.index("without layers (shortgpt)")
    assert "zeros 20%" in (tmp_path / "site" / "index.html").read_text("utf-8")


def test_votes_of_several_sizes_do_not_hide_each_other(tmp_path: Path) -> None:
    write_output(tmp_path, {"tts_aime24_maj8": scores(0.5, 30, 8), "tts_aime24_maj4": scores(0.5, 30, 4)})
    (entry,) = board(tmp_path).entries
    votes = entry.votes("tts_aime24")
    assert votes is not None and votes.task.repeats == 8


def test_paths_that_hold_nothing_are_one_line(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "contains neither"), (tmp_path / "none", "does not exist")):
        with pytest.raises(ResultsError, match=message):
            build_site([path], tmp_path / "site")
