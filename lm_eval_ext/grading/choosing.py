"""Which option a reply to a multiple-choice question chooses: the one that its last choosing sentence names.

A sentence chooses if a word that points to an option stands right before its letter (`I pick B`, `so B`), if the words
behind it call it right (`B is the answer`), or if it is nothing but the letter. Letters that are denied, compared or
only supposed are not chosen, and a sentence that chooses two options chooses none. The words are in `extraction.yaml`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from lm_eval_ext.grading.boxes import formulas_in
from lm_eval_ext.grading.letters import ALL, ORDINAL, SPECIES, ordinal
from lm_eval_ext.grading.words import alternatives, table

_LONGEST = 20_000  # characters from the end that are read, so that no output takes long
_MOST_SENTENCES = 200  # that are read, from the last
_MOST_LETTERS = 200  # of a sentence
_AROUND = 120  # characters before a letter that may point to it


class _Verdict(IntEnum):
    """What a sentence says of a letter: nothing, that it is wrong, that it is right, or that it is the answer."""

    NONE = 0
    REFUSED = 1
    RIGHT = 2
    ANSWER = 3


_words = partial(alternatives, kind="choosing")
_STYLED = re.compile(
    r"\\(?:text|math)\w*\s*\{\s*(\(?[A-J]\)?)\s*\}|\$\s*(\(?[A-J]\)?)\s*\$|(?<![\w*])\*([A-J])\*(?![\w*])"
)
_CODE = re.compile(r"```(\w*)\s*(.*?)(?:```|\Z)", re.DOTALL)
_MARKUP = re.compile(r"\*\*|__|[`\"“”„«»]|^#{1,6}\s", re.MULTILINE)
_FIELD = re.compile(  # of JSON, or a variable
    r"(?im)\"(?:final[ _])?(?:answer|choice|option|letter)\"\s*:\s*\"([a-j])\"(?=\s*[,}])"
    r"|^[^\w\n]*+(?:final_)?answer(?:_letter)?[ \t]*=[ \t]*[\"']?([A-J])[\"']?[^\w\n]*$"
)
_QUOTED = re.compile(r"['‘]([A-J]|answer|choice|option)['’]")
_ENDS = re.compile(
    r"(?<=[^\s.]{2}[.!])(?<!\bvs\.)(?<!i\.e\.)(?<!e\.g\.)(?<!approx\.)\s+"
    rf"|(?<=[A-Z)\]\d#][.!?])\s+(?!(?:{SPECIES}|et al)\b)|(?<=;)\s+"
    r"|(?<=\?)\s+(?![A-J][.!]?(?:\s|$))|(?<=\w\.{3})\s+|(?<=[。！？；।])"
)
_NOUN = rf"(?:(?:the\s+)?(?:{_words('nouns')})\s+)?"
_TURKISH = r"['’](?:d[iıuü]r|t[iı]r)\b"
# A letter that is no part of a word, a name or a formula.
_FREE = (
    r"(?<![A-Za-z0-9'’_\\^/+|⁻–.-])(?<![=<>≈∝∩∪·×⊂]\s)(?:(?<![A-Z]\s[→⟶>]\s)|(?=\())"
    rf"[(\[{{]?[A-J][)\]}}]?(?![A-Za-z0-9_⁺⁻₀-₉]|(?!{_TURKISH})['’])"
    r"(?!\s?[=+^/#×∝≈∩∪·|*⊂])(?!\s?[<>](?!\w))(?!\s?[-–→⟶]\w)(?!\s[→⟶>]\s[A-Z])"
    rf"(?!\.\s(?:{SPECIES}|et al)\b)(?!\.[A-Z]|\.\s[A-Z]\.)"
)
_JOINER = (
    rf"(?:\W{{0,3}}(?:(?<!\w)(?:{alternatives('joiners')}|nor|but also|as well as|versus|vs\.?)(?!\w)"
    r"|[,&/、和或と及]|또는|および|または)(?:\s?(?:and|or|maybe|also|but also|as well as)\b)*\W{0,2})"
)
# A letter, or several that are enumerated; not the last one of those that begins a clause of its own.
_LETTERS = re.compile(
    rf"(?i:\b(?:both|either|neither)\s+)?{_FREE}(?:{_JOINER}{_FREE}"
    r"(?!\s(?:is|was|has|isn|wasn|does|doesn|would|can|should|must|will|may|\w{3,}s)\b|\s\w+\s?=))*"
)
_ALONE = re.compile(
    r"(?![\s*•-]*(?:[\[(][ xX][\])]|[❌✗☐◯]))\W*?(?:(?i:so|option|choice|answer|final answer|letter)\W+)?"
    r"\(?([A-J])[\s.,!)\]}*|>=✓✔✅。]*"
)
_SMALL = re.compile(
    rf"(?i:(?<![a-z])(?:{_words('before_small')}))\s+\(?([b-hj]|[ai](?=[).]))(?=\)|[.,;](?:\s|$)|\s*$)"
    r"(?!\)?,?\s(?:or|and)\s\(?[a-j]\b)"
)
_LABEL = re.compile(
    r"\W*(?:(?i:option|choice)\s)?\(?([A-J])\s?[).:|–—-]+\s*(?=\S)|\s*\|\s*\(?([A-J])\)?\s*\|(?=[^|]+\|)"
)
_TICKED = re.compile(
    r"(?:\[[xX✓✔]\]|\([xX•●✓]\)|^[ \t]*[☑✅◉])[ \t]*\(?([A-J])(?!\w)(?![^\n]*\b(?:wrong|not|contradicts)\b)",
    re.MULTILINE,
)
_UNTICKED = re.compile(r"\[\s?\]|\(\s\)|[☐◯❌✗]")
_YES = re.compile(r"(?:^|[.!?]\s)(?i:is it |and |then )?\(?([A-J])\)?\?\s+Yes\b(?!,? but| and no)", re.MULTILINE)
_TRUE = re.compile(r"\b([A-J])\s?:\s?((?i:true|false))\b")
_VERDICT = re.compile(
    r"(?i)✅|✓|✔|☑|^\W*(?:true|correct|right)\s*(?:[.!)|–—-]|$)|^\W*yes\s*(?:[.!)]|$)"
    r"|[:–—|-]\s*(?:right|correct|true|yes)\b\s*(?:$|[,.!|])|\((?:right|correct|true)\W*\)"
)
# `not A but B`, `apart from B, none`
_CONTRARY = re.compile(
    rf"(?i:\bnot|n['’]t|\bnicht)\s+(?i:{_NOUN})\(?[A-J]\)?(?![\w'’])(?:,[^,;.]{{1,40}})?[,;]?\s+"
    r"(?i:but(?: rather)?|it['’]s|it is|sondern)\s+"
    r"|\b(?i:apart from|except(?: for)?)\s+(?=\(?[A-J]\)?,? (?i:no|none)\b)"
    r"|\(?[A-J]\)?(?:ではなく|가 아니라|이 아니라)、?\s?"
)
# `no option but B`, `all of them except B`
_NONE_BUT = re.compile(
    r"(?i)\b(?:no|none of the) (?:option|choice|answer|one|other)s?\s?(?:other than|but|except)\s+"
    r"|\b(?:all|none) of [^.;]{1,30}(?:except|but)\s+"
)
# `It is radon (C)`, and what is declared to be the answer
_NAMES = re.compile(
    r"(?i)\banswer\b|(?:^|[,.:]\s|\b(?:so|thus|hence|therefore)\s)(?:it|the (?:correct|right|best) (?:option|choice)) "
    r"(?:is|has to be|must be) (?:[^\s,;]+ ){1,5}$"
)
_ALSO = re.compile(r"(?i)\b(?:also|as well|too)\b(?! (?:\w+ly )?(?:\w+ )?(?:wrong|high|low|small|large))")
_HOWEVER = re.compile(r"(?i)\W*(?:however|but|yet)\b")
_RELATIVE = re.compile(r"(?i)\b(?:that|which)\s(?:is|does|can|was)(?:n['’]t|\snot)\s")  # `the one that isn't true is A`
_ONLY = re.compile(
    rf"(?i)(?:^|[,;:.]\s|\b(?:and|but|so|thus|hence|therefore|that|because|as)\s)\W{{0,3}}(?:\bonly|\bjust)\s+{_NOUN}\(?$"
)


_BEFORE = r",?(?::\s*|\s+|(?<=[^\x00-\x7f]))(?:either |both )?"  # between a word that points and the letter
_POINTING = re.compile(
    rf"(?i)(?:(?<![A-Za-z])(?:{_words('pointing')})|(?:^|[:.;,—–]\s)\W*(?:{_words('imperatives')})){_BEFORE}"
    rf"(?:{_NOUN}|(?:la|el|die|l['’])\s?)$"
    r"|(?:\bis|['’]s)\s(?:exactly\s)?(?:the\s)?(?:option|choice|answer)\s$"
)
_POINTING_LOOSELY = re.compile(
    rf"(?i)(?:(?<![A-Za-z])(?:{_words('loosely')}){_BEFORE}"
    rf"|(?:[→⇒⟹]\s*|=>\s*|(?<=[a-z\])]{{2}}):\s*|(?<=[^\x00-\x7f]):\s*)(?:either |both )?){_NOUN}$"
)
_IS = re.compile(
    r"(?i)(?:\b(?:is|are|must be|has to be|will be|should be|would be)|['’]s)[:,]?\s+"
    r"(?:(?:either|both|actually|most likely|clearly|probably|indeed|in fact|precisely|simply|therefore|thus),?\s+)?"
    rf"{_NOUN}$"
)
_SUBJECT = re.compile(rf"(?i)(?:{_words('subjects')})(?:,?\s\w+){{0,4}}\s$")
_OF_A_THING = re.compile(rf"(?i)\b(?:{_words('things')}):\s*$")
_STARTS = re.compile(
    rf"(?i)(?:^|[,;:.!?—–(]\s?|\b(?:{_words('starts')})\s|(?:따라서|그러므로|したがって|所以|因此|よって)\s?)\W*$"
)
_NAMED = re.compile(rf"(?i)(?:{_words('nouns')})\W*$")
_CALLED_RIGHT = re.compile(rf"(?i),?\s*(?:{_words('right')})")
_ANSWERED = re.compile(rf"(?i),?\s*(?:{_words('answered')})")
_REFUSED = re.compile(rf"(?i)\s*(?:{_words('refused')})")
_VERB = re.compile(rf"(?i)\s(?:{_words('only')})\b")
_DENIED = re.compile(rf"(?i)(?:{_words('denied')})")
_SUPPOSED = re.compile(rf"(?i)(?:{_words('supposed')})")
_RETRACTED = re.compile(rf"(?i)(?:{_words('retracted')})")
_UNDECIDED = re.compile(rf"(?i)\b(?:{_words('undecided')})\b")
_ASKS_FOR_FALSE = re.compile(rf"\b(?:{_words('asks_for_false')})\b")
_CONTRASTS = re.compile(
    rf"(?i:,?\s*\b(?:{_words('contrasts')})\s+)(?i:the \w+, )?(?i:{_NOUN})\(?[A-J](?![\w'’])\)?"
    r"|,\s*\(?[A-J]\)?\s?(?:नहीं|না|নয়|కాదు)"
)
_GOES_ON = re.compile(rf"(?i)\s*(?:$|[.,;:!)\]—–(}}|<]|-\s|[^\x00-\x7f]|(?:{_words('going_on')})\b)")
_CLOSED = re.compile(
    rf"\W*$|\s?[.!](?=\s[A-Z#(]|$)|,?\s(?i:{_words('closed')})\b|\s\([^()]*\)[.!]?$|[;)}}\]]|\s?[–—-]\s|[。．！]"
    r"|[,}\]](?=\S)|[,:]\s(?!\w+\b\s\w+s\b)"
)
_EITHER = re.compile(r"\b(?i:either)\s+\(?[A-J]\)?$|\b(?i:neither)\s(?:(?!,\s(?i:so|thus|hence|therefore)\b)[^.;])*$")
_SPEAKS = re.compile(r"\s(?!(?:is|holds|fits|survives|remains|works)\b)[a-z]|['’]|,\s[a-z]")
_AT_THE_END = re.compile(  # `If I have to choose, D.`
    r"(?i)(?:[a-z]{2}(?<!second)(?<!next)(?<!first)(?<!third)(?<!also)(?<!\band)(?<!\bor),|[.–—-])\s*$"
)
_IN_BRACKETS = re.compile(r"(?i)[(,]\s?(?:option|answer|choice|letter)\s$")  # `a catalyst (option C)`
_MOST_ALONE = 2  # letters that stand alone; more are a loop, or a list
_WORDS_OF_A_CUT = 3  # a line of fewer words is no sentence that was cut


def chosen_option(text: str, letters: str = ALL) -> str:
    """The letter that a reply chooses, of those that are allowed; empty if it chooses none, or several.

    >>> chosen_option("A is too slow and B leaks, so I'd go with C. D would be right without friction.")
    'C'
    >>> chosen_option("It is B or C."), chosen_option("The patient lacks vitamin B.")
    ('', '')
    """
    text = _plain(text[-_LONGEST:], letters)
    if is_cut(text):
        return ""
    if re.search(r"\bII\b", text):
        letters = letters.replace("I", "")  # which is a number here
    if "I" not in letters:
        text = re.sub(r"\bI\b", "i", text)  # which is nobody's letter, but whoever says so
    labelled = [match[1] or match[2] for match in map(_LABEL.match, text.splitlines()) if match]
    is_list = len(set(labelled)) > 1
    if not is_list:
        text = re.sub(r":[^\S\n]*+\n\s*+(?=\(?[A-J]\b)", ": ", text)
    sentences = _sentences(text, without_labels=is_list)
    if len({alone[1] for sentence in sentences if (alone := _ALONE.fullmatch(sentence.text))}) > _MOST_ALONE:
        return ""
    last = next((at for at in range(len(sentences) - 1, -1, -1) if sentences[at].letters(_Verdict.ANSWER)), None)
    if last is not None:
        letter = _answer(sentences[: last + 1], sentences[last + 1 :])
    elif _ASKS_FOR_FALSE.search(text):
        letter = ""
    else:
        letter = _from_list(text) or _called_right(sentences)
    return letter if letter in letters else ""


class _Sentence(NamedTuple):
    text: str
    verdicts: dict[str, _Verdict]

    def letters(self, verdict: _Verdict) -> set[str]:
        """The letters of which the sentence says this."""
        return {letter for letter, said in self.verdicts.items() if said is verdict}


def _answer(sentences: Sequence[_Sentence], after: Sequence[_Sentence]) -> str:
    """The letter that the last of some sentences chooses, unless it, or what stands after it, leaves that open."""
    *before, chosen = sentences
    letters = chosen.letters(_Verdict.ANSWER)
    others = {letter for sentence in before for letter, said in sentence.verdicts.items() if said > _Verdict.REFUSED}
    refused = {letter for sentence in (chosen, *after) for letter in sentence.letters(_Verdict.REFUSED)}
    is_open = (
        (_ALSO.search(chosen.text) and not others <= letters)
        or any(_RETRACTED.search(sentence.text) for sentence in after)
        or _UNDECIDED.search(" ".join(sentence.text for sentence in (chosen, *after)))
    )
    return "" if len(letters) > 1 or letters & refused or is_open else letters.pop()


def _called_right(sentences: Sequence[_Sentence]) -> str:
    """The only letter that a text calls right, where nothing makes that doubtful."""
    right = {letter for sentence in sentences for letter in sentence.letters(_Verdict.RIGHT)}
    refused = {letter for sentence in sentences for letter in sentence.letters(_Verdict.REFUSED)}
    doubtful = any(
        _HOWEVER.match(sentence.text)
        or _UNDECIDED.search(sentence.text)
        or (sentence.letters(_Verdict.RIGHT) and _ALSO.search(sentence.text))
        for sentence in sentences
    )
    return "" if len(right) != 1 or right & refused or doubtful else right.pop()


def is_cut(text: str) -> bool:
    """Whether a text ends within a sentence, as where a model has reached its limit of tokens."""
    last = text.rstrip().rpartition("\n")[2]
    if last.endswith((",", "，", "、", ";", "；")):
        return True
    ended = re.search(r"[^\w,\s]$|\b[A-J]$|[^\x00-\u024f]$|\d$", last)
    is_sentence = len(last.split()) > _WORDS_OF_A_CUT and not _LABEL.match(last)
    return not ended and is_sentence and re.search(r"[.!?]\s+[A-Z]|\n", text) is not None


def _plain(text: str, letters: str) -> str:
    """A text without markup, in which formulas are `#` and small letters of options are capitals."""
    text = unicodedata.normalize("NFKC", _CODE.sub(_kept_of_code, text)).translate({0x3010: "(", 0x3011: ")"})
    text = re.sub(r"</?(?:b|i|u|em|strong|span)>", "", text)
    text = _FIELD.sub(
        lambda field: f"Answer: {(field[1] or field[2]).upper()}", re.sub(r"\\text\w*\{([^{}]{3,})\}", r"\1", text)
    )
    text = re.sub(r"<([a-z_]*(?:answer|choice|option|final|letter|alternative)[a-z_]*)>", r"\n\1: ", text)
    text = re.sub(r"</?[A-Za-z_]{1,20}>|<\|[a-z_]{1,30}\|>", "\n", text)
    text = _MARKUP.sub("", _STYLED.sub(lambda match: match[1] or match[2] or match[3], text))
    for formula in reversed(list(formulas_in(text))):
        text = f"{text[: formula.start]}#{text[formula.end :]}"
    text = _QUOTED.sub(r"\1", text)
    alone = r"(?m)^([ \t*(]*+(?:[Aa]nswer\W*)?\(?([A-J])\)?)[ \t.,]*+\n++(?=[ \t*(]*+(?!\2)[A-J]\)?[ \t.,]*+$)"
    text = re.sub(alone, r"\1, ", text)  # two letters that stand alone are an enumeration
    for letter, others in table("extraction")["choosing"]["letters"].items():
        text = re.sub(rf"\(\s?(?:{others})\s?\)|(?<=ข้อ)\s?(?:{others})(?!\w)", f" ({letter})", text)
    text = re.sub(r"\[\[([A-J])\]\]", r"(\1)", ORDINAL.sub(lambda match: f"option {ordinal(match, letters)}", text))
    return _SMALL.sub(lambda match: match[0][: match.start(1) - match.start()] + match[1].upper(), text)


def _kept_of_code(block: re.Match[str]) -> str:
    """What a fenced block says of the options: JSON, or a letter; of programs, nothing."""
    is_said = block[1] == "json" or re.fullmatch(r"[A-J]\s*", block[2]) is not None
    return f"\n{block[2]}\n" if is_said else "\n"


def _sentences(text: str, *, without_labels: bool) -> list[_Sentence]:
    """The last sentences of a text, if asked without the lines that are options with their letters."""
    sentences: list[tuple[str, bool]] = []  # and whether they end their line
    for line in filter(str.strip, text.splitlines()):
        option = _LABEL.match(line) and not _ALONE.fullmatch(line)
        if not (without_labels and (option or re.fullmatch(r"\s*[A-J]\)\s*", line))):
            some = [sentence for sentence in _ENDS.split(line) if sentence.strip()]
            sentences += [(sentence, place == len(some)) for place, sentence in enumerate(some, 1)]
    return [_Sentence(sentence, _choices(sentence, ends_line=ends)) for sentence, ends in sentences[-_MOST_SENTENCES:]]


def _choices(sentence: str, *, ends_line: bool) -> dict[str, _Verdict]:
    """What a sentence says of each letter that it names; the most that it says."""
    if ends_line and (alone := _ALONE.fullmatch(sentence)):
        return {alone[1]: _Verdict.ANSWER}
    choices = dict[str, _Verdict]()
    if sentence.rstrip(" )*.!").endswith("?") or not _LETTERS.search(sentence):
        return choices
    sentence = _CONTRASTS.sub("", _NONE_BUT.sub("only ", _CONTRARY.sub(", I choose ", sentence)))
    for match in list(_LETTERS.finditer(sentence))[-_MOST_LETTERS:]:
        choice = _of_letters(sentence, match, ends_line=ends_line)
        for letter in re.findall(r"\b[A-J]\b", match[0]):
            choices[letter] = max(choice, choices.get(letter, _Verdict.NONE))
    return choices


def _of_letters(sentence: str, match: re.Match[str], *, ends_line: bool) -> _Verdict:
    """What a sentence says of a letter, or of several that it enumerates."""
    before, after = sentence[max(0, match.start() - _AROUND) : match.start()], sentence[match.end() :][:_AROUND]
    if match.start() > _AROUND:
        before = f"x{before}"  # it is not the start of the sentence
    clause = _RELATIVE.sub("", re.split(r"[,;—–(]\s?(?=.)|\b(?:and|but)\s", before)[-1])
    ended, bracketed = re.fullmatch(r"\W*", after) is not None, match[0].endswith(")")
    named = _NAMED.search(before) is not None
    starts = named or _STARTS.search(before) is not None
    about = _IS.search(before)
    pointed = _POINTING.search(before) or (about and _SUBJECT.search(before[: about.start()].rstrip(" ,") + " "))
    if (starts or pointed) and _REFUSED.match(after):
        return _Verdict.REFUSED
    after = re.sub(r"^\s\([^()]*\)", "", after)
    speaker = match[0] == "I" and not named and _SPEAKS.match(after)
    either = _EITHER.search(before + match[0])
    if speaker or either or _SUPPOSED.search(before) or _DENIED.search(clause):
        return _Verdict.NONE
    closed = bracketed or _CLOSED.match(after)
    chosen = (
        (pointed and (bracketed or _GOES_ON.match(after)))
        or (closed and _POINTING_LOOSELY.search(before) and not _OF_A_THING.search(before))
        or (_ONLY.search(before) and (bracketed or ended or _VERB.match(after)))
        or (starts and _ANSWERED.match(after))
        or (ended and ends_line and _AT_THE_END.search(before))
        or (ended and (_IN_BRACKETS.search(before) or (bracketed and _NAMES.search(before))))
    )
    if chosen:
        return _Verdict.ANSWER
    right = starts and _CALLED_RIGHT.match(after) and not re.search(r"\bbut\b", after)
    return _Verdict.RIGHT if right else _Verdict.NONE


def _from_list(text: str) -> str:
    """The only letter of a list that is ticked or called true; empty if there is none, or several."""
    if _UNTICKED.search(text) and (ticked := set(_TICKED.findall(text))):
        return ticked.pop() if len(ticked) == 1 else ""
    verdicts = {match[1]: match[2].lower() == "true" for match in _TRUE.finditer(text)}
    if len(verdicts) > 2:
        called = {letter for letter, true in verdicts.items() if true}
        return called.pop() if len(called) == 1 else ""
    called = set(_YES.findall(text))
    labels = [
        (label[1] or label[2], line[label.end() :]) for line in text.splitlines() if (label := _LABEL.match(line))
    ]
    if len({letter for letter, _ in labels}) > 2:
        called |= {letter for letter, rest in labels if _VERDICT.search(rest)}
    return called.pop() if len(called) == 1 else ""
