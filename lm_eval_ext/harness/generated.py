"""Texts that were generated from Python: a sequence, and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.generation.request import Generation

if TYPE_CHECKING:
    import pandas


class GeneratedSample(NamedTuple):
    """One text of a model.

    Attributes:
        prompt: what it was asked.
        budget: thinking tokens that it had; None is no limit.
        number: of the sample; the same number under several budgets is one trace, cut.
        text: thinking and answer; `text.answer` is the answer, `text.thinking_tokens` how long it thought.
    """

    prompt: str
    budget: int | None
    number: int
    text: Generation


class GeneratedSamples(tuple[GeneratedSample, ...]):
    """Generated texts, by prompt, budget and number."""

    def to_frame(self) -> pandas.DataFrame:
        """One row a text: prompt, budget, number, answer, tokens of thinking and answer, forced, looped, text."""
        import pandas

        return pandas.DataFrame(
            {
                "prompt": one.prompt, "budget": one.budget, "number": one.number, "answer": one.text.answer,
                "thinking_tokens": one.text.thinking_tokens, "answer_tokens": one.text.answer_tokens,
                "forced": one.text.forced, "looped": one.text.looped, "text": str(one.text),
            }
            for one in self
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))
