from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lm_eval_ext.pruning.subject import Subject
from tests.checkpoints import write_checkpoint
from tests.shared import SMOLLM2
from tests.subjects import subject_of
from tests.tokenizers import TEMPLATE, byte_tokenizer

# Speed is judged by the benchmarks; a test that is slow on a busy machine is right all the same.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

VOCABULARY = 300  # bytes, special tokens and thinking markers of the tests' tokenizer


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
def tiny(tiny_model: Path) -> Subject:
    """The same, as a model to be pruned."""
    return subject_of(tiny_model, batch_size=3, samples=4)


@pytest.fixture(scope="session")
def smollm2() -> Subject:
    """A real small model to be pruned."""
    if not SMOLLM2.is_dir():
        pytest.skip(f"no model at {SMOLLM2} (make .models/smollm2/model.safetensors)")
    return subject_of(SMOLLM2)


@pytest.fixture(scope="module", params=[1, 4])
def batched(request: pytest.FixtureRequest, smollm2: Subject) -> Subject:
    """The real model, looking at so many texts at a time."""
    again = subject_of(SMOLLM2, request.param)
    vars(again)["model"] = smollm2.model
    return again


@pytest.fixture
def original_hub(tmp_path: Path) -> Path:
    """A folder of datasets under the benchmarks' Hub names, with a few original questions."""
    source = Path(__file__).parent / "cases" / "hub"
    return Path(shutil.copytree(source, tmp_path / "hub"))
