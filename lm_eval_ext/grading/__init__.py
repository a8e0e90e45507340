"""Final answers, whether they equal the gold one, and votes."""

# Rises with every change by which an answer may be found or graded otherwise; scores of two versions are not compared.
# 1: all until versions were recorded. 2: answers are read whole, units and letters by the task, many languages.
GRADER_VERSION = 2

GRADING_METRICS = ("math_verify", "choice_match")  # those of a task's metrics that grade
COMPARED = ("correct", "wrong", "no answer")  # the reasons of a grade that nothing got in the way of
