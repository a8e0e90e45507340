"""Extracting final answers, grading them against the gold answer, and voting."""

# Bumped whenever a change may extract or grade an answer differently; scores of different versions are not compared.
# 1: everything before versions were recorded. 2: answers are read whole, units and letters by the task, many languages.
# 3: letters of choices also in small or full-width form, and where an option is called correct.
# 4: symbols and spellings of units, powers of ten with a unit, units after the box, empty lists, orders with arrows.
# 5: percentages within expressions, intervals and relations, alike with each antlr; decimals in relations; e^{0.5}.
# 6: LaTeX is read as a tree and answers by one grammar, whole or not at all; exact numbers are compared exactly;
#    declarations in more languages, and with what follows them.
# 7: denials and corrections in more words; products that depend on their order; units and nouns of other languages.
# 8: which option a reply chooses, sentence by sentence; what a reply concludes with that neither boxes nor declares.
# 9: what changes a value behind its unit or box; boxes that are denied; powers with `**`; where a value is taken.
# 10: labelled parts; logic, sets, groups, fields and chemistry in their notations; families with parameters.
# 11: what the last sentence says without a word that concludes; operations in words; two answers side by side are none.
GRADER_VERSION = 13

COMPARED = (
    "correct",
    "wrong",
    "no answer",
    "error",
    "output",
)  # the reasons of a grade that was reached without a failure
