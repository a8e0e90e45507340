"""Generates the page of all tasks, `docs/reference/tasks.md`, and keeps it and the gallery up to date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_eval_ext.authoring.checks import render_all
from lm_eval_ext.authoring.task_fields import Metadata
from lm_eval_ext.authoring.task_file import is_template, merged, named_function, shown_names
from lm_eval_ext.authoring.trial import ANSWER
from lm_eval_ext.authoring.variants import is_written_by_us, kind_of_task
from lm_eval_ext.paths import TASKS
from lm_eval_ext.redaction import mapping, sequence, whole
from lm_eval_ext.runs.catalogue import Catalogue, read_catalogue
from lm_eval_ext.wording import markdown_table

NOTE = "<!-- Written by `python -m examples.reference docs/reference`. -->"
REFERENCE = TASKS.parent / "docs" / "reference"  # in a checkout


def update_pages(*, write: bool = True) -> list[Path]:
    """Update the pages that list our tasks, in a checkout; returns those that changed (or would change)."""

    made = {"tasks.md": tasks_page, "gallery.md": gallery_page}
    texts = {REFERENCE / name: page_of(make()) for name, make in made.items() if (REFERENCE / name).is_file()}
    changed = [path for path, text in texts.items() if path.read_text("utf-8") != text]
    for path in changed if write else ():
        path.write_text(texts[path], encoding="utf-8")
    return changed


def page_of(text: str) -> str:
    """A generated page, which says so."""
    return f"{NOTE}\n\n{text.strip()}\n"


def tasks_page() -> str:
    """All benchmarks and groups of the registry, as Markdown."""
    read = _of_registry()
    benchmarks = markdown_table(
        ("task", "variants", "dataset", "licence"), (_task_row(one) for one in read if "group" not in one)
    )
    groups = markdown_table(
        ("group", "members"),
        ((f"`{one['group']}`", ", ".join(f"`{name}`" for name in one["task"])) for one in read if "group" in one),
    )
    return (
        "# Tasks\n\n`_b512` is a thinking budget of 512 tokens; `_maj8` takes eight samples without a budget, and "
        f"reports `pass@k` and `maj@k`.\n\n{benchmarks}\n\n{groups}"
    )


def _of_registry() -> list[Mapping[str, Any]]:
    """The fields of all benchmarks and groups that people edit."""
    return [merged(path)[0].fields for path in sorted(TASKS.rglob("*.yaml")) if not is_written_by_us(path)]


def _task_row(fields: Mapping[str, object]) -> tuple[str, ...]:
    metadata = mapping(fields["metadata"])
    declared = mapping(metadata.get("variants"))
    variants = [f"`_b{one}`" for one in sequence(declared.get("budgets"))]
    variants += [f"`_maj{one}`" for one in sequence(declared.get("votes"))]
    dataset = str(fields.get("dataset_path") or fields.get("custom_dataset"))
    gated = " (gated)" if metadata.get("gated") else ""
    licence = str(metadata["license"])
    return f"`{fields['task']}`", " ".join(variants), f"{dataset}, {fields['test_split']}{gated}", licence


_LONGEST = 600  # characters of an example


def gallery_page() -> str:
    """All benchmarks, as Markdown. Questions are shown only if they are our own; of others, the frame around them."""
    catalogue = read_catalogue()
    tasks = sorted(
        (one for one in _of_registry() if "group" not in one), key=lambda one: catalogue.order(str(one["task"]))
    )
    kinds = {
        kind: [one for one in tasks if catalogue.benchmark(str(one["task"])).kind == kind] for kind in catalogue.kinds
    }
    parts = [
        f"## {catalogue.kinds[kind]}\n\n" + "\n\n".join("\n".join(_card(one, catalogue)) for one in some)
        for kind, some in kinds.items()
        if some
    ]
    return (
        "# Gallery\n\nEvery benchmark of the registry. Questions of others stay where they are published; their "
        "prompts are shown with names of columns in place of the questions. `lm-eval-tts tasks cost NAME` estimates "
        "what a task or group costs.\n\n" + "\n\n".join(parts)
    )


def _card(fields: Mapping[str, object], catalogue: Catalogue) -> Iterator[str]:
    metadata, kind = Metadata.model_validate(fields["metadata"]), kind_of_task(fields)
    facts = {
        "answer": kind.KIND if kind else "",
        "questions": f"{metadata.questions:,}" if metadata.questions else "not stated",
        "chance": _chance(fields, metadata),
        "cost": _cost(fields, metadata),
        "parts": ", ".join([metadata.parts] if isinstance(metadata.parts, str) else metadata.parts or []),
        "licence": f"{metadata.license}{', gated' if metadata.gated else ''}",
        "source": metadata.published_at,
    }
    yield f"### {catalogue.benchmark(str(fields['task'])).title}\n"
    yield f"`{fields['task']}` " + " · ".join(f"{name}: {value}" for name, value in facts.items() if value) + "\n"
    yield "\n".join(f"    {line}".rstrip() for line in _example(fields).splitlines())


def _cost(fields: Mapping[str, object], metadata: Metadata) -> str:
    """Tokens at most of the variant with the largest thinking budget."""
    budgets = metadata.variants.budgets if metadata.variants else []
    if not metadata.questions or not budgets:
        return ""
    tokens = metadata.questions * (whole(fields.get("repeats")) or 1) * (max(budgets) + ANSWER)
    return f"at most {tokens / 1e6:,.1f} million tokens with a budget of {max(budgets):,}"


def _chance(fields: Mapping[str, object], metadata: Metadata) -> str:
    if metadata.chance is not None:
        return f"{metadata.chance:g}"
    synonyms = (metadata.grading or {}).get("synonyms")
    if synonyms:
        return f"1/{len(synonyms) if isinstance(synonyms, dict) else 2}"
    choices = metadata.choices
    if choices is None:
        return ""
    if choices.letters:
        return f"1/{len(choices.letters)}"
    return f"1/{len(choices.from_)}" if isinstance(choices.from_, list) else "by the options of each question"


def _example(fields: Mapping[str, object]) -> str:
    source = str(mapping(fields.get("metadata")).get("source"))
    if "custom_dataset" in fields and not source.startswith("https://"):  # ours, which needs no download
        questions = named_function(str(fields["custom_dataset"]))()[str(fields["test_split"])]
        (text,) = render_all(str(fields["doc_to_text"]), [questions[0]])
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    text = str(fields["doc_to_text"])
    return _framed(text, sorted(shown_names(text)) if is_template(text) else [])


def _framed(template: str, names: Sequence[str]) -> str:
    """A prompt's text with its columns in brackets; options as two examples."""
    for name in names:
        template = template.replace("{{" + name + "}}", f"<{name}>")
    lines = ["A) <an option>\nB) <another>" if "| lettered }}" in line else line for line in template.splitlines()]
    return "\n".join(lines)
