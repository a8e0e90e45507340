"""Generates the reference pages of the documentation, and the schema of task files, from the code.

python -m examples.reference docs/reference
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from lm_eval_ext.analysis.matching import REQUIREMENTS
from lm_eval_ext.authoring.task_fields import Choices, Metadata, PublishedScore, TaskFile
from lm_eval_ext.authoring.tasks_page import gallery_page, page_of, tasks_page
from lm_eval_ext.authoring.variants import task_schema
from lm_eval_ext.declared import schema_of
from lm_eval_ext.gating.gate_file import GateBudget, GatedBenchmark, GateFile, gate_schema
from lm_eval_ext.generation.request import ALIASES, KNOWN
from lm_eval_ext.grading.kinds import KINDS
from lm_eval_ext.harness.arguments import rows
from lm_eval_ext.harness.effects import EFFECTS, of_effect
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.metrics import METRICS, Measure
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.redaction import mapping, sequence
from lm_eval_ext.runs.literature import literature_schema
from lm_eval_ext.shrinking.shrink_file import Removable, Search, ShrinkFile, ShrinkGate, TraceSource, shrink_schema
from lm_eval_ext.sweep.manifest import Exclude, Local, Manifest, PlannedPruning, Ray, Slurm
from lm_eval_ext.wording import markdown_table

_OF_RECIPES = (
    "A recipe is a YAML file, in `pruned_models/` or anywhere else. `lm-eval-tts recipes check` validates it. The "
    "schema of its fields, for completion in editors, is `pruned_models/schema.json`; in a checkout, VS Code with the "
    "YAML extension uses it."
)


def pages() -> dict[str, str]:
    """The pages' Markdown, by file name."""
    made = {
        "tasks.md": tasks_page(),
        "gallery.md": gallery_page(),
        "model-arguments.md": _model_arguments(),
        "generation-arguments.md": _generation_arguments(),
        "recipes.md": _fields("Recipes", _OF_RECIPES, Recipe),
        "task-files.md": _task_files(),
        "sweeps.md": _sweeps(),
        "gates.md": _gates(),
        "shrink.md": _shrink(),
        "commands.md": _commands(),
    }
    return {name: page_of(text) for name, text in made.items()}


def tables() -> dict[str, str]:
    """Generated tables in handwritten pages, by path relative to the repository."""
    return {"docs/reference/metrics.md": _metrics_table(), "docs/explanation.md": _requirements_table()}


def schemas() -> dict[str, object]:
    """JSON Schemas for editors, by path relative to the repository."""
    return {
        "tasks/schema.json": task_schema(),
        "pruned_models/schema.json": schema_of(Recipe),
        "lm_eval_ext/sweep/schema.json": schema_of(Manifest),
        "lm_eval_ext/gating/schema.json": gate_schema(),
        "lm_eval_ext/shrinking/schema.json": shrink_schema(),
        "leaderboard/published/schema.json": literature_schema(),
    }


def write(folder: Path) -> None:
    """Write the pages into `docs/reference`, update the tables in handwritten pages, and write the schemas."""
    root = folder.resolve().parent.parent
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    for where, schema in schemas().items():
        (root / where).write_text(f"{json.dumps(schema, indent=1)}\n", encoding="utf-8")
    for name, content in tables().items():
        path = root / name
        if path.is_file():
            path.write_text(_with_table(path.read_text("utf-8"), content), encoding="utf-8")


def _with_table(text: str, content: str) -> str:
    """Replace the table that has the same header."""
    head = re.escape(content.partition("\n")[0])
    return re.sub(rf"{head}.*?(?=\n\n)", lambda _: content, text, flags=re.DOTALL)


def _model_arguments() -> str:
    server = markdown_table(("model argument", "meaning", "default"), rows(ServerArguments))
    return (
        "# Model arguments\n\n`pruned-hf` takes all arguments of lm-eval's `hf`, `pruned-vllm` all those of `vllm`; "
        f"both also take these.\n\n{_arguments_table()}\n\n## tts-server\n\n`tts-server` takes these alone "
        f"([how to use it](../howto/servers.md)).\n\n{server}\n\n## What they change\n\nA run's identity, what "
        "continues it after a crash, what it is compared with and the command that is published with it follow from "
        "this table, which has lm-eval's own arguments too. One that is not in it is taken for one that changes the "
        f"model, and a warning names it.\n\n{_effects_table()}"
    )


def _effects_table() -> str:
    rows = ((meaning, " ".join(f"`{name}`" for name in of_effect(name))) for name, meaning in EFFECTS.items())
    return markdown_table(("what changes", "model arguments"), rows)


def _arguments_table() -> str:
    return markdown_table(("model argument", "meaning", "default"), iter(rows()))


def _metrics_table() -> str:
    given: dict[Measure, list[str]] = {}
    for metric in METRICS:
        for score in metric.gives:
            given.setdefault(score, []).append(f"`{metric.name}`")
    lines = ((f"`{one.name}`", one.meaning, one.unit, _better(one), ", ".join(by)) for one, by in given.items())
    return markdown_table(("metric", "meaning", "unit", "better", "computed by"), lines)


def _requirements_table() -> str:
    rows = (
        (
            one.what, one.source, f"only if equal{', or with `--allow sampling`' if one.what == 'sampling' else ''}",
            f"the name of the {one.named}" if one.named else "", "only if equal" if one.ranked else "",
        )
        for one in REQUIREMENTS
    )  # fmt: skip
    return markdown_table(("what was asked", "from", "compared", "named in", "ranked together"), rows)


def _better(score: Measure) -> str:
    return {True: "higher", False: "lower", None: ""}[score.higher_is_better]


def _generation_arguments() -> str:
    others = {name: [alias for alias, of in ALIASES.items() if of == name] for name in KNOWN}
    rows = ((f"`{name}`", text, " ".join(f"`{one}`" for one in others[name])) for name, text in KNOWN.items())
    return (
        "# Generation arguments\n\nSet them in a task's `generation_kwargs` or with `--gen_kwargs`. Unknown "
        f"arguments are an error.\n\n{markdown_table(('argument', 'meaning', 'other names'), rows)}"
    )


def _task_files() -> str:
    metadata = _fields("", "", Metadata).strip()
    return (
        f"{_fields('Task files', 'The lm-eval fields that benchmarks of this registry use.', TaskFile)}\n\n"
        f"## metadata\n\n{metadata}\n\n"
        f"## metadata.choices\n\n{_fields('', '', Choices).strip()}\n\n"
        f"## metadata.grading\n\n{_grading()}\n\n"
        "## In an editor\n\nThe schema of these fields is `tasks/schema.json`. In a checkout, VS Code with the YAML "
        "extension uses it. `tasks new` puts it beside the templates of a folder of benchmarks, and names it in the "
        "first line of a file: `# yaml-language-server: $schema=../schema.json`."
    )


def _sweeps() -> str:
    about = "The fields of a [sweep's](../howto/sweeps.md) manifest. Paths are relative to it."
    parts: dict[str, type[BaseModel]] = {
        "pruning": PlannedPruning, "exclude": Exclude, "launch.local": Local, "launch.slurm": Slurm, "launch.ray": Ray,
    }  # fmt: skip
    return "\n\n".join(
        [
            _fields("Sweep manifests", about, Manifest),
            *(f"## {name}\n\n{_fields('', '', model).strip()}" for name, model in parts.items()),
            "`lm-eval-tts sweep new` writes the schema of these fields beside the manifest and names it in its first "
            "line, so that editors complete them.",
        ]
    )


def _gates() -> str:
    about = (
        "The fields of a [gate](../howto/gate.md). Paths are relative to it; `launch` is that of [sweeps](sweeps.md)."
    )
    parts: dict[str, type[BaseModel]] = {
        "benchmarks": GatedBenchmark, "benchmarks.published": PublishedScore, "budget": GateBudget,
    }  # fmt: skip
    schema = "The schema of these fields, for completion in editors, is `lm_eval_ext/gating/schema.json`."
    tables = (f"## {name}\n\n{_fields('', '', model).strip()}" for name, model in parts.items())
    return "\n\n".join([_fields("Gates", about, GateFile), *tables, schema])


def _shrink() -> str:
    about = (
        "The fields of a [`shrink.yaml`](../howto/shrink.md). Paths are relative to it; `launch` is that of "
        "[sweeps](sweeps.md), and `gate` and `budget` those of [gates](gates.md)."
    )
    parts: dict[str, type[BaseModel]] = {
        "remove": Removable,
        "traces": TraceSource,
        "gate": ShrinkGate,
        "search": Search,
    }
    schema = "The schema of these fields, for completion in editors, is `lm_eval_ext/shrinking/schema.json`."
    tables = (f"## {name}\n\n{_fields('', '', model).strip()}" for name, model in parts.items())
    return "\n\n".join([_fields("Shrink files", about, ShrinkFile), *tables, schema])


def _grading() -> str:
    rows = (
        (f"`_{name}`", f"`{option}`", field.description or "", f"`{json.dumps(field.default)}`")
        for name, kind in KINDS.items()
        for option, field in kind.model_fields.items()
    )
    return markdown_table(("answers", "option", "meaning", "default"), rows)


def _fields(title: str, about: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    required = schema.get("required", ())
    fields = sorted(schema["properties"].items(), key=lambda field: field[0] not in required)
    rows = ((f"`{name}`", _kind(one), one.get("description", "")) for name, one in fields)
    return f"# {title}\n\n{about}\n\n{markdown_table(('field', 'kind', 'meaning'), rows)}".removeprefix("# \n\n")


def _kind(field: Mapping[str, object]) -> str:
    """`text or list`, from a JSON Schema."""
    words = {
        "string": "text",
        "integer": "whole number",
        "array": "list",
        "object": "mapping",
        "boolean": "true or false",
    }
    options = [part for one in _any_of(field) for part in _any_of(one)]
    kinds = [str(one.get("type", "mapping")) for one in options if one.get("type") != "null"]
    return " or ".join(dict.fromkeys(words.get(kind, kind) for kind in kinds))


def _any_of(field: Mapping[str, object]) -> list[dict[str, object]]:
    return [mapping(one) for one in sequence(field.get("anyOf", [field]))]


def _commands() -> str:
    import typer.main
    from typer.cli import get_docs_for_click

    from lm_eval_ext.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lm-eval-tts", title="Commands")
    return re.sub(r"\n{3,}", "\n\n", str(text))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
