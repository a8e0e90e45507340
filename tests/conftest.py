from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# `datasets` caches a folder by its name: a cache of its own keeps a run of the tests from reading the last one's rows.
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="lm-eval-tts-datasets-"))
# The tests need no network; without one, each model that isn't there is tried again for half a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.paths import TASKS
from lm_eval_ext.pruning.context import PruningContext
from tests.checkpoints import write_checkpoint
from tests.contexts import context_of
from tests.standins import write_standins
from tests.tokenizers import TEMPLATE, byte_tokenizer

pytest_plugins = ["tests.browsing"]  # the fixtures of the tests in a browser

# Speed is judged by the benchmarks; a test that is slow on a busy machine is right all the same.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

VOCABULARY = 300  # bytes, special tokens and thinking markers of the tests' tokenizer


def pytest_configure(config: pytest.Config) -> None:
    """A shell that runs something in the background makes it ignore Ctrl-C, and so would all that the tests start."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all that was imported, time and again."""
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked `long`, as make release-check does")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if "long" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; make release-check runs it (pytest --long)"))


@pytest.fixture(scope="session", autouse=True)
def _journal_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither read nor write the journal of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder: six random llama layers, a byte tokenizer that thinks in <think>, a chat template."""
    folder = write_checkpoint(
        "llama", tmp_path_factory.mktemp("tiny"), vocab_size=VOCABULARY, max_position_embeddings=512
    )
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_model: Path) -> PruningContext:
    """The same, as a model to be pruned."""
    return context_of(tiny_model, batch_size=3, samples=4)


@pytest.fixture(scope="session")
def smollm2() -> PruningContext:
    """A real small model to be pruned."""
    if not SMOLLM2.is_dir():
        pytest.skip(f"no model at {SMOLLM2} (make .models/smollm2/model.safetensors)")
    return context_of(SMOLLM2)


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.long), 4])
def batched(request: pytest.FixtureRequest, smollm2: PruningContext) -> PruningContext:
    """The real model, looking at so many texts at a time."""
    again = context_of(SMOLLM2, request.param)
    vars(again)["model"] = smollm2.model
    return again


@pytest.fixture
def original_hub(tmp_path: Path) -> Path:
    """A folder of datasets under the benchmarks' Hub names, with a few original questions, or with made-up rows."""
    source = Path(__file__).parent / "cases" / "hub"
    folder = Path(shutil.copytree(source, tmp_path / "hub"))
    write_standins(TASKS, folder)
    return folder
