"""Pushes a checkpoint to a repository on the Hub."""

from __future__ import annotations

from pathlib import Path

from lm_eval_ext.errors import ArgumentError


def push(folder: Path, repository: str, message: str, *, private: bool = False) -> str:
    """Upload a folder to a model repository, which is created if there is none; returns the address of the commit.

    The token is huggingface_hub's: that of `hf auth login`, or `HF_TOKEN`.

    Raises:
        ArgumentError: the Hub refuses, or cannot be reached; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        name = api.create_repo(repository, private=private, exist_ok=True).repo_id
        done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath, which changes
        reason = " ".join(str(error).split())[:300]
        raise ArgumentError(f"--push {repository}: {reason}; the checkpoint is in {folder}") from error
    return str(done.commit_url)
