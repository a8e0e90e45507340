"""Generates the page of all tasks, `docs/reference/tasks.md`, and keeps it and the gallery up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lm_eval_ext.authoring.task_file import merged
from lm_eval_ext.authoring.variants import is_written_by_us
from lm_eval_ext.paths import TASKS
from lm_eval_ext.runs.untrusted import mapping, sequence

NOTE = "<!-- Written by `python -m examples.reference docs/reference`. -->"
REFERENCE = TASKS.parent / "docs" / "reference"  # in a checkout


def update_pages(*, write: bool = True) -> list[Path]:
    """Update the pages that list our tasks, in a checkout; returns those that changed (or would change)."""
    from lm_eval_ext.authoring.gallery import gallery_page  # it imports all generators of questions

    made = {"tasks.md": tasks_page, "gallery.md": gallery_page}
    texts = {REFERENCE / name: page_of(make()) for name, make in made.items() if (REFERENCE / name).is_file()}
    changed = [path for path, text in texts.items() if path.read_text("utf-8") != text]
    for path in changed if write else ():
        path.write_text(texts[path], encoding="utf-8")
    return changed


def page_of(text: str) -> str:
    """A generated page, which says so."""
    return f"{NOTE}\n\n{text.strip()}\n"


def table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def tasks_page() -> str:
    """All benchmarks and groups of the registry, as Markdown."""
    bases = [path for path in sorted(TASKS.rglob("*.yaml")) if not is_written_by_us(path)]
    read = [merged(path)[0].fields for path in bases]
    benchmarks = table(
        ("task", "variants", "dataset", "licence"), (_task_row(one) for one in read if "group" not in one)
    )
    groups = table(
        ("group", "members"),
        ((f"`{one['group']}`", ", ".join(f"`{name}`" for name in one["task"])) for one in read if "group" in one),
    )
    return (
        "# Tasks\n\n`_b512` is a thinking budget of 512 tokens; `_maj8` takes eight samples without a budget, and "
        f"reports `pass@k` and `maj@k`.\n\n{benchmarks}\n\n{groups}"
    )


def _task_row(fields: Mapping[str, object]) -> tuple[str, ...]:
    metadata = mapping(fields["metadata"])
    declared = mapping(metadata.get("variants"))
    variants = [f"`_b{one}`" for one in sequence(declared.get("budgets"))]
    variants += [f"`_maj{one}`" for one in sequence(declared.get("votes"))]
    dataset = str(fields.get("dataset_path") or fields.get("custom_dataset"))
    gated = " (gated)" if metadata.get("gated") else ""
    licence = str(metadata["license"])
    return f"`{fields['task']}`", " ".join(variants), f"{dataset}, {fields['test_split']}{gated}", licence
