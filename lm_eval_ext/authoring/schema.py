"""The published JSON Schema of task files, which editors read for completion (`tasks/schema.json`)."""

from __future__ import annotations

from typing import Any

from lm_eval_ext.authoring.prompt import instructions
from lm_eval_ext.authoring.task_fields import TaskFile
from lm_eval_ext.grading.kinds import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def task_schema() -> dict[str, Any]:
    """The schema of `TaskFile`, with the languages and the options of `grading` that there are."""
    schema = TaskFile.model_json_schema()
    options = {name: one for kind in KINDS.values() for name, one in kind.model_json_schema()["properties"].items()}
    metadata = schema["$defs"]["Metadata"]["properties"]
    metadata["language"] |= {"anyOf": [{"enum": list(instructions())}, {"type": "null"}]}
    metadata["grading"] |= {
        "anyOf": [{"type": "object", "properties": options, "additionalProperties": False}, {"type": "null"}]
    }
    return {"$schema": DIALECT, **schema}
