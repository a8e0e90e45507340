"""Extracting final answers, grading them against the gold answer, and voting."""

# Raised whenever a change may extract or grade an answer differently; scores of different versions are not compared.
# What each changed is in the changelog.
GRADER_VERSION = 13

COMPARED = (
    "correct",
    "wrong",
    "no answer",
    "error",
    "output",
)  # the reasons of a grade that was reached without a failure
