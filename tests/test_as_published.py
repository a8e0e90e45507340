"""What others published: the files, the page, the command. Numbers are computed again here, in another way."""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from html5lib import parse
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.analysis.as_published import median_over_sources, recoveries, repetitions
from lm_eval_ext.analysis.as_published import models as all_models
from lm_eval_ext.api import build_site
from lm_eval_ext.runs.literature import FOLDER, literature_schema, read_literature
from lm_eval_ext.statistics.meta import random_effects
from tests.commands import cli
from tests.shared import ROOT, case_table

CHANCE = {
    "MMLU": 0.25, "MMLU-Redux": 0.25, "MMLU-Pro": 0.1, "ARC-Challenge": 0.25, "HellaSwag": 0.25, "WinoGrande": 0.5,
    "CMMLU": 0.25, "GPQA": 0.25, "GPQA-diamond": 0.25,
}  # fmt: skip
Row = Mapping[str, str]


def command(*words: str | Path, code: int = 0) -> str:
    done = cli("published", *words)
    assert done.exit_code == code, done.output
    return str(done.output)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for name, dropped in (("base", ()), ("smaller", (3,))):
        output = folder / "out" / name
        write_output(output, {"tts_math500": [[True], [True], [False]]}, base="Qwen/Qwen3-8B", dropped=dropped)
    return build_site([folder / "out"], folder / "site").parent


@pytest.fixture(scope="module")
def rows(site: Path) -> list[Row]:
    with (site / "data" / "published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def page(site: Path) -> Any:
    return parse((site / "published.html").read_text("utf-8"), namespaceHTMLElements=False)


def text_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def table(page: Any, name: str) -> list[list[str]]:
    """The cells of a table's body."""
    found = next(one for one in page.iter("table") if one.get("id") == name)
    return [[text_of(cell) for cell in row] for row in found.find("tbody")]


# Computed again -------------------------------------------------------------------------------------------------------


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Where the score test of a share just rejects."""
    z = float(norm.ppf(0.975))

    def distance(p: float) -> float:
        return (share - p) ** 2 - z**2 * p * (1 - p) / trials

    low = 0.0 if share == 0 else brentq(distance, 0, min(share, 1 - 1e-9))
    return low, 1.0 if share == 1 else brentq(distance, max(share, 1e-9), 1)


def kept(row: Row) -> tuple[float, float | None, float | None] | None:
    """The share kept, and where score - ratio * base just reaches zero, by square-and-add."""
    chance = CHANCE.get(row["benchmark"], 0.0)
    score, base = float(row["score"]) / 100 - chance, float(row["base score"]) / 100 - chance
    if not row["questions"]:
        return (max(0.0, score / base), None, None) if base > 0 else None
    (low, high), (base_low, base_high) = (wilson(one + chance, int(row["questions"])) for one in (score, base))
    if base_low <= chance:
        return None

    def under(ratio: float) -> float:
        return score - ratio * base - math.hypot(score + chance - low, ratio * (base_high - base - chance))

    def over(ratio: float) -> float:
        return score - ratio * base + math.hypot(high - score - chance, ratio * (base + chance - base_low))

    least = 0.0 if low <= chance else brentq(under, 0, 10)
    return max(0.0, score / base), least, 0.0 if high <= chance else brentq(over, 0, 1e4)


def smaller_models(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by model, without doubted ones; of lengths of one recovery the last."""
    identity = ("source", "base", "model", "kind", "method", "amount", "recovered", "recovery", "recovery tokens")
    found: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if not row["doubt"]:
            found[tuple(row[name] for name in identity)].append(row)
    last: dict[tuple[str, ...], int] = {}
    for key in found:
        if key[7]:
            series = key[0], key[1], key[3], key[5], key[7]
            last[series] = max(int(key[8]), last.get(series, 0))
    return {
        key: some
        for key, some in found.items()
        if not key[7] or int(key[8]) == last[key[0], key[1], key[3], key[5], key[7]]
    }


def kept_by_kind(some: Sequence[Row]) -> dict[str, float]:
    by_benchmark: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in some:
        if one := kept(row):
            by_benchmark[row["benchmark kind"], row["benchmark"]].append(one[0])
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), values in by_benchmark.items():
        kinds[kind].append(sum(values) / len(values))
    return {kind: sum(values) / len(values) for kind, values in kinds.items()}


def medians(pairs: Sequence[tuple[str, float]]) -> list[str]:
    """The cells of a median: itself, least and largest source, models and sources."""
    sources: dict[str, list[float]] = defaultdict(list)
    for source, value in pairs:
        sources[source].append(value)
    if not sources:
        return [""] * 5
    found = sorted(median(some) for some in sources.values())
    shares = (median(found), found[0], found[-1])
    return [*(f"{100 * share:.1f}" for share in shares), str(len(pairs)), str(len(found))]


DONE = {
    ("layers", "False"): "layers removed", ("experts", "False"): "experts removed", ("width", "False"): "narrower",
    ("width", "True"): "narrower, then trained", ("quantized", "False"): "quantized",
    ("quantized", "True"): "quantized while training", ("other", "False"): "factorized, or several ways",
}  # fmt: skip


def cells(models: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    return [
        cell
        for kind in ("knowledge", "shallow", "long")
        for cell in medians([(source, one[kind]) for source, one in models if kind in one])
    ]


def test_what_is_kept_by_what_was_done_follows_from_the_rows(page: Any, rows: list[Row]) -> None:
    groups: dict[str, list[tuple[str, Mapping[str, float]]]] = defaultdict(list)
    for key, some in smaller_models(rows).items():
        one = kept_by_kind(some)
        if "knowledge" in one and "long" in one:
            groups[DONE[key[3], key[6]]].append((key[0], one))
    shown = {line[0]: line[1:] for line in table(page, "done-numbers")}
    assert shown == {title: cells(models) for title, models in groups.items()} and len(shown) == 7
    lower = {title: sum(one["long"] < one["knowledge"] for _, one in models) for title, models in groups.items()}
    drawn = [text_of(one) for one in page.iter("div") if (one.get("class") or "").startswith("r row")]
    for title, models in groups.items():
        assert any(line.startswith(title) and line.endswith(f"{lower[title]} of {len(models)}") for line in drawn), (
            title
        )
    layers, quantized = shown["layers removed"], shown["quantized"]
    heading = re.findall(r"(\d+)%", text_of(next(page.iter("h1"))))
    assert all(
        near(whole, line[at]) for whole, (line, at) in zip(heading, product((layers, quantized), (0, 10)), strict=True)
    )


def test_bits_and_shares_follow_from_the_rows(page: Any, rows: list[Row]) -> None:
    bits: dict[str, list[tuple[str, Mapping[str, float]]]] = defaultdict(list)
    removed: dict[tuple[str, str], list[tuple[str, Mapping[str, float]]]] = defaultdict(list)
    for key, some in smaller_models(rows).items():
        if key[6] == "True":
            continue
        one = key[0], kept_by_kind(some)
        if some[0]["bits"]:
            least = next(least for least in (8, 4, 3, 0) if float(some[0]["bits"]) >= least)
            bits[{8: "8 bits", 4: "4 to 6 bits", 3: "3 to 4 bits", 0: "below 3 bits"}[least]].append(one)
        if share := some[0]["removed"]:
            step = ("less than 10%", "10 to 20%", "20 to 40%", "40% or more")
            removed[key[3], step[sum(float(share) >= least for least in (0.1, 0.2, 0.4))]].append(one)
    assert {line[0]: line[1:] for line in table(page, "bits-numbers")} == {
        name: cells(some) for name, some in bits.items()
    }
    kinds = [
        kind for kind in ("layers", "experts", "width", "weights", "other") if any(of == kind for of, _ in removed)
    ]
    for number, kind in enumerate(kinds, 1):
        shown = {line[0]: line[1:] for line in table(page, f"removed-{number}-numbers")}
        assert shown == {step: cells(some) for (of, step), some in removed.items() if of == kind}


def test_what_is_kept_by_benchmark_follows_from_the_rows(page: Any, rows: list[Row]) -> None:
    values: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for some in smaller_models(rows).values():
        if some[0]["recovered"] == "False" and some[0]["bits"] and float(some[0]["bits"]) >= 4:
            own: dict[tuple[str, str], list[float]] = defaultdict(list)
            for row in some:
                if one := kept(row):
                    own[row["benchmark"], row["benchmark kind"]].append(one[0])
            for name, shares in own.items():
                values[name].append((some[0]["source"], sum(shares) / len(shares)))
    titles = {"knowledge": "knowledge", "shallow": "short reasoning", "long": "long reasoning"}
    section = next(one for one in page.iter("section") if one.get("id") == "benchmarks")
    lines = [one for one in section.iter("div") if one.get("class") == "r row"]
    shown = {text_of(line[0]): [text_of(part) for part in line.findall("span")][2:] for line in lines}
    assert len(shown) == len(values)
    for (benchmark, kind), pairs in values.items():
        share, low, high, models, sources = medians(pairs)
        said, counted = shown[f"{benchmark} {titles[kind]}"]
        least, _, most = said.partition("%")[2].strip().partition("–")
        assert near(said.partition("%")[0], share) and re.findall(r"\d+", counted) == [models, sources]
        assert (sources == "1" and not least) or (near(least, low) and near(most, high)), said
    order = [float(said.partition("%")[0]) for said, _ in shown.values()]
    assert order == sorted(order)


def test_recoveries_follow_from_the_rows(page: Any, rows: list[Row]) -> None:
    found: dict[tuple[str, ...], dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    place = ("source", "base", "kind", "amount")
    series = {tuple(row[name] for name in place) for row in rows if row["recovery"]}
    for row in rows:
        key = tuple(row[name] for name in place)
        if key in series and (row["recovery"] or row["recovered"] == "False"):
            found[key][row["benchmark"]][int(row["recovery tokens"] or 0)] = row
    wanted = list(found.values())
    charts = [one for one in page.iter("table") if (one.get("id") or "").startswith("recovery-")]
    assert len(charts) == len(wanted) == 2
    for chart, by_benchmark in zip(charts, wanted, strict=True):
        lengths = sorted({tokens for some in by_benchmark.values() for tokens in some if tokens})
        told = []
        for benchmark, some in by_benchmark.items():
            scores = [some[at]["score"] if at in some else "" for at in (0, *lengths)]
            base = next(iter(some.values()))["base score"]
            told.append([benchmark, *(f"{float(one):.1f}" if one else "" for one in (*scores, base))])
        shown = [[(cell.text or "").strip() for cell in line] for line in chart.find("tbody")]
        assert shown == told


def test_the_counts_follow_from_the_rows(page: Any, rows: list[Row]) -> None:
    identity = ("source", "base", "model", "kind", "method", "amount", "recovered", "recovery tokens")
    found = {tuple(row[name] for name in identity) for row in rows}
    sources = {row["source"]: row for row in rows}.values()
    own = [row for row in sources if row["own method"] == "True"]
    second_hand = [row for row in sources if row["read"] != "text"]
    said = next(text_of(one) for one in page.iter("p") if "smaller models and their" in text_of(one))
    numbers = [int(one.replace(",", "")) for one in re.findall(r"\d[\d,]*", said)]
    bases = {row["base"] for row in rows}
    assert numbers == [len(rows), len(found), len(bases), len(sources), len(own), len(second_hand), 51]


def test_effects_follow_from_the_rows(page: Any, rows: list[Row]) -> None:
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for key, some in smaller_models(rows).items():
        counted = [(row, one) for row in some if row["questions"] and (one := kept(row))]
        sides = {}
        for kind in ("knowledge", "long"):
            by_benchmark: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
            for row, (share, low, high) in counted:
                if row["benchmark kind"] == kind and low is not None and high is not None:
                    by_benchmark[row["benchmark"]].append((share, share - low, high - share))
            if by_benchmark:
                parts = []
                for several in by_benchmark.values():
                    _, down, up = max(several, key=lambda one: one[1] + one[2])
                    parts.append((sum(one[0] for one in several) / len(several), down, up))
                sides[kind] = [
                    sum(one[0] for one in parts) / len(parts),
                    math.hypot(*(one[1] for one in parts)) / len(parts),
                    math.hypot(*(one[2] for one in parts)) / len(parts),
                ]
        if len(sides) == 2:
            know, long = sides["knowledge"], sides["long"]
            width = math.hypot(long[1], know[2]) + math.hypot(long[2], know[1])
            found[DONE[key[3], key[6]], key[0]].append((long[0] - know[0], width / 2 / norm.ppf(0.975)))
    shown = {(line[1], line[0]): line[2:] for line in table(page, "effects-numbers")}
    told = {
        place: [
            f"{100 * sum(one for one, _ in some) / len(some):+.1f}".replace("-", "\N{MINUS SIGN}"),
            f"{100 * sum(error for _, error in some) / len(some):.1f}", str(len(some)),
        ]
        for place, some in found.items()
    }  # fmt: skip
    assert shown == told and len(told) > 15
    quantized = [[sum(part) / len(some) for part in zip(*some, strict=True)]
                 for (title, _), some in found.items() if title == "quantized"]  # fmt: skip
    y, v = [one[0] for one in quantized], [one[1] ** 2 for one in quantized]
    mean = pooled(y, v)
    said = next(text_of(one) for one in page.iter("p") if text_of(one).startswith("Quantized:"))
    assert re.findall(r"[\d.]+", said)[0] == f"{abs(100 * mean[0]):.1f}"
    assert [round(abs(100 * end), 1) for end in mean[1:]] == [float(one) for one in re.findall(r"[\d.]+", said)[1:3]]


def pooled(y: Sequence[float], v: Sequence[float]) -> tuple[float, float, float]:
    """Random effects by the moment equation, solved by bisection, in place of its closed form."""

    def excess(between: float) -> float:
        w = [1 / one for one in v]
        mean = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
        q = sum(a * (b - mean) ** 2 for a, b in zip(w, y, strict=True))
        return q - (len(y) - 1) - between * (sum(w) - sum(one**2 for one in w) / sum(w))

    between = brentq(excess, 0, 10) if excess(0) > 0 else 0.0
    w = [1 / (one + between) for one in v]
    mean = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
    q = sum(a * (b - mean) ** 2 for a, b in zip(w, y, strict=True)) / (len(y) - 1)
    half = student.ppf(0.975, len(y) - 1) * math.sqrt(max(1, q) / sum(w))
    return mean, mean - half, mean + half


def test_every_row_has_what_is_kept_and_its_interval(page: Any, rows: list[Row]) -> None:
    for row in rows:
        again = kept(row)
        if again is None:
            assert row["kept"] == row["kept low"] == ""
            continue
        for name, value in zip(("kept", "kept low", "kept high"), again, strict=True):
            assert row[name] == "" if value is None else float(row[name]) == pytest.approx(value, abs=2e-4), (row, name)
    listed = [one for one in page.iter("details") if one.get("class") == "source"]
    cells_of = [cell for one in listed for cell in one.iter("td") if cell.get("class") == "score"]
    literature = read_literature()  # for the order in which the page has them
    of = {(id(one.model), one.benchmark): row for one, row in zip(literature.rows, rows, strict=True)}
    ordered = [
        of[id(model), name]
        for source in literature.sources.values()
        for table in source.tables
        for model in table.models
        for name in table.base.scores
        if name in model.scores
    ]
    assert len(listed) == 28 and len(ordered) == len(rows)
    for cell, row in zip(cells_of, ordered, strict=True):
        under = text_of(cell.find("small"))
        score = f"{float(row['score']):g}" + (f" ± {float(row['sd']):g}" if row["sd"] else "")
        assert text_of(cell).removesuffix(under).strip() == score
        exactly = [100 * float(row[name]) for name in ("kept", "kept low", "kept high") if row[name]]
        assert [float(one) for one in re.findall(r"[\d.]+", under)] == pytest.approx(exactly, abs=0.5001), (row, under)
    assert all(any(link.get("href") == row["url"] for link in page.iter("a")) for row in rows)


def test_doubted_scores_are_shown_and_not_counted(page: Any, rows: list[Row]) -> None:
    doubted = [row for row in rows if row["doubt"]]
    shown = [one for one in page.iter("table") if "In doubt, not counted" in text_of(one)]
    assert sum(cell.get("class") == "score" for one in shown for cell in one.iter("td")) == len(doubted) == 51
    assert f"{len(doubted)} scores are in doubt" in " ".join(text_of(one) for one in page.iter("p"))


def test_a_base_measured_here_is_beside_its_published_scores(site: Path, page: Any, rows: list[Row]) -> None:
    section = next(one for one in page.iter("section") if one.get("id") == "beside")
    shown = [[text_of(cell) for cell in line] for line in section.find(".//tbody")]
    there = {(row["source"], row["base score"]) for row in rows
             if row["base"] == "Qwen/Qwen3-8B" and row["benchmark"] == "MATH500" and not row["doubt"]}  # fmt: skip
    assert {(line[4], re.split(" ± ", line[3])[0]) for line in shown} == {
        (source, f"{float(score):g}") for source, score in there
    } and there
    assert all(line[0] == "Qwen/Qwen3-8B" and line[2].startswith("66.7") for line in shown)
    start = (site / "index.html").read_text("utf-8")
    assert "Measured here:" in start and "Published by others:" in start and 'href="published.html"' in start
    for name in ("index.html", "budgets.html", "compare.html"):
        assert "arXiv 2504.04823" not in (site / name).read_text("utf-8")


# The data -------------------------------------------------------------------------------------------------------------


def test_every_collected_row_is_there(rows: list[Row]) -> None:
    path = ROOT.parent / "shared" / "data" / "published" / "published.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")

    def number(text: str) -> float | None:
        return float(text) if text else None

    def facts(row: Row, name: str, budget: str) -> tuple[object, ...]:
        if row["benchmark"].startswith("MATH (not named"):  # which it is, by a later comment
            row = {**row, "benchmark": "MATH500", "questions": "500"}
        method = re.sub(r", [\d.]+[BM] tokens$", "", row["method"])
        printed = [number(row[one]) for one in ("base_score", "base_sd", "score", "sd", "questions", "samples")]
        return (
            row["base"], row[name], row["kind"], method, row["amount"], row["recovered"], row["benchmark"], *printed,
            number(row["temperature"]), number(row[budget]), row["engine"], row["metric"],
        )  # fmt: skip

    with path.open(encoding="utf-8", newline="") as file:
        collected = [facts(row, "compressed", "thinking_budget") for row in csv.DictReader(file)
                     if "repository not named by the index" not in row["source"]]  # fmt: skip
    ours = [
        facts({**row, "base_score": row["base score"], "base_sd": row["base sd"]}, "model", "token limit")
        for row in rows
    ]
    assert len(ours) == 1347 and sorted(map(str, ours)) == sorted(map(str, collected))


SOURCE: Mapping[str, Any] = {
    "source": "A card", "url": "https://example.org/card", "read": "text", "own_method": True,
    "tables": [{
        "where": "Table 1", "base": {"name": "Org/Base", "scores": {"MMLU": 70, "AIME24": "60 ± 2"}},
        "models": [{
            "name": "small", "kind": "quantized", "method": "RTN", "amount": "W4", "bits": 4,
            "scores": {"MMLU": 69.5, "AIME24": 50},
        }],
    }],
}  # fmt: skip


def written(folder: Path, change: Mapping[str, Any]) -> Path:
    """A folder with one source, in which some values are replaced, by place, or removed where they are None."""
    content = yaml.safe_load(yaml.safe_dump(dict(SOURCE)))
    for place, value in change.items():
        at = content
        *path, last = [int(part) if part.isdecimal() else part for part in place.split("/")]
        for part in path:
            at = at[part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    folder.mkdir(exist_ok=True)
    (folder / "benchmarks.yaml").write_bytes((FOLDER / "benchmarks.yaml").read_bytes())
    (folder / "card.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
    return folder


FAULTS = [*case_table("wrong_sources.yaml")["published"], [{"tables/0/questions": 10**400}, "questions: "]]


@pytest.mark.parametrize(("change", "said"), FAULTS)
def test_a_source_that_is_not_right_is_one_line(tmp_path: Path, change: Mapping[str, Any], said: str) -> None:
    output = command("--folder", written(tmp_path / "sources", change), code=1).strip()
    assert output.count("\n") == 0 and said in output and "card.yaml" in output and len(output) < 500, output


RAW = (
    ("source: [", "cannot be read as YAML"),
    ("- a\n- b\n", "contains list, not a mapping"),
    ("", "contains NoneType, not a mapping"),
    ("source: a\nsource: b\n", "source is given twice"),
    ("a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)),
     "anchors and aliases expand to too much"),
    ("a: &a\n  b: *a\n", "a value contains itself"),
    ("x: " + "y" * 1_100_000, "is larger than"),
    ("source: \x00", "cannot be read as YAML"),
    ("source: !!python/object/apply:os.system [id]", "cannot be read as YAML"),
    ("source: !!int ''", "cannot be read as YAML"),
    ("source: !!bool foo", "cannot be read as YAML"),
    ("source: !!timestamp foo", "cannot be read as YAML"),
    ("source: \udcff", "cannot be read as YAML"),  # not UTF-8
    ("[" * 100_000, "cannot be read as YAML"),
    ("models: {x: y, x: z}", "models.x is given twice"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "said"), RAW, ids=[said for _, said in RAW])
def test_a_file_that_is_no_source_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    folder = written(tmp_path / "sources", {})
    (folder / "card.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    output = command("--folder", folder, code=1).strip()
    assert output.count("\n") == 0 and said in output and "card.yaml" in output, output


def small(**more: Any) -> dict[str, Any]:
    """A model of a table, without its bits if it is of another kind."""
    found = {**SOURCE["tables"][0]["models"][0], **more}
    return found if found["kind"] == "quantized" else {key: one for key, one in found.items() if key != "bits"}


def test_lengths_of_a_recovery_are_one_model_and_others_are_not(tmp_path: Path) -> None:
    layers = {"kind": "layers", "method": "ShortGPT", "amount": "9 of 36"}
    lengths = [
        small(name=f"{tokens}", **layers, recovered=True, recovery="A", recovery_tokens=tokens,
              scores={"MMLU": 60, "AIME24": score})
        for tokens, score in ((100, 10), (200, 20))
    ]  # fmt: skip
    other = small(name="on other texts", **layers, recovered=True, recovery_tokens=50, scores={"MMLU": 60, "AIME24": 6})
    before = small(name="before", **layers, scores={"MMLU": 40, "AIME24": 2})
    literature = read_literature(written(tmp_path / "a", {"tables/0/models": [*lengths, other, before]}))
    assert {one.model.name for one in all_models(literature)} == {"200", "on other texts", "before"}
    (recovery,) = recoveries(literature)
    assert [(tokens, row.score.value) for tokens, row in recovery.scores["AIME24"]] == [(0, 2), (100, 10), (200, 20)]
    random = {**before, "name": "random", "method": "random"}
    (recovery,) = recoveries(read_literature(written(tmp_path / "b", {"tables/0/models": [*lengths, before, random]})))
    assert [tokens for tokens, _ in recovery.scores["AIME24"]] == [100, 200], "which of two it began from isn't known"


def test_a_repetition_stands_beside_what_it_repeats(tmp_path: Path) -> None:
    trained = small(name="trained", recovered=True, scores={"MMLU": 69, "AIME24": 55})
    folder = written(tmp_path / "sources", {"tables/0/models": [small(), trained]})
    text = (folder / "card.yaml").read_text("utf-8")
    (folder / "again.yaml").write_text(f"reproduces: card\n{text}", "utf-8")
    found = repetitions(read_literature(folder))
    assert [(one.row.model.name, one.original.model.name) for one in found] == [
        (name, name) for name in ("small", "small", "trained", "trained")
    ]


def test_a_source_that_is_right_is_shown(tmp_path: Path) -> None:
    folder = written(tmp_path / "sources", {})
    assert "quantized" in command("--folder", folder)
    shown = command("--folder", folder, "base", "--csv", tmp_path / "all.csv")
    assert re.search(r"small +AIME24 +60 ± 2 +50 +83%", shown) and "A card, Table 1" in shown
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 3
    assert "no published base, model or source" in command("--folder", folder, "other", code=1)
    twice = written(tmp_path / "twice", {"tables/0/models": [SOURCE["tables"][0]["models"][0]] * 2})
    assert "small: is listed twice" in command("--folder", twice, code=1)
    again = written(tmp_path / "again", {"tables": [SOURCE["tables"][0]] * 2})
    assert "small has two scores of AIME24" in command("--folder", again, code=1)
    assert "has no benchmarks.yaml" in command("--folder", tmp_path, code=1)


def test_sources_have_the_schema_that_editors_read() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for path in FOLDER.glob("*.yaml"):
        if path.name != "benchmarks.yaml":
            jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), literature_schema())


def test_benchmarks_agree_with_the_leaderboards_own() -> None:
    from lm_eval_ext.runs.catalogue import read_catalogue

    own, tasks = (
        read_catalogue().benchmarks,
        {one.task: one for one in read_literature().benchmarks.values() if one.task},
    )
    assert {name: one.kind for name, one in tasks.items() if name != "tts_mmlu_pro"} == {
        name: own[name].kind
        for name in tasks
        if name != "tts_mmlu_pro"  # ours is with thinking
    }


# Statistics -----------------------------------------------------------------------------------------------------------

# 13 trials of the BCG vaccine (ill and well, vaccinated and not), the textbook example of random effects: Colditz and
# others 1994. DerSimonian and Laird's estimate of the log risk ratio is -0.7141, between trials 0.3088.
BCG = (
    (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
    (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
    (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
)  # fmt: skip


def test_random_effects_of_the_textbook() -> None:
    effects = [math.log((a / (a + b)) / (c / (c + d))) for a, b, c, d in BCG]
    errors = [math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)) for a, b, c, d in BCG]
    found = random_effects(effects, errors)
    assert round(found.interval.estimate, 4) == -0.7141 and round(found.spread**2, 4) == 0.3088
    assert found.interval == pytest.approx(pooled(effects, [error**2 for error in errors]), abs=1e-9)
    for wrong in ([], [0.0] * 13, [0.1]):
        with pytest.raises(ValueError, match="expected one or more, each with an error above 0"):
            random_effects(effects, wrong)


values = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), min_size=1, max_size=30)


@given(values)
def test_a_source_weighs_as_much_however_often_it_says_the_same(pairs: list[tuple[str, float]]) -> None:
    once, often = (
        median_over_sources(pairs),
        median_over_sources([*pairs, *[one for one in pairs if one[0] == "a"] * 4]),
    )
    assert once and often and (once.share, once.low, once.high) == pytest.approx((often.share, often.low, often.high))
    assert once.low <= once.share <= once.high


def lines(text: str) -> Iterator[list[str]]:
    yield from (re.split(r"  +", line.strip()) for line in text.splitlines())


def near(whole: str, tenths: str) -> bool:
    """Whether a percentage without digits is the same as one with a digit."""
    return abs(float(whole) - float(tenths)) <= 0.5501


def test_the_command_says_what_the_page_says(page: Any) -> None:
    said = {line[0]: line[1:] for line in lines(command()) if len(line) > 3}
    for line in table(page, "done-numbers"):
        know, long = said[line[0]][0], said[line[0]][2]
        assert near(know.partition("%")[0], line[1]) and know.endswith(f"of {line[4]}")
        assert near(long.partition("%")[0], line[11]) and long.endswith(f"of {line[14]}")
