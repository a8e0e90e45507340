"""Answers that a text declares, in any language: `The answer is 5`, `#### 5`, `答えは5です`.

An answer is the whole clause that is declared. What only introduces it or gives reasons for it is left out; anything
else stays, and then it may be no answer that can be read. The words of each language are in `extraction.yaml`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from lm_eval_ext.grading.boxes import (
    BOLD,
    NUMBER,
    Box,
    formulas_in,
    is_counted,
    joins,
    unit_after,
    with_unit,
    without_formulas,
)
from lm_eval_ext.grading.concluding import counted_in
from lm_eval_ext.grading.letters import SPECIES, chosen_letter
from lm_eval_ext.grading.units import is_countable
from lm_eval_ext.grading.words import alternatives, counted_elsewhere, lexicon, number_in_words, table

# Underscores are emphasis, but not those of names in code, such as `self._answer`.
_WORD_START, _WORD_END = r"(?:\b|(?<=(?<![\w.])_)|(?<=(?<![\w.])__))", r"(?:\b|(?=_{1,2}(?!\w)))"


def _declaration(kind: str) -> str:
    """A declaration in one kind of language: `answer`, adjectives, `is` or a colon or dash."""
    answer, adjective, copula, lead = (alternatives(name, kind) for name in ("answer", "adjective", "is", "lead"))
    word, end = (_WORD_START, _WORD_END) if kind != "other" else ("", "")
    said = rf"\s*+(?:(?:{copula}){end}|[:：=])[:：=\s*_\"]*+(?:</?(?:b|strong|i|em|u|p)>\s*+)*+|\s+(?:[-–—]|→)\s++"
    heading = (
        r"|\**+[ \t]*+\n\s*+"
        if kind == "english"
        else r"|(?<=సమాధానం)[ \t]++|(?<=उत्तर)[ \t]++(?=[$\d(\\])|(?<=ный ответ)[ \t]++(?=-?\d)|(?=\b[A-J]\b)"
    )
    return (
        rf"(?P<{kind}>{word}(?:{answer}){end}(?:[\s*_]*+(?:{adjective})){{0,2}}[*_)\]\"]*+(?:{said}{heading})"
        rf"(?:(?:{copula}){end}\s*+)?(?:(?:{lead}){end}[,\s]*+)*+)"
    )


_ANY = "|".join(alternatives("answer", kind) for kind in ("european", "other", "english"))
_DECLARED = re.compile(
    rf"(?i)(?:{'|'.join(map(_declaration, ('european', 'other', 'english')))})"
    rf"(?!\W*+(?:the\s++)?(?:final\s++)?(?:{_ANY}))(?=\S)"
)
_FINAL = re.compile(
    r"(?im)^[^\w\n]*+(?:(?:so|thus|hence|therefore)\W++)?(?:(?:the|my)\s++)?(?:final\s++answer|最终答案|最終答案)\b"
)
# Begins a remark behind a final answer.
_REMARK = re.compile(
    r"(?i)(?![^\n]*\b(?:question|must|so|correct|answer|divide|double|want)\b)"
    r"\W*(?:\((?:the|here)\b[^()\n]*\b(?:is|was)\W*$|recall\b[^\n]*=\s*$)"
)
_DENIED = re.compile(rf"(?i)(?:{alternatives('denied')})$")
_DENIED_AFTER = re.compile(
    r"(?i)(?:[^\n.;?()]|\.\d){1,40}"
    r"(?:,? (?:which|that) (?:is|was) |\s\((?:this is )?|\.\s(?:(?:but|however),?\s)?(?:this|that|my) answer is )"
    r"(?:wrong|incorrect)\b"
    r"(?! (?:if|for|unless|when|only|in)\b)"
    r"|[^\n.;?]{1,30}\? No\b"
)
_OTHERWISE = re.compile(
    r"(?i)^\W*(?:if|extension|in the original|in (?:binary|hexadecimal|octal)|for comparison|had)\b"
)
_MOST_DECLARED = 20  # declarations considered, from the last; an output that loops has thousands
_LONGEST = 2_000  # characters of one
_FIRST_ITEMS = 3  # numbers of items that a list begins with; a higher one may be an answer
_BEFORE = 80  # characters before a declaration that may deny it
_MARKED = re.compile(rf"####[ \t]*+(\S[^\n]{{0,2000}})$|.{{0,600}}\d.{{0,300}}[.!?] ####[ \t]*+([$€£]?{NUMBER})$")
_MARKED_VALUE = re.compile(rf"(?m)^####[ \t]*+([$€£]?{NUMBER})[ \t]*+$")
# `28 is the final answer`, `This gives us 28 as our final answer`.
_CALLED = re.compile(
    rf"(?i)(\$[^$\n]{{1,200}}\$|(?<![\w.,\\]){NUMBER})\*{{0,2}},?\s(?:(?:which )?is|as|being)"
    r"\s(?:the|our|my)\s(?:final|correct)\sanswer(?=[.!]?\s*$)"
    rf"|\A\**(?P<first>\$[^$\n]{{1,200}}\$|{NUMBER})\** is the (?:final |correct )?answer(?=[.:;!])"
)
_TAGGED = re.compile(r"<((?:final_?)?answer|final)>((?:(?!<\1>).){1,2000}?)</\1>", re.DOTALL)
_FIELD = re.compile(r"(?i)\"(?:final[ _])?answer\"\s*:\s*(?:\"([^\"\n]{1,300})\"|(-?[\d.]+))\s*[,}]")
# A second form of a value, which must be equal to the first: `(equivalently 1.5)`, `, approximately 1.414`.
_AGAIN = re.compile(
    r"(?i)(?:,\s*)?\(?(?:or\s)?(?:(?P<equal>equivalently|equal to|i\.e\.,?)|approx(?:imately|\.)|roughly|about)\s"
    rf"\$?(?P<value>{NUMBER}|(?<=\$)[^$]+)\$?\)?"
)
# What is said instead of a value that is denied, and what explains a number in brackets after it.
_NOT_BUT = re.compile(rf"(?i)(?:{alternatives('not')})\s[^,.;]{{1,30}},?\s(?:{alternatives('but')})\s(.+)")
_EXPLAINED = re.compile(rf"([$€£]?{NUMBER})((?:\s[^\W\d_]+)*)\s\((?!mod|base|in |\\)(?=[^()]*[^\W\d_]{{3}})[^()]*\)")
# `15 apples (20 - 8 + 3 = 15)`, `twelve (12)`.
_REPEATED = re.compile(rf"([$€£]?{NUMBER}|[a-z-]+)((?:\s[^\W\d_]+){{0,3}})\s\((?:[^()]*=\s*)?[$€£]?({NUMBER})\)\W*$")
_CONTRASTS = [
    (re.compile(pattern.replace("~", r"(?![\s:：])[^\s,.;:。，、][^,.;:\n。，、]{0,20}?")), instead)
    for instead, patterns in table("extraction")["contrasts"].items()
    for pattern in patterns
]
# `\textbf{Answer:} 5`, `**Answer.** 5`, `Ans. 5`, and `A: 5` or `TL;DR: 5` at the start of a text.
_LABEL = re.compile(r"(?i)\\text\w*+\s*+\{\s*+((?:the\s++)?(?:final\s++)?answer)\s*+(?:[:：]\s*+\}|\}\s*+[:：])")
_HEADING = re.compile(r"(?im)^([^\w\n]*+(?:final )?ans(?:wer)?)\.\**[ \t]+(?=[$\d\\(-])")
_HEADED = re.compile(
    rf"(?im)^((?:#{{1,6}}[ \t]*|\*\*)[^\n.:：]{{0,25}}?(?:{alternatives('answer', 'other')}"
    rf"|{alternatives('answer', 'european')}))\**[ \t]*\n++(?=\S)"
)
_FIRST = re.compile(r"(?i)\A\W*(?:a|tl;?dr):\**\s+(?=[$€£]?\d)")
_TIMES = re.compile(r"(?<=\d) x (?=\d)")
# A value and nothing else.
_PLAIN = re.compile(rf"[$€£]?{NUMBER}(?:\s+\w+)?|(?=.*[\d\\^=])(?!.*[A-Za-z]{{3,}} [A-Za-z]{{2,}})[^\n]{{1,200}}")
MARKUP = re.compile(
    rf"{BOLD}|^#{{1,6}}\s+(?=[\d$*])|__(?!\w{{0,80}}_)|`|</?(?:b|i|strong|em|p)>|[✅✓✔️□■\U0001f300-\U0001faff]"
)
_BULLET = re.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.)])\s+(?=\S)")
SENTENCE_END = re.compile(
    rf"(?<![A-Z])(?<!\bRs)(?<!\bapprox)(?<!\bca)(?<!\bi\.e)(?<!\bsq)(?<!\bft)[.?](?=\s(?!(?:{SPECIES})\b)|$)"
    r"|(?<![)])(?<!\b[a-z])!(?=\s*$|\s+[A-Z])|[。．！？।]|\n"
)
_FACTORIAL = re.compile(r"(?:\((?![^()]*[A-Za-z]{3})[^()]*\)|\b[a-zA-Z])!\.?$")
# In what stands behind a semicolon: it says more than a reason.
_NO_REMARK = (
    "also|other|another|plus|minus|times|twice|double|half|wrong|incorrect|mistaken?|not|then|more|less|should|if"
)
_REASON = re.compile(
    rf"(?i),?\s++(?:{alternatives('reasons')})(?!\w)|,?\s*\((?:{alternatives('in_brackets')})\b[^()]*\)"
    r"|\s[–—-]\s(?=(?:[A-Z]?[a-z]+,? ){2})|(?<=[\d#]):\s(?=(?:[a-z]+,? ){3})"
    rf"|;\s(?=(?:this|that|it|you|we)\b)(?![^.]*(?:[\d#]|\b(?:{_NO_REMARK})\b))"
)
_POLITE = re.compile(rf"\s*(?:{alternatives('endings')})\s*$")
_QUANTITY = re.compile(rf"(?P<number>\$?{NUMBER})(?!(?:st|nd|rd|th)\b)(?P<rest>\s*+[^\d]*)$")
# `there are 12 apples`, `she has 12 apples`
_FRAME = re.compile(
    rf"(?i)^(?:[a-z',’ -]{{0,80}}\b(?:{alternatives('verbs')})\s+)(?:exactly\s+|only\s+|about\s+|a total of\s+)?"
    r"(?=[$\d+−-])"
)
# `Jane started 3 hours ago`: the only number, of a quantity, with nothing before it that takes it.
_BEFORE_NUMBER = re.compile(rf"(?i)^[a-z',’ -]{{0,80}}\b(?!(?:{alternatives('taking')})\b)[a-z]+\s+(?=[$\d])")
_CONDITION = re.compile(r"(?i)\b(?:when|if|where|unless|except|than|that|not|but|least|most|without)\b|n['’]t\b")
# In a Chinese clause that says something else than how many there are.
_NOT_COUNTED = "不没未无非过超约近倍半负至最每第比少大小乘加减除若如果已题错误以另先前"
_AFTERWARDS = re.compile(r"\s+(?:in (?:all|total)|altogether)$")
_VALUE = re.compile(
    r"[+\-−±√∞π<>≤≥=|]?\s*(?:[\d.\\({\[$∅π∞√]|-?\d)|[A-Za-z](?:_?\d)?(?:\s*[=<>≤≥∈^+*/(,-]|$)|[A-Za-z]\w{0,7}\s*=\s*\S"
)
_CONTINENTAL = re.compile(r"(?<![\d.,])([+\-−]?\d+),(\d{1,2}|\d{4,})(?![\d.,])")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+)(?![\d.,])")
_IN_WORDS = re.compile(
    r"^(?=[^=]*[A-Za-z]{2})(?:[A-Za-z][^-=+*/\d\\]*\s)?[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?"
    rf"(?:\s*[-+*/×]\s*[+-]?\d+(?:\.\d+)?(?:\s*\([A-Za-z][^()=\d]*\))?)+\s*=\s*({NUMBER})$"
)  # "8 (the old ones) + 6 (the new ones) = 14"
# Not after `St.` or an initial.
_TEXT_END = re.compile(r"(?<=[a-z\d]{2})(?<!\b[A-Z][a-z])(?<!\bMrs)(?<!\bRev)(?<!\bGen)[.!?]\s+(?=[A-Z])|[。！？]")


def said_after(text: str, place: int) -> str:
    """The value that a text declares after its last box, of which `place` is the end; empty if there is none.

    After `Final answer:` it may be anything that says a value, else only a formula or a number.
    """
    finals = [
        match.start()
        for match in _FINAL.finditer(text, place)
        if _DECLARED.search(text, match.start(), match.end() + 40)
    ]
    if finals and (is_value(answer := declared(text[finals[-1] :])) or not place):
        return answer
    if not place:
        return ""
    rest = text[place:]
    of_another = _OTHERWISE.match(rest.lstrip("$.})] \n"))
    after = [] if of_another else declarations(re.sub(r"(?i)answer would be", "", rest))
    values = (answer for answer in after if is_value(answer) and _PLAIN.fullmatch(answer))
    return next(values, "") or _called(rest)


def said_before_remarks(text: str, boxes: Sequence[Box]) -> str:
    """What a text calls its final answer, if all boxes behind that only remind of something; else empty."""
    final = next(_FINAL.finditer(text), None)
    after = [box for box in boxes if final and "\n" in text[final.end() : box.start]]
    remarks = [_REMARK.match(text, text.rfind("\n", 0, box.start) + 1, box.start) for box in after]
    if final is None or not after or not all(remarks):
        return ""
    return declared(text[: text.rfind("\n", 0, after[0].start)].rstrip())


def without_denied(text: str) -> str:
    """`答えは24です` for `答えは18ではなく24です`: what is said in place of a value that is denied."""
    text = _HEADED.sub(r"\1: ", text)
    text = _FIRST.sub("Answer: ", _HEADING.sub(r"\1: ", _LABEL.sub(r"\1: ", text)))
    for pattern, instead in _CONTRASTS:
        text = pattern.sub(instead, text)
    return text


def declared(text: str) -> str:
    """What is marked as the answer, or the last declaration that says a value."""
    return _marked(text) or next(iter(declarations(text)), "") or _called(text)


def _called(text: str) -> str:
    """The value that the end of a text calls the final answer, and that nothing before it denies."""
    called = _CALLED.search(text[-_LONGEST:])
    denied = called and re.search(r"(?i)\b(?:not|if|whether|n['’]t)\b[^.\n]*$", text[-_LONGEST:][: called.start()])
    if called and called["first"] and re.findall(NUMBER, called["first"])[-1:] != re.findall(NUMBER, text)[-1:]:
        return ""  # what follows comes to something else
    return clause(called[1] or called["first"], kind="english") if called and not denied else ""


def _marked(text: str) -> str:
    """The text after the last `####`, within the last `<answer>`, or of the field `answer` of JSON."""
    inner = _as_marked(text)
    if "\n" in inner and _DECLARED.search(inner):
        return next(iter(declarations(inner)), "")
    answer = MARKUP.sub("", inner.rpartition("\n")[2]).strip()
    formula = next(formulas_in(answer, only_at_start=True), None)
    if formula:
        return clause(answer, kind="english")
    return re.sub(r"(?<!\.)\.$", "", answer)


def _as_marked(text: str) -> str:
    """What is marked as the answer, as it is written; empty if nothing is, or if it is a heading."""
    if tagged := _TAGGED.findall(text):
        return str(tagged[-1][1]).strip()
    if fields := _FIELD.findall(text):
        return "".join(fields[-1])
    last = _MARKED.match(text.rstrip().rpartition("\n")[2])
    marked = (last[1] or last[2]).strip() if last else ""
    if marked and not re.match(r"\d+[.)]\s+[A-Z]|(?:Case|Note|Step|Part|Conclusion)\b", marked):
        return marked
    above = _MARKED_VALUE.findall(text)
    return above[-1] if above else ""


def declarations(text: str) -> list[str]:
    """Declared answers, the last one first; those that say no value come at the end."""
    matches = deque((match for match in _DECLARED.finditer(text)), maxlen=_MOST_DECLARED)
    answers = [
        (_of_declaration(text, match), _is_conditional(text, match))
        for match in reversed(matches) if not _is_denied(text, match)
    ]  # fmt: skip
    if len(set(answers)) > 1 and all(conditional for _, conditional in answers):
        return []  # `If the order counts, the answer is 5; if it doesn't, the answer is 6`
    return [answer for answer, _ in sorted(answers, key=lambda pair: (not is_value(pair[0]), pair[1]))]


def _is_denied(text: str, declaration: re.Match[str]) -> bool:
    """Whether what stands before a declaration denies it, or makes it one of what would be otherwise."""
    before = text[max(0, declaration.start() - _BEFORE) : declaration.start()]
    sentence = re.split(r"[.!?]\s|\n", before)[-1]
    if _DENIED_AFTER.match(text, declaration.end()):
        return True
    if "would be" in declaration[0] and re.match(
        r"[^.!?\n]*\bif\b", text[declaration.end() : declaration.end() + _BEFORE]
    ):
        return True
    supposed = r"\b(?:if|had|without|otherwise|unless|were)\b" if "would be" in declaration[0] else r"^\W*otherwise\b"
    return _DENIED.search(before) is not None or re.search(f"(?i){supposed}", sentence) is not None


def _is_conditional(text: str, declaration: re.Match[str]) -> bool:
    """Whether a sentence declares the answer to another question: `If the order matters, the answer is 42`."""
    sentence = re.split(r"[.!?]\s|\n", text[max(0, declaration.start() - _BEFORE) : declaration.start()])[-1]
    return _OTHERWISE.match(sentence) is not None


def last_declared(text: str) -> str:
    """The last declared answer as it is written, for answers that are not mathematics; empty if there is none.

    It is a formula, a block of bullets, or a line up to the end of its first sentence.
    """
    if said := _as_marked(text):
        return said
    matches = (match for match in _DECLARED.finditer(text) if not _is_denied(text, match))
    declared = deque((match.end() for match in matches), maxlen=_MOST_DECLARED)
    answers = [_as_written(text[place : place + _LONGEST]) for place in reversed(declared)]
    return next((answer for answer in answers if not _is_remark(answer)), answers[0] if answers else "")


def _as_written(given: str) -> str:
    if formula := next(formulas_in(given, only_at_start=True), None):
        return given[formula.inside : formula.outside].strip()
    lines = given.splitlines()
    bullets = list(takewhile(_BULLET.match, lines))
    if len(bullets) > 1:
        return "\n".join(line.strip() for line in bullets)
    said = _TEXT_END.split(lines[0].replace("**", "").strip())[0]
    return re.split(r", (?:since|because) ", said)[0].strip().rstrip("*.。")


def _is_remark(answer: str) -> bool:
    """Whether a declaration says something about the answer, not what it is, such as `consistent with all cases`."""
    return re.match(rf"(?i)(?:{alternatives('remarks')})(?!\w)(?!\s*[=.)])", answer) is not None and len(answer) > 1


def is_value(answer: str) -> bool:
    """Whether a declaration says a value: a number, a formula, a letter, or words that are an answer."""
    plain = answer.lower().strip(" .")
    if re.fullmatch(r"[\s(\[]*\$[\s$]*(?:\\[a-z]*\{?)?|\\[(\[]\s*(?:\\[a-z]*\{?)?", answer):  # it is cut
        return False
    if not answer or (_is_remark(answer) and not chosen_letter(answer)):
        return plain in lexicon()["nothing"] or plain in lexicon()["all_reals"]
    known = (*lexicon()["nothing"], *lexicon()["all_reals"], "none", "undefined", "infinity", "impossible")
    if _VALUE.match(answer) or chosen_letter(answer) or plain.startswith(known) or number_in_words(plain) is not None:
        return True
    return len(answer.split()) <= 3 and re.search(r"\d", answer) is None


def _of_declaration(text: str, match: re.Match[str]) -> str:
    """The value that a declaration says: its clause, or the lines below it."""
    given = text[match.end() : match.end() + _LONGEST]
    formula = next(formulas_in(given, only_at_start=True), None)
    ended = formula.end if formula else next((found.end() for found in re.finditer(r"\\end\{[a-z*]+\}", given)), 0)
    if formula or given.startswith(r"\begin"):  # on several lines
        given = given[:ended].replace("\n", " ") + given[ended:]
    lines = given.split("\n")
    first, below = lines[0], "\n" in match[0]
    if below:
        first = lines[0] = re.sub(r"^>\s+", "", first)
    following = next((line for line in lines[1:] if line.strip()), "")
    below |= _assign_differently(first, following)
    below |= all(re.fullmatch(r"\W*[A-J]\W*", line) for line in (first, following))
    if not below and not (_BULLET.match(first) and "\n" in given) and not first.rstrip().endswith(","):
        sentence = SENTENCE_END.search(first)
        if _FRAME.match(first) and sentence and re.search(r"\d|\A\W*(?:Then|Next)\b", first[sentence.end() :]):
            return first.strip()  # a solution, of which this is the first step
        return clause(first, kind=match.lastgroup or "")
    some: list[str] = []
    blank = False
    for line in lines if below or first.rstrip().endswith(",") else [first]:
        plain = MARKUP.sub("", _without_bullet(line) if below else line).strip()
        if some and plain:
            listed = plain != line.strip() or _assign_differently(plain, some[-1])
            another = (
                _VALUE.match(plain) and not re.match(r"\([A-Za-z]", plain) and ("=" not in plain or _assigns(plain))
            )
            if not another or (blank and not listed):
                break
        blank = not plain
        if plain:
            some.append(clause(plain, kind=match.lastgroup or "").rstrip(","))
    return ", ".join(some)


def _without_bullet(line: str) -> str:
    """A line without its bullet, or its number if a value follows."""
    bullet = _BULLET.match(line)
    number = bullet[0].strip(" ().") if bullet else ""
    if bullet is None or (number.isdecimal() and int(number) > _FIRST_ITEMS and not _VALUE.match(line, bullet.end())):
        return line
    return line[bullet.end() :]


def _assign_differently(line: str, other: str) -> bool:
    """Whether two lines give the values of two variables."""
    return "" not in (_assigns(line), _assigns(other)) and _assigns(line) != _assigns(other)


def _assigns(line: str) -> str:
    """The variable that a line gives the value of, as `a = 5` does; empty if it is anything else."""
    found = re.match(r"[\s$*]*([A-Za-z]\w?)\s*=\s*\S", line)
    return found[1] if found else ""


def clause(line: str, *, kind: str) -> str:
    """An answer in the clause that declares it, without what only gives reasons; what is not understood stays."""
    line = re.sub(r"^(?:approx|ca)\.\s+", "", MARKUP.sub("", line).strip().strip("\"'“”「」『』"))
    prose, formulas = without_formulas(line)
    end = next((found.start() for found in SENTENCE_END.finditer(prose) if found.start()), len(prose))
    reason = next((found.start() for found in _REASON.finditer(prose, 0, end) if found.start()), end)
    answer = line[: min(end, reason)].strip()
    which = re.search(
        rf"(?:,\s+which\s+(?:is|equals)|,?\s+i\.e\.,?|,\s+that\s+is,?)\s+(\$?{NUMBER}|\$[^$]+\$)[.\s]*$",
        line[:end] or line,
    )
    if which and not (
        _VALUE.match(answer) and _PLAIN.fullmatch(answer) and not re.search(r"\d \w+ (?:\w+ )*\d", answer)
    ):
        answer = which[1]
    factorial = _FACTORIAL.search(answer) or (
        re.search(r"\d!\.?$", answer) and line[: len(answer) + 1].endswith(("!.", "!. "))
    )
    for _ in range(3):  # a counter, the end of a sentence and a full stop may follow each other
        answer = _POLITE.sub("", answer).strip().rstrip('*.。．।,;:؟"”–—').strip()
        answer = answer if factorial else answer.rstrip("!").strip()
    if changed := _NOT_BUT.match(answer):
        answer, formulas = changed[1].strip(), []
    if sum(map(answer.count, ")]")) > sum(map(answer.count, "([")):
        answer = answer.removesuffix(")")
    formulas = [formula for formula in formulas if formula.end <= len(answer)]
    answer = answer if formulas else re.sub(r"\s*(?:(?<!\\)\$\$?|\\[\])])$", "", answer)  # a formula that began before
    if formulas and formulas[0].start == 0:
        return _of_formulas(answer, formulas)
    answer = re.sub(r"^(?:US\$|Rs\.?)\s?(?=\d)", "", answer)
    if kind == "european":
        answer = re.sub(r"(?<=\d)[ \u202f\u00a0](?=\d{3}(?!\d))", "", answer)
        answer = re.sub(r"^(?:R\$|Rp\.?|kr\.?|zł)\s?(?=\d)", "", answer)
        answer = _THOUSANDS.sub(lambda found: found[1].replace(".", ""), _CONTINENTAL.sub(r"\1.\2", answer))
    if kind != "english":
        answer = _clause_elsewhere(answer)
    return _in_plain_words(answer.replace("$", "") if formulas else answer)


def _clause_elsewhere(answer: str) -> str:
    """A number with its unit or noun of another language; of a computation, or of a sentence that counts, too."""
    if computed := re.fullmatch(rf"[\d\s.,+*/×÷·−–-]+=\s*({NUMBER} ?[^\W\d_]+)", answer):
        value = counted_elsewhere(computed[1])
        return value if value != computed[1] else re.sub(r" ?[^\W\d_]+$", "", value)
    counted = re.fullmatch(rf"[\u3400-\u9fff]{{2,20}}(?<![{_NOT_COUNTED}])({NUMBER}[\u3400-\u9fff]{{0,3}})", answer)
    if counted and not re.search(f"[{_NOT_COUNTED}]", answer):
        return counted_elsewhere(counted[1])
    return counted_elsewhere(answer)


def _of_formulas(answer: str, formulas: Sequence[Box]) -> str:
    """The formula that an answer begins with, and those enumerated after it; with the rest where that is no remark."""
    members = [answer[formulas[0].inside : formulas[0].outside].strip()]
    last = formulas[0]
    for formula in formulas[1:]:
        if not joins(answer[last.end : formula.start]):
            break
        last = formula
        members.append(answer[formula.inside : formula.outside].strip())
    joined, rest = ", ".join(members), answer[last.end :].strip(" ,")
    if not rest:
        return joined
    if unit_after(f" {rest}"):
        return with_unit(joined, f" {rest}")
    if again := _AGAIN.fullmatch(rest):
        return f"{joined} {'=' if again['equal'] else '≈'} {again['value']}"
    return joined if is_counted(rest) else f"{joined} {rest}".replace("$", "")


def _is_same(value: str, repeated: str) -> bool:
    words = number_in_words(value.lower())
    return (value.lstrip("$€£") if words is None else str(words)) == repeated.strip()


def _in_plain_words(answer: str) -> str:
    """`12` from "there are 12 apples in all" and "12 (5 boys + 7 girls)"; any other text unchanged."""
    answer = _TIMES.sub(r" \\times ", answer)
    if (repeated := _REPEATED.match(answer)) and _is_same(repeated[1], repeated[3]):
        answer = repeated[1] + repeated[2]
    if explained := _EXPLAINED.fullmatch(answer):
        answer = explained[1] + unit_after(explained[2])
    if computed := _IN_WORDS.match(answer) if len(answer) < _LONGEST // 5 else None:
        return computed[1]
    short = len(answer) < _LONGEST // 5 and not chosen_letter(answer)
    frame = _FRAME.match(answer) or _BEFORE_NUMBER.match(answer) if short else None
    if frame and not _CONDITION.search(frame[0]):
        inner = answer[frame.end() :]
        quantity = _QUANTITY.match(inner)
        rest = quantity["rest"].strip() if quantity else ""
        if frame.re is _FRAME or unit_after(f" {rest}") or is_counted(rest):
            answer = inner
    answer = _AFTERWARDS.sub("", answer)
    if share := re.fullmatch(rf"({NUMBER}) of (?:the|an?|her|his|its|their) \w+", answer):
        return share[1] if re.search("[/%]", share[1]) else answer
    counted = _QUANTITY.match(answer)
    if counted and (rest := counted["rest"].strip()) and not rest.startswith("\\"):
        if unit := unit_after(f" {rest}"):
            ended = unit.rstrip("}").endswith(rest.split()[-1])
            return answer if ended else with_unit(counted["number"], f" {rest}")
        if is_counted(rest):
            return answer if is_countable(rest) and not frame else counted["number"]
    if re.fullmatch(r"[A-Za-z$\d][^\\=<>^*/+_(]*[a-z]{2}", answer) and len(re.findall(r"[a-z]+", answer)) > 1:
        return counted_in(answer) or answer
    return answer
