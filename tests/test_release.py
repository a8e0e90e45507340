"""What a release needs: versions that agree, workflows that can be trusted, and a package that works by itself."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.release_version import faults
from tests.shared import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = ("pyproject.toml", "CHANGELOG.md", "CITATION.cff")


def test_the_version_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", "lm-eval-tts/lm-eval-tts")
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(re.sub(r"^(## \S+) \(unreleased\)", r"\1 (2026-12-01)", changelog.read_text(), flags=re.M))
    version = re.search(r"^## (\S+)", changelog.read_text(), re.MULTILINE)
    assert version is not None and faults(f"v{version[1]}", tmp_path) == []
    assert [one.partition(" says ")[0] for one in faults("v9.9.9", tmp_path)] == list(FILES)
    changelog.write_text(changelog.read_text().replace("(2026-12-01)", "(unreleased)"))
    assert "is unreleased; give the date" in faults(f"v{version[1]}", tmp_path)[0]
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/else")
    assert "this is someone/else" in faults(f"v{version[1]}", tmp_path)[-1]


@pytest.mark.parametrize("page", ["leaderboard/templates/about.html", "docs/index.md"])
def test_the_citation_and_the_bibtex_of_pages_agree(page: str) -> None:
    cited: Any = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    paper = cited["references"][0]
    text = (ROOT / page).read_text("utf-8").replace('{{ "{" }}', "{").replace('{{ "}" }}', "}")

    def fields(name: str) -> set[str]:
        return set(re.findall(rf"^  {name} *= \{{(.+)\}},?$", text, re.MULTILINE))

    assert fields("title") == {cited["title"], paper["title"]}
    people = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert fields("author") == {f"{{{cited['authors'][0]['name']}}}", people}
    assert fields("journal") == {paper["journal"]} and str(paper["year"]) in fields("year")
    assert fields("version") <= {"{{ version }}"}, "filled in when the page is built"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_what_they_use_and_end(path: Path) -> None:
    content: Any = yaml.safe_load(path.read_text("utf-8"))
    assert content["permissions"]["contents"] == "read"
    for job in content["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in used), used
    versions = re.findall(r"uses: \S+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", path.read_text("utf-8"))
    assert len(versions) == path.read_text("utf-8").count("uses: "), "each says which version that is"
