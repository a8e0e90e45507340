"""What is built: a wheel and an sdist that work outside the checkout, and leave nothing behind."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import run
from tests.release_version import faults
from tests.shared import ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an sdist made from the checkout, and a wheel made from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh environment's interpreter; it sees the libraries of this one, but not this checkout."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


LIST = "from lm_eval.tasks import TaskManager; print(len([t for t in TaskManager().all_tasks if t.startswith('tts')]))"


def test_the_wheel_holds_the_registry_and_no_python_in_it(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "lm_eval_tts_autoload.pth" in names and "lm_eval_ext/py.typed" in names
    assert "lm_eval_ext/tasks/_math" in names and "lm_eval_ext/pruned_models/qwen3-8b-reverse-1.yaml" in names
    assert "lm_eval_ext/pruned_models/tiny-chain/model.safetensors" in names
    assert "lm_eval_ext/leaderboard/site.yaml" in names and "lm_eval_ext/leaderboard/templates/index.html" in names
    folders = ("tasks/", "pruned_models/", "leaderboard/")
    in_registry = [name for name in names if name.startswith(tuple(f"lm_eval_ext/{folder}" for folder in folders))]
    assert not [name for name in in_registry if name.endswith(".py") or "leaderboard/results/" in name]
    assert "lm_eval_ext/leaderboard/skeleton/results/gitkeep" in names
    assert not [name for name in names if name.startswith(("tests/", *folders))]


def test_the_description_has_no_link_that_only_works_in_the_checkout(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    links = re.findall(r"\]\(([^)]+)\)", archive.read(metadata).decode())
    assert len(links) > 20 and [link for link in links if not link.startswith("https://")] == []


@pytest.mark.parametrize("kind", ["*.whl", pytest.param("*.tar.gz", marks=pytest.mark.long)])
def test_it_works_outside_the_checkout(kind: str, built: Path, environment: Path, tmp_path: Path) -> None:
    (archive,) = built.glob(kind)
    options = ["--no-deps", "--no-build-isolation", "--quiet"]
    install = run(environment, "-m", "pip", "install", *options, archive, cwd=tmp_path)
    assert install.returncode == 0, install.stderr
    expected = len(list(ROOT.glob("tasks/**/*.yaml")))
    assert run(environment, "-c", LIST, cwd=tmp_path).stdout.strip() == str(expected)
    where = run(environment, "-c", "import lm_eval_ext; print(lm_eval_ext.__file__)", cwd=tmp_path).stdout
    assert str(tmp_path) in where
    assert (
        "qwen3-8b-reverse-1"
        in run(
            environment,
            "-c",
            "from lm_eval_ext.pruning.recipe import recipe_names; print(recipe_names())",
            cwd=tmp_path,
        ).stdout
    )

    assert run(environment, "-m", "pip", "uninstall", "--yes", "lm-eval-tts", cwd=tmp_path).returncode == 0
    left = [path for path in environment.parent.parent.rglob("*") if "lm_eval_ext" in path.name or "tts" in path.name]
    assert left == []
    assert run(environment, "-c", LIST, cwd=tmp_path).stdout.strip() == "0"


# Versions that agree, and workflows that can be trusted ---------------------------------------------------------------


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
