"""The reference pages of the documentation, written from the code, so that they say what it does.

python -m lm_eval_ext.reference docs/reference
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lm_eval_ext.authoring.task_file import Metadata, TaskFile, merged
from lm_eval_ext.authoring.variants import is_written_by_us
from lm_eval_ext.generation.options import ALIASES, KNOWN
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.registry import TASKS

_NOTE = "<!-- Written by `python -m lm_eval_ext.reference docs/reference`. -->"


def pages() -> dict[str, str]:
    """Markdown by file name."""
    made = {
        "tasks.md": _tasks(),
        "model-arguments.md": _model_arguments(),
        "generation-arguments.md": _generation_arguments(),
        "recipes.md": _fields("Recipes", "A recipe is a YAML in `pruned_models/`, or anywhere.", Recipe),
        "task-files.md": _task_files(),
        "commands.md": _commands(),
    }
    return {name: f"{_NOTE}\n\n{text.strip()}\n" for name, text in made.items()}


def write(folder: Path) -> None:
    """Write them."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _tasks() -> str:
    bases = [path for path in sorted(TASKS.rglob("*.yaml")) if not is_written_by_us(path)]
    read = [merged(path)[0].fields for path in bases]
    benchmarks = _table(
        ("task", "variants", "dataset", "licence"), (_task_row(one) for one in read if "group" not in one)
    )
    groups = _table(
        ("group", "members"),
        ((f"`{one['group']}`", ", ".join(f"`{name}`" for name in one["task"])) for one in read if "group" in one),
    )
    return (
        "# Tasks\n\n`_b512` is a thinking budget of 512 tokens; `_maj8` has eight samples and no budget, and gives "
        f"`pass@k` and `maj@k`.\n\n{benchmarks}\n\n{groups}"
    )


def _task_row(fields: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = fields["metadata"]
    declared = metadata.get("variants") or {}
    variants = [f"`_b{one}`" for one in declared.get("budgets", [])]
    variants += [f"`_maj{one}`" for one in declared.get("votes", [])]
    dataset = str(fields.get("dataset_path") or fields.get("custom_dataset"))
    gated = " (gated)" if metadata.get("gated") else ""
    return f"`{fields['task']}`", " ".join(variants), f"{dataset}, {fields['test_split']}{gated}", metadata["license"]


def _model_arguments() -> str:
    from lm_eval_ext.models.pruned import PrunedLM

    text = inspect.getdoc(PrunedLM) or ""
    arguments = re.findall(r"^    (\w+): (.+)$", text, re.MULTILINE)
    rows = ((f"`{name}`", meaning[:1].upper() + meaning[1:]) for name, meaning in arguments)
    return (
        "# Model arguments\n\n`pruned-hf` takes every argument of lm-eval's `hf`, `pruned-vllm` every one of `vllm`; "
        f"both take these as well.\n\n{_table(('argument', 'meaning'), rows)}"
    )


def _generation_arguments() -> str:
    others = {name: [alias for alias, of in ALIASES.items() if of == name] for name in KNOWN}
    rows = ((f"`{name}`", text, " ".join(f"`{one}`" for one in others[name])) for name, text in KNOWN.items())
    return (
        "# Generation arguments\n\n`generation_kwargs` of a task, or `--gen_kwargs`. An argument that is not known is "
        f"refused.\n\n{_table(('argument', 'meaning', 'other names'), rows)}"
    )


def _task_files() -> str:
    metadata = _fields("", "", Metadata).strip()
    return (
        f"{_fields('Task files', 'Fields of lm-eval, as far as benchmarks of this registry use them.', TaskFile)}\n\n"
        f"## metadata\n\n{metadata}\n\n"
        "For editors: `# yaml-language-server: $schema=../schema.json` at the head of a file in `tasks/`."
    )


def _fields(title: str, about: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    rows = ((f"`{name}`", _kind(one), one.get("description", "")) for name, one in schema["properties"].items())
    return f"# {title}\n\n{about}\n\n{_table(('field', 'kind', 'meaning'), rows)}".removeprefix("# \n\n")


def _kind(field: Mapping[str, Any]) -> str:
    """`text or list`, from a JSON Schema."""
    words = {
        "string": "text",
        "integer": "whole number",
        "array": "list",
        "object": "mapping",
        "boolean": "true or false",
    }
    options = [
        part for one in field.get("anyOf", [field]) for part in one.get("anyOf", [one]) if part.get("type") != "null"
    ]
    kinds = [words.get(one.get("type", "mapping"), one.get("type", "mapping")) for one in options]
    return " or ".join(dict.fromkeys(kinds))


def _commands() -> str:
    import typer.main
    from typer.cli import get_docs_for_click

    from lm_eval_ext.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lm-eval-tts", title="Commands")
    return re.sub(r"\n{3,}", "\n\n", str(text))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
