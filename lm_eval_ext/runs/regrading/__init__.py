"""Results graded again by today's grader, from the texts that were kept and without a model.

Nothing is decoded again, and tokens are taken as they were told. What cannot be graded again keeps its scores and the
version of its grader: gated tasks of published runs, which hold no texts, and tasks whose samples were not kept.
"""
