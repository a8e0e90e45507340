"""`lm-eval-tts leaderboard new`: the repository it begins can be built, checked and published."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.runs.catalogue import read_catalogue
from tests.commands import cli


def said(*arguments: object, code: int = 0) -> str:
    done = cli("leaderboard", *arguments)
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("title", ["Our lab's models: small ones", "100% $mall & {fast}", "小さなモデル"])
def test_it_is_a_leaderboard_with_its_own_title(tmp_path: Path, title: str) -> None:
    board = tmp_path / "board"
    said("new", board, "--title", title)
    assert read_catalogue(board / "site.yaml").title == title
    assert title in (board / "README.md").read_text("utf-8")
    write_output(tmp_path / "out", {"tts_aime24_b512": scores(0.6, 30, 3)})
    said("add", tmp_path / "out", "--to", board / "results", "--site", board / "site.yaml")
    said("build", board / "results", "--site", board / "site.yaml", "-o", board / "site")
    text = (board / "site" / "index.html").read_text("utf-8")
    assert (
        "Model-8B" in text
        and yaml.safe_load((board / "space.md").read_text("utf-8").split("---")[1])["sdk"] == "static"
    )


def test_workflows_call_commands_that_there_are(tmp_path: Path) -> None:
    said("new", tmp_path / "board")
    steps = [
        step["run"]
        for path in (tmp_path / "board" / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        for step in job["steps"]
        if "lm-eval-tts leaderboard" in step.get("run", "")
    ]
    assert len(steps) == 3
    for step in steps:
        words = step.split()
        assert f"leaderboard {words[2]}" in step
        shown = said(words[2], "--help")
        assert all(word in shown for word in words if word.startswith("--"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    assert "is not empty; give a new folder" in said("new", tmp_path, code=1)
    assert "expected one line of text" in said("new", tmp_path / "board", "--title", "a\nb", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
