"""Manifests to start from: a small one, and those of papers."""

from __future__ import annotations

import json
from pathlib import Path

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.manifest import manifest_schema
from lm_eval_ext.sweep.study import study_name

_FOLDER = Path(__file__).parent / "manifests"
START = "start"
SCHEMA = "sweep.schema.json"  # beside a manifest, for completion in editors


def papers() -> list[str]:
    """Names of the papers whose studies can be written."""
    return sorted(one.stem for one in _FOLDER.glob("*.yaml") if one.stem != START)


def write_manifest(path: Path, like: str | None = None) -> Path:
    """Write a manifest for a new study.

    Args:
        path: a new file, beside which the schema is written.
        like: name of a paper's study; by default a small one with the embedded model.

    Raises:
        ManifestError: the file exists, or there is no such study.
    """
    if like is not None and like not in papers():
        raise ManifestError(f"--like {like}: expected one of: {', '.join(papers())}")
    study_name(path)
    if not path.parent.is_dir():
        raise ManifestError(f"{path}: folder {path.parent} does not exist")
    if path.exists():
        raise ManifestError(f"{path}: exists already; choose another name")
    text = (_FOLDER / f"{like or START}.yaml").read_text("utf-8").replace("NAME", path.stem)
    path.write_text(f"# yaml-language-server: $schema={SCHEMA}\n{text}", "utf-8")
    path.with_name(SCHEMA).write_text(json.dumps(manifest_schema(), indent=1) + "\n", "utf-8")
    return path
