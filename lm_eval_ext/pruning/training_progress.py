"""Progress of training, one line of the log at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

_LINES = 50  # in a training, at least a few seconds apart
_SECONDS = 5.0


def progress(logger: logging.Logger) -> TrainerCallback:
    """A callback of transformers' trainer that logs steps, loss, speed, and the time that is left."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers' type is unknown here
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = self.logged = time.monotonic()
            self.first = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            now, last = time.monotonic(), state.global_step == state.max_steps
            due = last or (state.global_step % max(1, state.max_steps // _LINES) == 0 and now - self.logged > _SECONDS)
            if due and logs and "loss" in logs:
                self.logged = now
                each = (now - self.began) / max(1, state.global_step - self.first)
                left = each * (state.max_steps - state.global_step)
                logger.info(
                    "step %d of %d, loss %.3f, %.2f s a step, %s left",
                    state.global_step, state.max_steps, logs["loss"], each, _clock(left),
                )  # fmt: skip

    return Progress()


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _clock(3725)
    '1:02:05'
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
