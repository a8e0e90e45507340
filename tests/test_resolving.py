"""What a package index gives to whoever installs this package: combinations that were tried, and whole neighbours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from tests.shared import ROOT

PAGE = ROOT / "docs" / "howto" / "many-gpus.md"
NO_NETWORK = re.compile("error sending request|Failed to fetch|dns error|NewConnectionError|ConnectTimeoutError")


def resolved(*lines: str, python: str) -> dict[str, Version]:
    """Versions by name, of this package and others together, by uv."""
    uv = pytest.importorskip("uv", reason="needs uv, of the extra `dev`")
    command = [uv.find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate"]
    wanted = "\n".join([*lines, ""])
    done = subprocess.run(
        [*command, "--python-version", python], input=wanted, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if NO_NETWORK.search(done.stderr):
        pytest.skip(f"needs a package index: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr
    return {name: Version(version) for name, version in re.findall(r"^([\w.-]+)==(\S+)", done.stdout, re.MULTILINE)}


def tried() -> dict[str, str]:
    """The versions of vLLM in the page's table, with those of transformers."""
    return dict(re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d+\.\d+\.\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE))


@pytest.mark.long
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_extra_vllm_resolves_to_a_combination_that_was_tried(python: str) -> None:
    found = resolved(f"lm-eval-tts[vllm] @ {ROOT.as_uri()}", python=python)
    assert tried()[str(found["vllm"])] == str(found["transformers"]), "try this combination, then add it to the page"


@pytest.mark.long
def test_pip_resolves_it_too(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    install = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command = [*install, "--report", str(report), f"{ROOT}[vllm]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if NO_NETWORK.search(done.stderr):
        pytest.skip(f"needs a package index: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr[-2000:]
    installed = [one["metadata"] for one in json.loads(report.read_text("utf-8"))["install"]]
    versions = {one["name"]: one["version"] for one in installed}
    assert tried()[versions["vllm"]] == versions["transformers"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("neighbour", "least"),
    [
        ("hydra-core", {"hydra-core": "1.3", "omegaconf": "2.3", "antlr4-python3-runtime": "4.9.3"}),
        ("lm-eval[math]", {"lm-eval": "0.4.13", "antlr4-python3-runtime": "4.11.0"}),
    ],
)
def test_neighbours_are_not_downgraded(neighbour: str, least: dict[str, str]) -> None:
    found = resolved(f"lm-eval-tts @ {ROOT.as_uri()}", neighbour, python="3.11")
    assert {name for name, version in least.items() if found[name] < Version(version)} == set()
