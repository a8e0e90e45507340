"""Time to extract final answers from hostile texts, which must grow linearly with the length.

    python -m benchmarks.extract [--characters 1000000]

Prints the time for each text at half and at full length; a ratio far above two would be quadratic.
"""

from __future__ import annotations

import argparse
import time

from lm_eval_ext.grading.extraction import final_answer

UNITS = (
    "=", "(", r"\(", r"\[", "{", "}", "{}", r"\boxed{", r"\boxed{1}", r"\boxed{1} and ", "$", "$$", "**", " ", "\n",
    "1 ", "1,", "1/", "-1", r"\frac{", "answer: ", "answer: x ", "answer is ", "Final Answer: ", "The answer is (A) ",
    "<think>",
)  # fmt: skip
PLACES = ("boxed", "declared", "concluded", "last_expression")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=1_000_000)
    length = parser.parse_args().characters
    print(f"{'repeated':<22}{length // 2:>12,}{length:>12,}  ratio")
    for unit in UNITS:
        half, whole = (_seconds(unit * (size // len(unit))) for size in (length // 2, length))
        print(f"{unit!r:<22}{half:>10.2f} s{whole:>10.2f} s{whole / half:>7.2f}")


def _seconds(text: str) -> float:
    """Fastest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        final_answer(text, PLACES)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
