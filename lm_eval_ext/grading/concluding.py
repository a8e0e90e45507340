r"""The value that a reply concludes with where it neither boxes nor declares one: `So Natalia sold 72 clips altogether.`

The last sentence that says a value is read, without what only gives reasons, checks, supposes, asks or goes on to
something else. It must conclude (`so`, `in total`, a value alone in its line), and say one new value; else nothing is
read. The words are in `extraction.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from lm_eval_ext.grading.boxes import NUMBER, enumerated, formulas_in, joins, unit_after
from lm_eval_ext.grading.words import alternatives, lexicon, number_in_words, table

_LONGEST = 4_000  # characters from the end that are read
_FEW = 4  # words of a sentence such as `Great, that works!`
_END = 300  # characters at the end that may say that there is no answer


def _words(name: str) -> str:
    return re.sub(r"\|\s+", "|", str(table("extraction")["concluding"][name]))


_CODE = re.compile(r"```.*?(?:```|\Z)|~~[^~\n]{1,100}~~", re.DOTALL)
_MARKUP = re.compile(r"\*\*|__(?!\w{0,80}_)|`|^>\s?|^#{1,6}\s+|</?[a-z]{1,6}\s*/?>", re.MULTILINE)
_ENDED = re.compile(r"(?:[.!?。！？।)\]}$>|*✓∎■\d%€°]|[^\x00-\u024f]|=[^=\n.,]{1,40}\w)\s*$")
_OPEN = re.compile(rf"(?i)\b(?:{_words('open')})\b")
_ASIDE = re.compile(rf"(?i)(?:\A|(?<=[.!?]\s)|(?<=\n))[\W_]*(?:{_words('asides')})(?!\w)(?s:.*)")
_RETRACTS = re.compile(
    r"(?i)\b(?:but|wrong|incorrect|mistaken?|contradict\w*|ignore|doesn['’]t|not (?:match|hold|work|what))\b"
)
_ENDS = re.compile(
    r"(?<=[^\s.][.!?])(?<!\b[A-Z]\.)(?<!i\.e\.)(?<!e\.g\.)(?<!approx\.)(?<!\bca\.)(?<!\bsq\.)\s+|\n+|(?<=[。！？।])"
)
_SKIPPED = re.compile(rf"(?i)^\W*(?:{_words('skipped')})(?!\w)|\b(?:{_words('supposed')})\b|[?？]\W*$|[✓✔]\W*$")
_CONCLUDES = re.compile(
    rf"(?i)(?<![A-Za-z])(?:{_words('concludes')}|{_words('elsewhere')})(?![A-Za-z])[,:]?|∴|⇒|\\therefore"
)
_LEADS = re.compile(rf"(?i)(?<![A-Za-z])(?:{_words('concludes')}|{_words('elsewhere')})(?![A-Za-z])")
_ENDING = re.compile(rf"(?i)(?<![A-Za-z])(?:{_words('ending')})(?![A-Za-z])")
_ELSEWHERE = re.compile(rf"(?i)(?<![A-Za-z])(?:{_words('elsewhere')})(?![A-Za-z])")
_OF_ANSWER = re.compile(
    rf"(?i)\b(?:{alternatives('answer', 'english')}|{alternatives('answer', 'european')})(?!\w)|{alternatives('answer', 'other')}"
)
_BRACKETED = re.compile(r"(?<!\w)\((?![^()\d]{0,3}\d[\d.,\s]*\))[^()\n]*\w{2}[^()\n]*\)")
_REASONS = re.compile(rf"(?i),?\s(?:{_words('reasons')})\b(?:(?!;|,?\s(?:so|thus|hence|therefore)\b).)*")
_CONTRAST = re.compile(
    rf"(?i),?\s(?:and not|not|rather than|instead of|than)\s[^,.;#\d]{{0,20}}(?:\#+|[$€£]?{NUMBER})[^,.;\d]*"
)
_QUANTITY = rf"[$€£¥₹]?\s?{NUMBER}"
_VALUE = re.compile(rf"#+|(?<![A-Za-z0-9_.,/^-]){_QUANTITY}(?![A-Za-z0-9_/^])(?!\.\d)")
_IN_WORDS = re.compile(
    rf"(?i)(?<![\w-])(?!one\b)(?:(?:{'|'.join(map(str, lexicon()['numbers']))}|hundred|thousand|million|dozen)\b"
    r"(?:[ -](?:and )?(?=\w))?)+(?<![ -])(?!\w)"
)
# A sentence that is nothing but a value, or that ends with one after a colon.
_ALONE = re.compile(rf"\W*?(?:#+|{_QUANTITY})[\s.,*!)]*")
_COLON = re.compile(rf":\s*(?:#+|{_QUANTITY})[.\s]*$")
_TAKEN = re.compile(rf"(?i)\b(?:{_words('taking')})\s+[$€£]?$")
_CHANGED_BEFORE = re.compile(rf"(?i)\b(?:{_words('changing_before')})\s+[$€£]?$|\b(?:not|cannot|never)\b|n['’]t\b")
_CHANGED_AFTER = re.compile(rf"(?i)\s*(?:{_words('changing_after')})(?!\w)")


def concluded(text: str) -> str:
    r"""The value of the sentence that a text concludes with; empty if it says none, or several.

    >>> concluded("Ann has 3 bags of 4 apples. So she has 12 apples. Hope this helps!")
    '12'
    >>> concluded("So it is 12 or 13."), concluded("So she has 12 apples, and each of")
    ('', '')
    """
    text = re.sub(r"\W*\bQ\.?E\.?D\.?\W*$", ".", _MARKUP.sub("", _CODE.sub(" ", text[-_LONGEST:])).strip())
    text = re.sub(r"(?im)^\W*(?:conclusion|in conclusion|final result|result|in summary)\W*\n+", "So ", text)
    if not _ENDED.search(text) or _OPEN.search(text[-_END:]) or text.count("{") > text.count("}"):
        return ""
    if (aside := _ASIDE.search(text)) and text[: aside.start()].strip():
        if _CONCLUDES.search(aside[0]) or _RETRACTS.search(aside[0]):
            return ""
        text = text[: aside.start()].strip()
    masked = _masked(text)
    sentences = list(_sentences(masked))
    saying = [place for place in sentences if _says(masked[slice(*place)])]
    if not saying or not all(_is_idle(masked[slice(*place)]) for place in sentences[sentences.index(saying[-1]) + 1 :]):
        return ""
    last, before = (_blanked(masked[slice(*place)], _BRACKETED) for place in (saying[-1], saying[-2] if len(saying) > 1 else (0, 0)))
    if _OF_ANSWER.search(last):  # a declaration, which was read, or denied
        return ""
    said = _said(text[slice(*saying[-1])], last)
    form = next((form for form in (_ALONE.fullmatch, _COLON.search) if form(last)), None)
    if form is not None:
        return "" if form(before) else said
    return said if _CONCLUDES.search(last) or _is_restated(said, text[: saying[-1][0]]) else ""


def _is_restated(said: str, before: str) -> bool:
    """Whether a value is the last result of what stands before: `40 - 5 = 35. He has 35.`"""
    results = re.findall(rf"=\s*[$€£¥₹]?({NUMBER})(?!\s*[-+*/×·=^\d])", before)
    return bool(results) and said == results[-1].strip()


def _masked(text: str) -> str:
    """A text of the same length in which formulas are `#`, but not what stands between two amounts in dollars."""
    masked = list(text)
    for formula in formulas_in(text):
        content = text[formula.inside : formula.outside]
        if not re.search(r"^[A-Za-z]{1,3}$|[a-z]{2,} [a-z]{2,}|[.,;:]\s+[A-Za-z]{2}|^[\d.,]+ [a-z|]|\n\n", content):
            masked[formula.start : formula.end] = "#" * (formula.end - formula.start)
    return "".join(masked)


def _sentences(masked: str) -> Iterator[tuple[int, int]]:
    """Where each sentence starts and ends."""
    start = 0
    for end in _ENDS.finditer(masked):
        yield start, end.start()
        start = end.end()
    yield start, len(masked)


def _blanked(text: str, *patterns: re.Pattern[str]) -> str:
    """A text of the same length with spaces for what some patterns match."""
    for pattern in patterns:
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def _says(masked: str) -> bool:
    """Whether a sentence says a value that may be the answer."""
    return (re.search(r"[\d#]", masked) or _IN_WORDS.search(masked)) is not None and not _SKIPPED.search(masked)


def _is_idle(masked: str) -> bool:
    """Whether a sentence adds nothing: a question, a check, what is only supposed, or a few words."""
    return _SKIPPED.search(masked) is not None or len(masked.split()) <= _FEW


def _said(sentence: str, masked: str) -> str:
    """The one new value of a sentence; empty if it says several."""
    elsewhere = _ELSEWHERE.search(masked) is not None  # where a full stop groups thousands
    masked = _blanked(masked, _BRACKETED, _REASONS, _CONTRAST)
    for match in reversed(list(_CONCLUDES.finditer(masked))):
        if _VALUE.search(masked, match.end()) or _IN_WORDS.search(masked, match.end()):
            sentence, masked = sentence[match.end() :], masked[match.end() :]
            break
    else:
        if _LEADS.search(masked) and not _ENDING.search(masked):
            return ""  # `6 isn't even, so I start over`
    chain = masked.rfind("=")
    if chain >= 0 and len(_VALUE.findall(masked[chain:])) == 1:
        sentence, masked = sentence[chain + 1 :], masked[chain + 1 :]
    values = list(_VALUE.finditer(masked)) or list(_IN_WORDS.finditer(masked))
    new = [value for value in values if not _TAKEN.search(masked[: value.start()])] if len(values) > 1 else values
    formulas = [box for box in formulas_in(sentence) if masked[box.start] == "#"]
    enumeration = all(joins(sentence[one.end : two.start], "", "") for one, two in pairwise(formulas))
    if len(new) == len(formulas) > 1 and enumeration:
        return enumerated(sentence, formulas)
    if len(new) != 1:
        return ""
    (value,) = new
    before, after = masked[: value.start()], masked[value.end() :]
    if _CHANGED_BEFORE.search(before) or _CHANGED_AFTER.match(after):
        return ""
    return _plain(sentence[value.start() : value.end()].strip(), elsewhere=elsewhere) + unit_after(after)


def _plain(value: str, *, elsewhere: bool) -> str:
    """A value without what surrounds it: `12` for `$12`, `4.50` for `4,50`, `12` for `twelve`."""
    if formula := next(formulas_in(value, only_at_start=True), None):
        return value[formula.inside : formula.outside].strip()
    if re.fullmatch(r"\D?\d+,\d{2}\D?", value) or (elsewhere and re.fullmatch(r"\d{1,3}(?:\.\d{3})+", value)):
        return value.replace(".", "").replace(",", ".")
    number = number_in_words(value.lower().removeprefix("a "))
    return value.removeprefix("$").strip() if number is None else str(number)
