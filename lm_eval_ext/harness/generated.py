"""Texts generated through the Python API, as a sequence that converts to a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.generation.request import Generation

if TYPE_CHECKING:
    import pandas


class GeneratedSample(NamedTuple):
    """One generated text.

    Attributes:
        prompt: the prompt.
        budget: the limit on thinking tokens; None means no limit.
        number: index of the sample; samples with the same number under several budgets are cuts of one trace.
        text: thinking and answer; `text.answer` is the answer, `text.thinking_tokens` the length of the thinking.
    """

    prompt: str
    budget: int | None
    number: int
    text: Generation


class GeneratedSamples(tuple[GeneratedSample, ...]):
    """Generated texts, ordered by prompt, budget and number."""

    def to_frame(self) -> pandas.DataFrame:
        """A table with one row per text: prompt, budget, number, answer, token counts, forced, looped, text."""
        import pandas

        return pandas.DataFrame(
            {
                "prompt": one.prompt, "budget": one.budget, "number": one.number, "answer": one.text.answer,
                "thinking_tokens": one.text.thinking_tokens, "answer_tokens": one.text.answer_tokens,
                "forced": one.text.forced, "looped": one.text.looped, "text": str(one.text),
            }
            for one in self
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{len(self)} generated texts; to_frame() gives a table of them>"

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))
