"""Architectures for which dropping layers was found exact by the benchmarks, in transformers and in vLLM."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypedDict

import yaml


class Verified(TypedDict):
    """What `python -m benchmarks.architectures` found, and the transformers release that it used.

    Attributes:
        transformers: the release.
        exact: architectures from which dropping layers is exact.
        decoded: those that our engine decodes as transformers computes them.
    """

    transformers: str
    exact: list[str]
    decoded: list[str]


class VerifiedInVLLM(TypedDict):
    """What `python -m benchmarks.vllm_kinds` found for model types, and the release of vLLM that it used."""

    vllm: str
    kinds: dict[str, str]


@cache
def verified() -> Verified:
    """Contents of `verified.yaml`."""
    table: Verified = yaml.safe_load(Path(__file__).with_name("verified.yaml").read_text("utf-8"))
    return table


def verdict_in_vllm(kind: str) -> str:
    """What came out when layers of a model type were dropped in vLLM; `not tried` for most types."""
    return _vllm_table()["kinds"].get(kind, "not tried")


def vllm_tried() -> str:
    """The version of vLLM in which model types were tried."""
    return str(_vllm_table()["vllm"])


@cache
def _vllm_table() -> VerifiedInVLLM:
    table: VerifiedInVLLM = yaml.safe_load(Path(__file__).with_name("verified_vllm.yaml").read_text("utf-8"))
    return table
