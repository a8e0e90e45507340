"""Extracting final answers, grading them against the gold answer, and voting."""

# Bumped whenever a change may extract or grade an answer differently; scores of different versions are not compared.
# 1: everything before versions were recorded. 2: answers are read whole, units and letters by the task, many languages.
GRADER_VERSION = 2

COMPARED = ("correct", "wrong", "no answer")  # the reasons of a grade that was reached without a failure
