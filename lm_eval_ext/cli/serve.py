"""`lm-eval-tts serve`: a vLLM server whose model lacks some layers."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from lm_eval_ext.errors import EngineError


def serve(
    model_args: Annotated[str, typer.Argument(help="As for lm_eval: pretrained=ORG/NAME,drop_layers=[25,26].")],
    rest: Annotated[list[str] | None, typer.Argument(help="After `--`: options of vllm serve.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the command.")] = False,
) -> None:
    """Serve a model with dropped layers by vLLM, for anything that talks to OpenAI's API.

    The model is named after what was dropped. Evaluate it with `lm_eval --model tts-server`.
    """
    from lm_eval_ext.harness.serving import serve_command

    command = serve_command(model_args, rest or [])
    print(shlex.join(command), flush=True)
    if dry_run:
        return
    try:
        os.execvp(command[0], command)  # it is the user's own command
    except FileNotFoundError as error:
        raise EngineError("vLLM is not installed here; pip install 'lm-eval-tts[vllm]', or see --dry-run") from error
