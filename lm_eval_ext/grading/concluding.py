r"""The value that a reply concludes with where it neither boxes nor declares one: `So she has 12 apples in all.`

The last sentence is read, whole or not at all: it must conclude (`so`, `in total`, a value alone in its line) and say
one value in plain words, besides those that it calls known (`the 4 workers`). The words are in `extraction.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from lm_eval_ext.grading.boxes import BOLD, NUMBER, enumerated, formulas_in, joins, unit_after
from lm_eval_ext.grading.words import alternatives, lexicon, number_in_words

_LONGEST = 4_000  # characters from the end that are read
_FEW = 20  # characters at the end that may be `Q.E.D.`
_END = 300  # characters at the end that may say that there is no answer
_WORDS = 25  # of a clause that is read


_words = partial(alternatives, kind="concluding")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~[^~\n]{1,100}~~", re.DOTALL)
_BLOCK = re.compile(r"</(?:p|li|ol|ul|div|h\d|tr)>")
_MARKUP = re.compile(rf"{BOLD}|__(?!\w{{0,80}}_)|`|^>\s?|^#{{1,6}}\s+|</?[a-z]{{1,6}}\s*/?>", re.MULTILINE)
_PROVED = re.compile(r"\W*\b(?:Q\.?E\.?D)\b\W*$")
_HEADING = re.compile(r"(?im)^[^\w\n]*+(?:conclusion|in conclusion|final result|result|in summary)[^\w\n]*+\n++")
_ENDED = re.compile(r"(?:[.!?。！？।)\]}$>|*✓∎■\d%€°\"]|[^\x00-\u024f]|=[^=\n.,]{1,40}\w|^[^\n.]{1,30})\s*$")
_OPEN = re.compile(rf"(?i)\b(?:{_words('open')})\b")
_ASIDE = re.compile(rf"(?i)(?:\A|(?<=[.!?]\s)|(?<=\n))[\W_]*+(?:{_words('asides')})(?!\w)(?s:.*)")
_RETRACTS = re.compile(
    r"(?i)\b(?:but|wrong|incorrect|mistaken?|contradict\w*|ignore|doesn['’]t|not (?:match|hold|work|what))\b"
    r"|[.!] (?:his|they|the|so)\b"
)
_ENDS = re.compile(
    r"(?<=[^\s.][.!?])(?<!\b[A-Z]\.)(?<!i\.e\.)(?<!e\.g\.)(?<!approx\.)(?<!\bca\.)(?<!\bsq\.)\s+(?!=)|\n+|(?<=[。！？।])"
)
_IDLE = re.compile(rf"(?i)[^\w#]*(?:(?:{_words('idle')})[^\w#]*)*")
_CONCLUDES = re.compile(
    rf"(?i)(?<![A-Za-z])(?:{_words('concludes')}|(?P<elsewhere>{_words('elsewhere')}))(?![A-Za-z])[,:]?|∴|⇒|➡|\\therefore"
)
_ENDING = re.compile(rf"(?i)(?<![A-Za-z])(?:{_words('ending')})(?![A-Za-z])")
_OF_ANSWER = re.compile(
    rf"(?i)\b(?:{alternatives('answer', 'english')}|{alternatives('answer', 'european')})(?!\w)"
    rf"|{alternatives('answer', 'other')}"
)
_BRACKETED = re.compile(
    r"\s\((?=[^()]*(?:=|about|approx|≈|rounded|in total|altogether|after|which|not \d)\b)[^()]*\)"
    r"|\s\((?!in )(?:[^()\s]+ ){4,}[^()]*\)"
)
_REASONS = re.compile(rf"(?i),?\s(?:{_words('reasons')})\b(?:(?!;|,?\s(?:so|thus|hence|therefore)\b).)*")
_CONTRAST = re.compile(rf"(?i),\s(?:{_words('contrasts')})\s[^,.;]*|\s(?:rather than|instead of)\s[^,.;]*")
_QUANTITY = rf"[$€£¥₹]?\s?{NUMBER}"
_NUMBER_WORD = rf"(?:{'|'.join(map(str, lexicon()['numbers']))}|hundred)\b(?:[ -](?:and )?(?=\w))?"
_IN_WORDS = rf"(?i:(?<![\w-])(?!one\b(?![ -]hundred))(?:{_NUMBER_WORD})+(?<![ -]))"
_VALUE = re.compile(
    rf"#+|(?<![A-Za-z0-9_.,/^=+(–—−-]){_QUANTITY}(?![A-Za-z0-9_/^:)])(?!\.\d)(?!,\d)|{_IN_WORDS}(?![\w-])"
)
_ALONE = re.compile(rf"\W*?(?:(?i:it|that)(?: is|['’]s) )?(?:#+|{_QUANTITY}(?![.)]))[\s*!]*(?:[a-z]{{3,}}[\s*.!]*)?")
_COLON = re.compile(rf"(?i)\b(?:{_words('titles')})\b[^:\n]{{0,40}}:\s*(?:#+|{_QUANTITY})(?: [a-z]+)?[.\s]*$")
_NAME_OF = re.compile(r"\s(?:is|are|equals) (?=[^.]*#)")  # behind a formula that only names what the next one says
_DEFINITE = re.compile(
    rf"(?i)\b(?:{_words('definite')})\s(?:other |remaining |first |last |same )?{_QUANTITY}(?!\d)(?!\s*[.=]*$)"
)
_EARLIER = re.compile(
    rf"(?i)^\W*(?:after|in|with|at|for|over) {_QUANTITY}[^,#\d]*,|\s(?:in|after|over) {_QUANTITY} [a-z]+\W*$"
)
# Where the value is taken, which is not the value: `attained at x = 2`, `when n = 3`.
_WHERE = re.compile(
    r"(?i),?\s(?:which (?:is )?)?(?:(?:attained|achieved|reached|occurring|occurs|with equality) (?:at|when|for|if|by)"
    r"|by taking)\b[^.;]*"
    r"|,?\s(?:at|when|for|if)\s\$?[A-Za-z]\s?=\s?-?\d[\d.]*\$?(?=\W*$)"
)
_ASSIGNED = re.compile(r"(?<![A-Za-z])(?<![+*/×·÷^−–-]\s)(?<![+*/×·÷^−–-])\$?[A-Za-z](?:_\d)?\s*$")
# What may stand right before an equals sign: a name, or numbers that are computed.
_OPERATOR = re.compile(r"[+*/×·÷^−–-]")
_SOLVED = re.compile(r"[A-Za-z](?:_?\d)?\s*|[A-Za-z]{3,}\s*|[\d\s+*/×·÷().,$€£%–−-]*|#+\s*")
_UNLIKE_WORDS = re.compile(rf"(?i)(?<!\w)(?:{_words('unlike')})(?!\w)|n['’]t\b")
_UNLIKE = re.compile(rf"{_UNLIKE_WORDS.pattern}|{_words('unlike_signs')}|[-–—−]\s*;")
_CLOSERS = re.compile(
    r"(?i)\W*(?:let me know|please|would you|do you|(?:i )?hope|feel free|for (?:further )?practice|bonus|tip|verif"
    r"|check|let['’]s|this)"
)
_CONTINENTAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:[. \u202f]\d{3})+|\d+)(?:,(\d{1,2}))?(?![\d])")


def concluded(text: str) -> str:
    r"""The value of the sentence that a text concludes with; empty if it says none, or several.

    >>> concluded("Ann has 3 bags of 4 apples. So she has 12 apples. Hope this helps!")
    '12'
    >>> concluded("So it is 12 or 13."), concluded("So she has 12 apples, and each of")
    ('', '')
    """
    text = _MARKUP.sub("", _BLOCK.sub("\n", _CODE.sub(" ", text[-_LONGEST:]))).strip()
    text = text[:-_FEW] + _PROVED.sub(".", text[-_FEW:])
    text = _HEADING.sub("So ", text)
    if not _ENDED.search(text) or _OPEN.search(text[-_END:]) or text.count("{") > text.count("}"):
        return ""
    if (aside := _ASIDE.search(text)) and text[: aside.start()].strip():
        has_number = re.search(r"\d", aside[0]) and not _CLOSERS.match(aside[0])
        if has_number or _CONCLUDES.search(aside[0]) or _RETRACTS.search(aside[0]):
            return ""
        text = text[: aside.start()].strip()
    masked = _masked(text)
    sentences = [place for place in _sentences(masked) if not _IDLE.fullmatch(masked[slice(*place)])]
    if not sentences:
        return ""
    (start, end), before = sentences[-1], masked[slice(*sentences[-2])] if len(sentences) > 1 else ""
    last = masked[start:end]
    if _OF_ANSWER.search(last) or r"\boxed" in text[start:end] or last.endswith("?"):  # read before, denied, or asked
        return ""
    if (form := next((form for form in (_ALONE.fullmatch, _COLON.search) if form(last)), None)) is not None:
        return "" if form(before) or not before else _value_of(text[start:end], last)
    return _said(text[start:end], last) if _CONCLUDES.search(last) else ""


def _masked(text: str) -> str:
    """A text of the same length in which formulas are `#`, but not names, nor what stands between two amounts."""
    masked = list(text)
    for formula in formulas_in(text):
        content = text[formula.inside : formula.outside]
        if not re.search(
            r"^[A-Za-z]{1,3}$|[a-z]{2,} [a-z]{2,}|[.,;:]\s+[A-Za-z]{2}|^[\d.,]+ (?:[a-z|]|=)|\n\n", content
        ):
            masked[formula.start : formula.end] = "#" * (formula.end - formula.start)
    return "".join(masked)


def _sentences(masked: str) -> Iterator[tuple[int, int]]:
    """Where each sentence starts and ends."""
    start = 0
    for end in _ENDS.finditer(masked):
        yield start, end.start()
        start = end.end()
    yield start, len(masked)


def _said(sentence: str, masked: str) -> str:
    """The value of a sentence that concludes; empty if it says anything else than one value that is new."""
    masked = _blanked(masked, _BRACKETED, _REASONS, _CONTRAST)
    last = max((value.start() for value in _VALUE.finditer(masked)), default=-1)
    marks = [match for match in _CONCLUDES.finditer(masked) if match.end() <= last]
    marks = [
        match
        for match in marks
        if not (_ENDING.fullmatch(match[0].rstrip(",:")) and re.search(r"\d", masked[: match.start()]))
    ]
    if not marks and _CONCLUDES.search(masked) and not _ENDING.search(masked):
        return ""  # `6 isn't even, so I start over`
    start = marks[-1].end() if marks else 0
    if re.search(r"\d[^.;]*\band\b[^.;\d]*$", masked[: marks[-1].start() if marks else 0]):
        return ""  # `the quotient is 7 and the remainder is 3`
    clause, masked = sentence[start:], masked[start:]
    if any(match["elsewhere"] for match in marks[-1:]):
        grouped = _CONTINENTAL.sub(
            lambda number: re.sub(r"\D", "", number[1]) + (f".{number[2]}" if number[2] else ""), clause
        )
        clause, masked = grouped, _blanked(_masked(grouped), _BRACKETED, _REASONS, _CONTRAST)
    return _value_of(clause, masked)


def _value_of(clause: str, masked: str) -> str:
    """The value of a clause that says one, in plain words."""
    masked = _blanked(masked, _DEFINITE, _EARLIER, _WHERE)
    equal = masked.rfind("=")
    if equal >= 0:
        left = masked[:equal]
        name = _ASSIGNED.search(left)
        if name and re.search(r"[\d#]", left[: name.start()]):
            return ""  # `the minimum is 4 at x = 2`
        solved = all(_SOLVED.fullmatch(_right_before(side)) for side in left.split("="))
        if not solved or _UNLIKE_WORDS.search(left) or re.search(r"=[^=]*(?:,|\band\b)", left):
            return ""  # `2x = 10`, `x = 5 and y = 3`
        clause, masked = clause[equal + 1 :], masked[equal + 1 :]
    values = [value for value in _VALUE.finditer(masked) if not _NAME_OF.match(masked, value.end())]
    formulas = [box for box in formulas_in(clause) if masked[box.start] == "#" and not _NAME_OF.match(masked, box.end)]
    enumeration = all(joins(clause[left.end : right.start]) for left, right in pairwise(formulas))
    if len(values) == len(formulas) > 1 and enumeration:
        return enumerated(clause, formulas)
    if len(values) != 1 or len(clause.split()) > _WORDS:
        return ""
    (value,) = values
    before, after = masked[: value.start()], masked[value.end() :]
    if re.search(r"\d", before + after) or _UNLIKE.search(re.sub(r"\s*[.!]\W*$", "", f"{before}; {after}")):
        return ""
    said = _plain(clause[value.start() : value.end()].strip())
    return said + unit_after(after)


def _right_before(side: str) -> str:
    """What stands right before an equals sign: a word, or several with signs between them."""
    words: list[str] = []
    for word in reversed(re.split(r"[,:;]", side)[-1].split()):
        if words and not (_OPERATOR.fullmatch(word) or _OPERATOR.fullmatch(words[-1])):
            break
        words.append(word)
    return " ".join(reversed(words))


def _blanked(text: str, *patterns: re.Pattern[str]) -> str:
    """A text of the same length with spaces for what some patterns match."""
    for pattern in patterns:
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def _plain(value: str) -> str:
    """A value without what surrounds it: `12` for `$12`, `4.50` for `4,50`, `12` for `twelve`."""
    if formula := next(formulas_in(value, only_at_start=True), None):
        return value[formula.inside : formula.outside].strip()
    if re.fullmatch(r"\D?\d+,\d{2}\D?", value):
        return value.replace(",", ".")
    number = number_in_words(value.lower())
    return re.sub(r"^[$€£¥₹]\s?", "", value).strip() if number is None else str(number)
