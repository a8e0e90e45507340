"""Real inference servers in processes of their own, and requests to compare them with models in this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from lm_eval_ext.shrinking.divergence_report import CandidateDivergence

FIELDS = ("answer", "thinking_tokens", "answer_tokens", "forced", "finish_reason")


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Process:
    """A server's process, which can be killed and started again."""

    def __init__(self, command: Sequence[str | Path], port: int, log: Path) -> None:
        self.command, self.port, self.log = [str(part) for part in command], port, log
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )
        started = time.monotonic()
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() - started < 240, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it and everything it has started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def vllm_server(model_args: str, log: Path) -> Iterator[Process]:
    """`lm-eval-tts serve` on a CPU, in float32."""
    port = free_port()
    tool = Path(sys.executable).with_name("lm-eval-tts")
    options = ["--port", str(port), "--enforce-eager", "--max-model-len", "1024", "--generation-config", "vllm"]
    options += ["--gpu-memory-utilization", "0.4"]  # see tests/test_pruned_vllm.py
    process = Process([tool, "serve", f"{model_args},dtype=float32", "--", *options], port, log)
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def llamacpp_server(model: Path, log: Path) -> Iterator[Process]:
    """llama.cpp's server with four slots, all in float32."""
    port = free_port()
    process = Process([sys.executable, "-m", "tests.llamacpp", model, str(port)], port, log)
    try:
        yield process
    finally:
        process.kill()


def asked(prompts: Sequence[str], budgets: Sequence[int], repeats: int = 1, **options: Any) -> list[Instance]:
    """Requests for each prompt under each budget."""
    made = [
        Instance(
            "generate_until", {}, (prompt, {"thinking_token_budget": budget, **options}), 0,
            metadata=("t", number, repeats),
        )
        for number, (prompt, budget) in enumerate((prompt, budget) for prompt in prompts for budget in budgets)
    ]  # fmt: skip
    return [instance for instance in made for _ in range(repeats)]


def outcomes(model: Any, requests: list[Instance]) -> list[tuple[Any, ...]]:
    """Text and all that is known of it, by request."""
    return [
        (str(text), *(getattr(text, name) for name in FIELDS))
        for text in model.generate_until(requests, disable_tqdm=True)
    ]


def assert_lower_bound(served: CandidateDivergence, local: CandidateDivergence) -> None:
    """Check that a candidate behind a server diverges as the same candidate here, truncated."""
    assert served.truncated and not local.truncated
    assert served.divergence.kl is not None and local.divergence.kl is not None
    assert 0.8 * local.divergence.kl.estimate < served.divergence.kl.estimate <= local.divergence.kl.estimate
    for name in ("perplexity_ratio", "other_choice"):
        one, other = served.divergence.measures[name], local.divergence.measures[name]
        assert one is not None and other is not None and one.estimate == pytest.approx(other.estimate, abs=1e-5)
