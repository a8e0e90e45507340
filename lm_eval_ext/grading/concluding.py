r"""The value that a reply concludes with where it neither boxes nor declares one: `So she has 12 apples in all.`

The last sentence is read, whole or not at all: it must say one value in plain words, besides those that it calls known
(`the 4 workers`). One that doesn't conclude (`so`, `in total`, a value alone in its line) must say the only value
of the text, or one that was computed. The words are in `extraction.yaml`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from lm_eval_ext.grading.arithmetic import computed
from lm_eval_ext.grading.boxes import BOLD, NUMBER, enumerated, formulas_in, joins, unit_after
from lm_eval_ext.grading.units import is_countable
from lm_eval_ext.grading.words import alternatives, lexicon, number_in_words

_LONGEST = 4_000  # characters from the end that are read
_FEW = 20  # characters at the end that may be `Q.E.D.`
_END = 300  # characters at the end that may say that there is no answer
_WORDS = 25  # of a clause that is read
_SENTENCE = 600  # characters of a sentence that is read


_words = partial(alternatives, kind="concluding")
_CODE = re.compile(r"```.*?(?:```|\Z)|~~[^~\n]{1,100}~~", re.DOTALL)
_MARKUP = re.compile(rf"{BOLD}|__(?!\w{{0,80}}_)|`|^>\s?|^#{{1,6}}\s+|</?[a-z]{{1,10}}\s*/?>", re.MULTILINE)
_PROVED = re.compile(r"\W*\b(?:Q\.?E\.?D)\b\W*$|\s*\([Aa]ns(?:wer)?\.?\)\W*$")
_HEADING = re.compile(r"(?im)^[^\w\n]*+(?:conclusion|in conclusion|final result|result|in summary)[^\w\n]*+\n++")
_ROWS = re.compile(
    r"\\begin\{(?P<name>aligned|align|gathered|gather|split|eqnarray|equation)(?P<star>\*?)\}"
    r"(?P<rows>(?:(?!\\begin\{|\$).){1,1500}?)\\end\{(?P=name)(?P=star)\}",
    re.DOTALL,
)
_ROW_END = re.compile(r"\\\\\*?(?:\[[^\]]*\])?")
_DISPLAYS = (("$$", "$$"), (r"\[", r"\]"), ("$", "$"))
_ENDED = re.compile(r"(?:[.!?。！？।)\]}$>|*✓∎■\d%€°\"]|[^\x00-\u024f]|=[^=\n.,]{1,40}\w|^[^\n.]{1,30})\s*$")
_OPEN = re.compile(rf"(?i)\b(?:{_words('open')})\b")
_DOUBTED = re.compile(rf"(?i)\b(?:{_words('doubted')})\b(?![^.]*\bbut\b)|n['’]t (?:true|think|believe)\b")
_SUPPOSED = re.compile(r"(?i)\b(?:if|unless|suppos\w+|assum\w+)\b(?![^.]*\bbut\b)|^\W*had\b")
_UNFINISHED = re.compile(rf"(?i)\b(?:{_words('unfinished')})\b")
# What else shows that a last sentence without a word that concludes is not the answer.
_GOES_ON = re.compile(
    rf"(?i)^\W*(?:(?:{_words('steps')})[\s,]+)*(?:{_words('plans')})\b|^\W*(?:but|then (?:s?he|they|we|it))\b"
    r"|^\W*(?:since|because|with|given)\b[^,]*$"
)
_NOT_LAST = re.compile(rf"(?i)(?<!\w)(?:{_words('not_last')})(?!\w)")
_LISTED = re.compile(r"\s*(?:\(?(?:[a-z]|\d{1,2}|i{1,3}v?)[.)]|[-*•])\s+(?=\S)")
_NAME = re.compile(r"\b(?:[A-Z][a-z]+|[A-Za-z])\b")
_ASIDE = re.compile(rf"(?i)(?:\A|(?<=[.!?]\s)|(?<=\n))[\W_]{{0,20}}+(?:{_words('asides')})(?!\w)(?s:.*)")
_RETRACTS = re.compile(
    rf"(?i)\b(?:{_words('retracts')})\b|(?:does|is|was|did|ca|wo)n['’]t\b|[.!] (?:his|they|the|so)\b"
)
_ENDS = re.compile(
    r"(?<=[^\s.][.!?])(?<!\b[A-Z]\.)(?<!i\.e\.)(?<!e\.g\.)(?<!approx\.)(?<!\bca\.)(?<!\bsq\.)\s+(?!=)|\n+|(?<=[。！？।])"
)
# Another way of writing the value that was said before.
_AGAIN = re.compile(
    r"(?i)\W*(?:numerically|as an? (?:decimal|percentage)|in decimals?|if an? decimal is wanted|equivalently)\b,?\s"
    r"(?:(?:this|that|it)(?: is|['’]s)|you (?:could|can|may) (?:say|write)|one gets)?\s?"
    rf"(?:about |roughly |approximately |≈ ?)*[$€£]?{NUMBER}(?: (?!so\b)[a-z]+){{0,2}}(?:, [^\d]*)?\W*"
)
_IN_BRACKETS = re.compile(r"\s*[(\[](?=[^()\[\]]*[a-z]{3} [a-z]+)[^()\[\]]*[)\]]\.?")
_IDLE = re.compile(rf"(?i)[^\w#]*(?:(?:{_words('idle')})[^\w#]*)*")
_CONCLUDES = re.compile(
    rf"(?i)(?<![A-Za-z])(?:{_words('concludes')}|(?P<weakly>{_words('weakly')})|(?P<elsewhere>{_words('elsewhere')}))(?![A-Za-z])[,:]?|∴|⇒|➡|\\therefore"
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

# Values in prose: `2√3`, `6½`, `n(n + 1)/2`, `10π ≈ 31.4`, `3:45 pm`, `2.4 million`, `one and a half`.
_PART = "[½¼¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]"
_IN_PARENTHESES = r"\([^()\n]{1,20}\)"
_FACTOR = (
    rf"(?>\d+ \d+/\d+|{NUMBER}{_PART}?(?:√\d+|π|[a-z](?![A-Za-z\d]))?(?:\^\d+)?|{_PART}|√\d+|π|∞"
    rf"|[b-hj-z]{_IN_PARENTHESES}|[b-hj-z](?![A-Za-z]))"
)
_TERM = rf"(?>{_FACTOR}(?:[/·×^]{_FACTOR}|{_IN_PARENTHESES})*)"
_SUM = rf"{_TERM}(?:\s[+−-]\s{_TERM})*+(?:\s≈\s{NUMBER})?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:\s?[AaPp]\.?[Mm]\b\.?)?"
_RATIO = r"\d+(?:\s?:\s?\d+)+|\d+(?= to \d+\W*$) to \d+"
_SCALED = rf"{NUMBER} (?:million|billion|trillion)\b"
_NUMBER_WORD = rf"(?:{'|'.join(map(str, lexicon()['numbers']))}|hundred)\b(?:[ -](?:and )?(?=\w))?"
_SHARE = (
    r"(?:(?:and )?an? half|half(?= an?\b)|(?:and )?(?:an?|three) quarters?|(?:an?|two|one) thirds?|a dozen"
    r"|(?:one |two |three )?(?:million|billion))"
)
_IN_WORDS = (
    rf"(?i:(?<![\w-])(?:(?!one\b(?![ -](?:hundred|and an? half)))(?:{_NUMBER_WORD})+(?:{_SHARE}\b)?(?<![ -])"
    rf"|{_SHARE}\b))"
)
_VALUE = re.compile(
    rf"#+|(?<![A-Za-z0-9_.,:/^=+(–—−-])(?:[$€£¥₹]\s?)?(?:{_CLOCK}|{_RATIO}|{_SCALED}|(?=[^a-z\s]|[a-z][\^(]){_SUM})"
    rf"(?![A-Za-z0-9_/^:)])(?!\.\d)(?!,\d)|{_IN_WORDS}(?![\w-])"
)
# Several together: `x < 2 or x > 3`, `x = 1 and x = 4`, `(3, -1)`, `7, 8 and 9`.
_SIGNED = rf"[-−]?{_SUM}"
_RELATION = rf"[a-z]\s?[<>≤≥]\s?{_SIGNED}"
_EQUATION = rf"[a-z]\s?=\s?{_SIGNED}"
_COMPOSITE = re.compile(
    r"(?<![\d=]\s)(?<![\w(\[])(?:"
    rf"(?:{_SIGNED}\s?[<≤]\s?)?{_RELATION}(?:,?\s(?:or|and)\s{_RELATION})*"
    rf"|{_EQUATION}(?:(?:,|,?\s(?:or|and))\s{_EQUATION})+"
    rf"|[(\[{{]{_SIGNED}(?:,\s?{_SIGNED})+[)\]}}]"
    r"|(?<!\d\s)\d+(?:, \d+)*,? and \d+(?=\W*$))"
)

# Forms of sentences -----------------------------------------------------------------------------------

_ALONE = re.compile(
    rf"\W*?(?:(?i:it|that)(?: is|['’]s) (?:#+|{_QUANTITY})|(?:#+|{_QUANTITY}(?![.)])))[\s*!]*"
    r"(?:[a-z]{3,}[\s*]*)?[.!]?"
)
_DEFINITE = re.compile(
    rf"(?i)(?:\b(?:over|in|within|during|of|for|from|across|among)\s)?\b(?:{_words('definite')})\s"
    rf"(?:other |remaining |first |last |same )?(?:{_QUANTITY}|{_IN_WORDS})(?!\d)(?!\s*[.=]*$)"
)
# What only says when, with what, at which rate or what for: `In 6 days he reads 42 pages`, `8 weeks to save $160`.
_SUBJECT = r"(?=(?:[Hh]e|[Ss]he|[Ii]t|[Tt]hey|[Ww]e|[Yy]ou|[Tt]h(?:e|ere|is)|[Ee]ach|[Ee]very|[A-Z][a-z]+)\b)"
_EARLIER = re.compile(
    r"^\W*(?i:after|in|with|at|for|over|by|since|as|because|given|from|once|[a-z]{3,}ing)\b[^;]{0,200}?[\d#]"
    rf"[^,;]{{0,100}},\s{_SUBJECT}"
    rf"|^\W*(?i:after|in) {_QUANTITY} [a-z]+ {_SUBJECT}"
    rf"|\s(?:in|after|over) {_QUANTITY} [a-z]+\W*$|\s(?:in|by|since|until) [12]\d{{3}}\W*$|\safter [a-z]+ing\b.*"
    rf"|\s(?:for [a-z]+ing (?:[a-z]+ )?{_QUANTITY} [a-z]+ )?at (?:an? [a-z]+ of )?{_QUANTITY}(?: [a-z]+)?"
    r" (?:each|apiece|an?|per)\b(?: [a-z]+\W*$)?"
    r"|(?<=\d)((?: [a-z]+){0,3})(?<!need)(?<!needs)(?<!ha[sd])(?<!have)(?<!up)(?<!down) (?:in order )?to (?!be\b)"
    rf"[a-z]{{3,}}(?: [a-z]+){{0,4}} {_QUANTITY}[^\d#]{{0,80}}$"
)
# A subject with numbers of its own, of which the value at the end is said: `The next prime after 23 is 29`.
_OF_SUBJECT = re.compile(
    r"^\W*(?i:so|thus|hence|therefore)?,? ?(?i:the|its|their|his|her) (?:(?!\b(?:is|are|was|were|ha[sd]|have|gives?"
    r"|makes?|and the|but|if|when|or|not|then|leaves|becomes)\b)[^,;:=#])*?\b(?:is|are|was|were|equals)\b"
    r"(?= [^,;]*$|(?: -?\d+,)+[^,;]*$)"
)
_CLAUSE = re.compile(r"[,;:]\s|\b(?:and|so|but|which|that)\s")
# Arithmetic, perhaps with units, right before a value: `225 km / 2.5 h =`.
_COMPUTED = re.compile(r"(?<![\d.])((?:[\d.,]++(?: ?[a-z]{1,5}(?![a-z]))?+|[\s+*/×·÷−–()^!π²³%°$€£-])++)=\s*$")
_LINKED = re.compile(
    r"(?i)\b(?:is|are|was|were|ha[sd]|have|equals|by|at|gets?|needs?|orders?|costs?|takes?|lasts?|becomes|burned"
    r"|results in|probability|exactly)\s(?:therefore |thus |then |also |a |only )?[$€£]?$"
)
_FEW_WORDS = re.compile(r"(?: (?!each\b|per\b)[a-z²³/]+){0,4}[\s.!]*")
_COUNTED = re.compile(
    rf"(?i)(?:that |(?:[a-z'’]+ ){{1,4}}(?:{alternatives('verbs')}|to [a-z]+) )?{_QUANTITY}"
    r"((?: +(?!and\b|or\b)[a-z]+){1,8})\s*"
)
_TITLE = re.compile(r"(?i)\W*solution\b[^\n.]*")  # of a solution that doesn't follow
# What arithmetic results in: `3 * 4 = 12`, `\frac{30}{8} = 3.75`.
_RESULT = re.compile(
    r"(?:\d|\))[^=\n.;:\d]{0,20}(?:[+*/×·÷−–-]|\\(?:times|cdot|div)\b)\s*[^=\n;:]{0,60}=\s*"
    rf"(?P<value>{_QUANTITY})(?![\d.,]*\s*[+*/×·÷−–^-]\s*[\d(])"
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
_COMPUTES = re.compile(rf"(?:\d|\)|{_PART})[^=.;,]*[+*/×·÷−–-]\s*[$(]?(?:\d|{_PART})|\d[²³]\s*$")
_NUMERIC = re.compile(
    r"(?=.*(?:\d|e|\\pi))(?:[\s\d.,+\-*/^{}()!]|\\(?:[dt]?frac|sqrt|pi|cdot|times|left|right|binom|,)|(?<![A-Za-z\\])[ei]"
    r"|\\begin\{[pb]matrix\}[\s\d+\-/&\\]*\\end\{[pb]matrix\})+"
)
_GARBLED = re.compile(r"[\x00-\x08\x0e-\x1f\ufffd]")
_GIVES_VARIABLE = re.compile(r"(?:^|[,;\s])(?:[A-Za-z]|\([a-z](?:, ?[a-z])+\))\s*[=≈]\s*[^=\s][^=]*$")
_SAYS_WORDS = re.compile(r"(?<!\S)[\"'“(]*[A-Za-z][^\W\d_]*[a-z]{2}|[^\W\d_A-Za-z\u00c0-\u024f]{2}")
_AS_PYTHON = str.maketrans("×·÷−–", "**/--")


def _power(match: re.Match[str]) -> str:
    return f"({'*'.join([match[1]] * int(match[2]))})"


_SUPERSCRIPTS = {ord(digit): f"^{number}" for number, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹") if number}
_BY_HAND: list[tuple[re.Pattern[str], Any]] = [
    (
        re.compile(r"(?<![A-Za-z])C\((\d{1,2}), ?(\d{1,2})\)"),
        lambda found: str(math.comb(int(found[1]), int(found[2]))),
    ),
    (re.compile(r"(?<![\d.])(\d{1,2})!"), lambda found: f"({math.factorial(int(found[1]))})"),
    (re.compile(r"(\d+(?:\.\d+)?|\([^()]{1,40}\))\^([1-9])(?!\d)"), _power),
    (re.compile(r"(?<=[\d)])\s?π"), "*(3.14159265)"),
    (re.compile("π"), "(3.14159265)"),
    (re.compile(r"([\d.]+)\s*\\?%"), r"(\1/100)"),
    (re.compile(r"(?<=[\d)])\s*\("), "*("),
]
_SIDE = 80  # characters of a side of an equation that is computed
_ROUNDED = 0.01  # relative, between what is computed and what it is said to be
_UNLIKE_WORDS = re.compile(rf"(?i)(?<!\w)(?:{_words('unlike')})(?!\w)|n['’]t\b")
_UNLIKE = re.compile(rf"{_UNLIKE_WORDS.pattern}|{_words('unlike_signs')}|[-–—−]\s*;")
_CLOSERS = re.compile(
    r"(?i)\W*(?:let me know|please|would you|do you|(?:i )?hope|feel free|for (?:further )?practice|bonus|tip|verif"
    r"|check|let['’]s|let us|this|indeed|plugging|substituting|to (?:verify|check)|as a check|sanity|double)"
)
_CONTINENTAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:[. \u202f]\d{3})+|\d+)(?:,(\d{1,2}))?(?![\d])")


def concluded(text: str) -> str:
    r"""The value of the sentence that a text concludes with; empty if it says none, or several.

    >>> concluded("Ann has 3 bags of 4 apples. So she has 12 apples. Hope this helps!")
    '12'
    >>> concluded("So it is 12 or 13."), concluded("So she has 12 apples, and each of")
    ('', '')
    """
    if (end := _end_of(text)) is None:
        return ""
    if _ALONE.fullmatch(end.masked):
        return "" if _ALONE.fullmatch(end.sentence_before) else _value_of(end.sentence, end.masked)
    marks = list(_CONCLUDES.finditer(end.masked))
    if not marks or (marks[-1]["weakly"] and _UNFINISHED.search(f"{end.before} {end.masked}")):
        return ""
    return _said(end.sentence, end.masked)


def said_last(text: str) -> str:
    r"""The value of the last sentence of a text without any word that concludes: its only one, or what was computed.

    >>> said_last("Each slice costs $3.75."), said_last("She began with 30 marbles.")
    ('3.75', '')
    >>> said_last("6 * 7 = 42, so it takes some time. All take 42 minutes."), said_last("There are 4 boys and 3 girls.")
    ('42\\text{ minutes}', '')
    """
    end = _end_of(text)
    if end is None or _OF_ANSWER.search(end.before) or _GARBLED.search(text):
        return ""
    last = _blanked(end.masked, _BRACKETED, _REASONS, _CONTRAST)
    unfinished = (
        _UNFINISHED.search(f"{end.before} {end.masked}") or _GOES_ON.match(last) or _NOT_LAST.search(end.masked)
    )
    if unfinished or _are_parallel(end.sentence_before, end.masked) or not (_SAYS_WORDS.search(last) or _is_true(last)):
        return ""
    alone = "" if _CONCLUDES.search(last) else _value_of(end.sentence, last)
    known = not re.search(r"[\d#]", end.before) or "=" in last or _follows(alone, end.before_as_written)
    known |= alone not in end.before_as_written and _COMPOSITE.fullmatch(alone) is not None
    return alone if alone and known else _ends_with(end, last)


def _ends_with(end: _End, last: str) -> str:
    """The value that a sentence ends with, of a text that computes, if it is new or was computed there."""
    values = list(_COMPOSITE.finditer(last))[-1:] + list(_VALUE.finditer(last))[-1:]
    if not values or not _RESULT.search(f"{end.before_as_written} {end.sentence}"):
        return ""
    value = max(values, key=lambda found: found.end())
    left, right = last[: value.start()], re.sub(r"^°", "", last[value.end() :])
    equation = _COMPUTED.search(left)
    if equation and _agree([re.sub(r"[a-z°]", "", equation[1]), value[0]]):
        left = f"{left[: equation.start()]} is "
    others = left[max((found.end() for found in _CLAUSE.finditer(left)), default=0) :]
    if not (_LINKED.search(left) and _FEW_WORDS.fullmatch(right)) or _is_unlike(others, right) or _DOUBTED.search(left):
        return ""
    if re.search(r"(?:\b(?:is|are|was|were|has|had|have)\b|=)[^.;=]*[\d#][^.;=]*\band\b", left):
        return ""  # `the quotient is 7 and the remainder is 3`
    written = end.sentence[value.start() : value.end()].strip()
    known = _digits(written) in set(map(_digits, re.findall(NUMBER, end.before_as_written)))
    if re.search(r"[<>=]|\\[lg]eq?(?![a-z])", _plain(written)) or (
        known and not _follows(written, end.before_as_written)
    ):
        return ""
    return _plain(written) + unit_after(right)


class _End(NamedTuple):
    """The last sentence of a text, and what stands before it; masked as `_masked` does."""

    sentence: str
    masked: str
    before: str  # masked
    before_as_written: str
    sentence_before: str  # masked


def _end_of(text: str) -> _End | None:
    """The last sentence that is read; None if the text is cut, or says that there is no answer."""
    text = _CODE.sub(" ", text[-_LONGEST:])
    text = _MARKUP.sub("", _in_lines(text)).strip()
    text = text[:-_FEW] + _PROVED.sub(".", text[-_FEW:])
    text, headings = _HEADING.subn("So ", text)
    text += "." if headings and re.fullmatch(r"So [^.\n]{1,30}", text.rpartition("\n")[2]) else ""
    if not _ENDED.search(text) or _OPEN.search(text[-_END:]) or text.count("{") > text.count("}"):
        return None
    if (aside := _ASIDE.search(text)) and text[: aside.start()].strip():
        has_number = re.search(r"\d", aside[0]) and not _CLOSERS.match(aside[0])
        if has_number or _CONCLUDES.search(aside[0]) or _RETRACTS.search(aside[0]):
            return None
        text = text[: aside.start()].strip()
    masked = _masked(text)
    sentences = [place for place in _sentences(masked) if not _is_remark(masked[slice(*place)])]
    if not sentences or sentences[-1][1] - sentences[-1][0] > _SENTENCE or _TITLE.fullmatch(masked):
        return None
    start, stop = sentences[-1]
    last = masked[start:stop]
    other = _OF_ANSWER.search(last) or r"\boxed" in text[start:stop] or last.endswith("?")  # read before, or asked
    if other or (re.fullmatch(r"\s*\d{1,2}[.)]\s*", last) and len(sentences) > 1):  # the next item of a list
        return None
    sentence_before = masked[slice(*sentences[-2])] if len(sentences) > 1 else ""
    return _End(text[start:stop], last, masked[:start], text[:start], sentence_before)


def _in_lines(text: str) -> str:
    r"""A text with each equation of an `aligned` environment, and the like, as a formula of its own on its line."""

    def lines(match: re.Match[str]) -> str:
        before = text[: match.start()].rstrip()
        opened = next((signs for signs in _DISPLAYS if before.endswith(signs[0])), None)
        equations: list[str] = []
        for row in filter(None, (row.replace("&", " ").strip() for row in _ROW_END.split(match["rows"]))):
            if equations and re.match(r"=|\\approx", row):
                equations[-1] += f" {row}"
            else:
                equations.append(row)
        opening, closing = opened or _DISPLAYS[0]
        joined = f"{closing}\n{opening}".join(equations)
        return joined if opened else f"{opening}{joined}{closing}"

    return _ROWS.sub(lines, text)


def counted_in(sentence: str) -> str:
    """How many there are of what a sentence counts, besides numbers that it calls known; empty for any other.

    >>> counted_in("27 chairs in the 3 rooms"), counted_in("27 chairs or 3 rooms"), counted_in("7-fold symmetric")
    ('27', '', '')
    """
    masked = _blanked(_masked(sentence), _BRACKETED, _REASONS, _CONTRAST, _DEFINITE, _EARLIER)
    counted = _COUNTED.fullmatch(masked.strip(" ."))
    words = counted[1].split() if counted else []
    known = any(is_countable(" ".join(words[:length])) for length in range(1, len(words) + 1))
    return _value_of(sentence, masked) if known else ""


def _is_true(equation: str) -> bool:
    """Whether an equation without words gives a variable or a formula, or is of numbers and holds: no `8*9+6=3`."""
    sides = [side for side in re.split("[=≈]", equation.strip(" .\n")) if side.strip()]
    if _GIVES_VARIABLE.search(equation) or any(re.fullmatch(r"\s*#+\s*", side) for side in sides):
        return True
    if len(sides) > 2 and re.fullmatch(r"\s*[A-Za-z][\w₀-₉]{0,3}\s*", sides[0]):
        del sides[0]  # a name
    return any(re.search(r"\d\)*\s*[+*/×·÷−–²-]", side) for side in sides) and _agree(sides)


def _agree(sides: Sequence[str]) -> bool:
    """Whether all sides of an equation are arithmetic, of the same value but for rounding."""
    values = [value for side in sides if len(side) <= _SIDE and (value := _computed(side)) is not None]
    return len(values) == len(sides) and all(math.isclose(values[0], value, rel_tol=_ROUNDED) for value in values)


def _computed(side: str) -> float | None:
    """The value of arithmetic as it is written by hand: `5!/(3!·2!)`, `π · 4²`, `C(3, 2)/2^3`; None for other texts."""
    side = re.sub(r"[$€£]|(?<=\d),(?=\d{3})", "", side).translate(_SUPERSCRIPTS)
    for pattern, value in _BY_HAND:
        side = pattern.sub(value, side)
    found = computed(side.translate(_AS_PYTHON))
    try:
        return float(found.value) if found else None
    except OverflowError:  # such as 99!·99!
        return None


def _follows(value: str, before: str) -> bool:
    """Whether a text has a value as the result of an equation, or in the last cell of a table."""
    number = re.match(rf"{NUMBER}|[^\s]+", value)
    digits = rf"\s*[$€£]?\s*{re.escape(number[0])}" if number else ""
    return number is not None and re.search(rf"={digits}(?![\d.]*\d)|\|{digits}\s*\|\s*$", before) is not None


def _are_parallel(one: str, other: str) -> bool:
    """Whether two sentences give values of two things: `Tom is 12.` and `Ann is 7.`, `a = 12` and `b = 7`."""
    if _LISTED.match(one) and _LISTED.match(other):
        return True
    forms = [re.sub(r"\b(?:[A-Z][a-z]+|[A-Za-z])\b|[\d.,#]+", "@", side).strip(" .\n") for side in (one, other)]
    return forms[0] == forms[1] and _NAME.findall(one) != _NAME.findall(other)


def _is_unlike(before: str, after: str) -> bool:
    """Whether what stands around a value says something else than that it is the answer."""
    return _UNLIKE.search(re.sub(r"\s*[.!]\W*$", "", f"{before}; {after}")) is not None


def _digits(value: str) -> str:
    """A number without its currency and the commas between thousands."""
    return re.sub(r"[^\d.-]", "", value.replace("−", "-")).rstrip(".")


def _is_remark(sentence: str) -> bool:
    """Whether a sentence adds nothing: `Done.`, one in brackets, `That's quite a lot of writing!`."""
    if _AGAIN.fullmatch(sentence):
        return True
    if _RETRACTS.search(sentence):
        return False
    exclaims = sentence.rstrip().endswith("!") and not _VALUE.search(sentence)
    return bool(exclaims or any(form.fullmatch(sentence) for form in (_IDLE, _IN_BRACKETS)))


def _masked(text: str) -> str:
    """A text of the same length in which formulas are `#`, but not names, nor what stands between two amounts."""
    masked = list(text)
    for formula in formulas_in(text):
        content = text[formula.inside : formula.outside]
        if not re.search(
            r"^[A-Za-z]{1,3}$|[a-z]{2,} [a-z]{2,}|[.,;:]\s+[A-Za-z]{2}|^[\d.,]+ (?:[a-z|]|=)|[+*/×·÷−–-]\s*$|\n\n",
            content,
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
    as_said, masked = masked, _blanked(masked, _BRACKETED, _REASONS, _CONTRAST)
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
    clause_before = re.split(r"[,;:]\s(?=[^,;:]*$)", masked[: marks[-1].start()].rstrip(" ,") if marks else "")[-1]
    if (
        _SUPPOSED.search(masked[:start])
        or _DOUBTED.search(clause_before)
        or any(_RETRACTS.search(aside[0]) for aside in _BRACKETED.finditer(as_said))
    ):
        return ""
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
    for pattern in (_OF_SUBJECT, _DEFINITE, _EARLIER, _WHERE):
        without = _blanked(masked, pattern)
        masked = without if _VALUE.search(without) else masked
    masked = re.sub(r"\([a-z](?:, ?[a-z])+\) =", lambda names: " " * len(names[0]), masked)
    composites = list(_COMPOSITE.finditer(masked))
    if len(composites) == 1:
        (composite,) = composites
        before, after = masked[: composite.start()], masked[composite.end() :]
        if not re.search(r"[#\d]", before + after) and not _is_unlike(before, after):
            return composite[0].strip()
    equal = masked.rfind("=")
    if equal >= 0:
        left = masked[:equal]
        name = _ASSIGNED.search(left)
        if name and _is_solved(left[: name.start()], name[0].strip(" $")):
            left = ""  # `3x = 42 and x = 14`
        elif name and re.search(r"[\d#]", left[: name.start()]):
            return ""  # `the minimum is 4 at x = 2`
        sides = left.split("=")
        solved = all(_SOLVED.fullmatch(_right_before(side)) or _computes(side) for side in sides)
        number = re.match(rf"\s*({_SUM}|{_QUANTITY})(?![\d.,]*\d)", masked[equal + 1 :])
        solved |= len(sides) > 1 and number is not None and _agree([sides[-1], number[1]])
        if not solved or _UNLIKE_WORDS.search(left) or re.search(r"=[^=]*(?:,(?![^()]*\))|\band\b)", left):
            return ""  # `2x = 10`, `x = 5 and y = 3`
        clause, masked = clause[equal + 1 :], masked[equal + 1 :]
        if negative := re.fullmatch(rf"\s*([-−]\s?{_TERM})[\s.]*", masked):
            return negative[1]
    values = list(_VALUE.finditer(masked))
    formulas = [box for box in formulas_in(clause) if masked[box.start] == "#"]
    enumeration = all(joins(clause[left.end : right.start]) for left, right in pairwise(formulas))
    if len(values) == len(formulas) > 1 and enumeration:
        return enumerated(clause, formulas)
    if len(values) != 1 or len(clause.split()) > _WORDS:
        return ""
    (value,) = values
    before, after = re.sub(r"^\s*\(?\d{1,2}[.)]\s", "", masked[: value.start()]), masked[value.end() :]
    if re.search(r"\d", before + after) or _is_unlike(before, after):
        return ""
    written = clause[value.start() : value.end()].strip()
    if re.search("(?i:half|quarter|third)", written):  # `half an hour`
        after = re.sub(r"^( of)? an? ", " ", after)
    unit = unit_after(after)
    if re.fullmatch(r"\d+,\d", written) and re.match(r"\s?(?!is\b|are\b|and\b|or\b)[^\W\d_]{2}", after):
        written = written.replace(",", ".")  # not the list `2,3`
    return _plain(written) + unit


def _is_solved(left: str, name: str) -> bool:
    """Whether equations have one variable, and give no value of it yet: `3x = 42` before `x = 14`."""
    others = set(re.findall(r"(?<![A-Za-z])[a-z](?![A-Za-z])", left))
    return others == {name} and re.search(rf"(?<![\w+*/·×^−–-])(?<![+*/·×^−–-]\s){name}\s*=", left) is None


def _computes(side: str) -> bool:
    """Whether a side of an equation is a computation with numbers, and perhaps their units."""
    variable = re.search(r"\d[a-z](?![a-z])|(?<![\w ])\s*(?<!\d )\b[A-Za-z]\b(?!\w)", side)
    return variable is None and _COMPUTES.search(side) is not None


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


def last_side(formula: str) -> str:
    r"""The number at the end of what is computed; any other formula as it is.

    >>> last_side(r"a^2+b^2 = (a+b)^2-2ab = 25-14 = 11."), last_side("y = 2x + 1"), last_side("2x = 10")
    ('11', 'y = 2x + 1', '2x = 10')
    """
    left, equals, side = formula.rstrip(" .").rpartition("=")
    computed = _NUMERIC.fullmatch(left.rpartition("=")[2])
    whole = left.count("{") == left.count("}") and not left.rstrip().endswith(("<", ">", "\\", "!", ":"))
    numbers = [one for one in left.split("=") if re.fullmatch(r"[\s\d.+*/()-]+", one)]
    holds = not numbers or _agree([*numbers, side])
    return side.strip() if equals and whole and computed and holds and _NUMERIC.fullmatch(side) else formula


def _plain(value: str) -> str:
    """A value without what surrounds it: `12` for `$12`, `4.50` for `4,50`, `12` for `twelve`."""
    if formula := next(formulas_in(value, only_at_start=True), None):
        return last_side(value[formula.inside : formula.outside].strip().rstrip(",;"))
    if re.fullmatch(r"\D?\d+,\d{2}\D?", value):
        return value.replace(",", ".")
    number = number_in_words(value.lower())
    return re.sub(r"^[$€£¥₹]\s?", "", value).strip() if number is None else str(number)
