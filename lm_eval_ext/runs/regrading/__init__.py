"""Regrades results with the current grader, from the saved texts and without a model.

Nothing is decoded again, and token counts are taken as recorded. Tasks that cannot be regraded keep their scores and
grader version: gated tasks of published runs, which contain no texts, and tasks whose samples were not saved.
"""
