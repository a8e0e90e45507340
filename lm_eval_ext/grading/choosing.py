"""Which option a reply to a multiple-choice question chooses: the one that its last choosing sentence names.

A sentence chooses if a word that points to an option stands right before its letter (`I pick B`, `so B`), if the words
behind it call it right (`B is the answer`), or if it is nothing but the letter. Letters that are denied, compared or
only supposed are not chosen, and a sentence that chooses two options chooses none. The words are in `extraction.yaml`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import IntEnum
from functools import cache

from lm_eval_ext.grading.letters import ALL, ORDINAL, SPECIES, ordinal
from lm_eval_ext.grading.words import alternatives, table

_LONGEST = 20_000  # characters from the end that are read, so that no output takes long
_MOST = 200  # letters considered, from the last
_AROUND = 120  # characters before a letter that may point to it


class _Choice(IntEnum):
    """What a sentence says of a letter: nothing, that it is wrong, that it is right, or that it is the answer."""

    NONE = 0
    REFUSED = 1
    RIGHT = 2
    ANSWER = 3


def _words(name: str) -> str:
    return re.sub(r"\|\s+", "|", str(table("extraction")["choosing"].get(name, "")))


_STYLED = re.compile(
    r"\\(?:text|math)\w*\s*\{\s*(\(?[A-J]\)?)\s*\}|\$\s*(\(?[A-J]\)?)\s*\$|(?<![\w*])\*([A-J])\*(?![\w*])"
)
_CODE = re.compile(r"```(?!\w*\s*[A-J]\s*```).*?(?:```|\Z)", re.DOTALL)
_MARKUP = re.compile(r"\*\*|__|[`\"“”„«»]|^#{1,6}\s", re.MULTILINE)
_QUOTED = re.compile(r"['‘]([A-J]|answer|choice|option)['’]")
_FORMULA = re.compile(r"\$\$?[^$\n]{2,300}\$\$?|\\\([^\n]{2,300}?\\\)|\\\[[^\n]{2,300}?\\\]")
_ENDS = re.compile(
    rf"(?<=[^\s.]{{2}}[.!])(?<!\bvs\.)(?<!i\.e\.)(?<!e\.g\.)(?<!approx\.)\s+|(?<=[A-Z)\]\d#][.!?])\s+(?!(?:{SPECIES}|et al)\b)|(?<=;)\s+"
    r"|(?<=\?)\s+(?![A-J][.!]?(?:\s|$))|(?<=\w\.{3})\s+|(?<=[。！？；।])"
)
_NOUN = rf"(?:(?:the\s+)?(?:{_words('nouns')})\s+)?"
_FREE = (
    r"(?<![A-Za-z0-9'’_\\^/+|⁻–.-])(?<![=<>≈∝∩∪·×⊂]\s)(?:(?<![A-Z]\s[→⟶>]\s)|(?=\())[(\[{]?([A-J])[)\]}]?(?![A-Za-z0-9_⁺⁻₀-₉]|['’](?!d[iıuü]r\b|t[iı]r\b))"
    rf"(?!\s?[=+^/#×∝≈∩∪·|*⊂])(?!\s?[<>](?!\w))(?!\s?[-–→⟶]\w)(?!\s[→⟶>]\s[A-Z])(?!\.\s(?:{SPECIES}|et al)\b)(?!\.[A-Z])"
)
_JOINER = (
    rf"(?:\W{{0,3}}(?:(?<!\w)(?:{alternatives('joiners')}|nor|but also|as well as|versus|vs\.?)(?!\w)|[,&/、和]|또는)"
    r"(?:\s?(?:and|or|maybe|also|but also|as well as)\b)*\W{0,2})"
)
# A letter, or several that are enumerated; not the last one of those that begins a clause of its own.
_LETTERS = re.compile(
    rf"(?i:\b(?:both|either|neither)\s+)?{_FREE.replace('([A-J])', '[A-J]')}(?:{_JOINER}{_FREE.replace('([A-J])', '[A-J]')}"
    r"(?!\s(?:is|was|has|isn|wasn|does|doesn|would|can|should|must|will|may|\w{3,}s)\b|\s\w+\s?=))*"
)
_ALONE = re.compile(
    r"(?![\s*•-]*(?:[\[(][ xX][\])]|[❌✗☐◯]))\W*?(?:(?i:so|option|choice|answer|final answer|letter)\W+)?\(?([A-J])[\s.,!)\]}*|>=✓✔✅。]*"
)
_SMALL = re.compile(
    rf"(?i:(?<![a-z])(?:{_words('before_small')}))\s+\(?([b-hj]|[ai](?=[).]))(?=\)|[.,;](?:\s|$)|\s*$)(?!\)?,?\s(?:or|and)\s\(?[a-j]\b)"
)
_LABEL = re.compile(
    r"\W*(?:(?i:option|choice)\s)?\(?([A-J])\s?[).:|–—-]+\s*(?=\S)|\s*\|\s*\(?([A-J])\)?\s*\|(?=[^|]+\|)"
)
_TICKED = re.compile(
    r"(?:\[[xX✓✔]\]|\([xX•●✓]\)|^\s*[☑✅◉])[ \t]*\(?([A-J])(?!\w)(?![^\n]*\b(?:wrong|not|contradicts)\b)", re.MULTILINE
)
_UNTICKED = re.compile(r"\[\s?\]|\(\s\)|[☐◯❌✗]")
_YES = re.compile(
    r"(?:^|[.!?]\s)(?:is it |and |then )?\(?([A-J])\)?\?\s+Yes\b(?!,? but| and no)", re.IGNORECASE | re.MULTILINE
)
_TRUE = re.compile(r"\b([A-J])\s?:\s?(true|false)\b", re.IGNORECASE)
_VERDICT = re.compile(
    r"(?i)✅|✓|✔|☑|^\W*(?:true|correct|right)\s*(?:[.!)|–—-]|$)|^\W*yes\s*(?:[.!)]|$)"
    r"|[:–—|-]\s*(?:right|correct|true|yes)\b\s*(?:$|[,.!|])|\((?:right|correct|true)\W*\)"
)
# `not A but B`, `no option but B`.
_CONTRARY = re.compile(
    rf"(?i)(?:\bnot|n['’]t|\bnicht)\s+{_NOUN}\(?[A-J]\)?(?![\w'’])(?:,[^,;.]{{1,40}})?[,;]?\s+(?:but(?: rather)?|it['’]s|it is|sondern)\s+"
    r"|\b(?:apart from|except(?: for)?)\s+(?=\(?[A-J]\)?,? (?:no|none)\b)|\(?[A-J]\)?(?:ではなく|가 아니라|이 아니라)、?\s?"
)
_NONE_BUT = re.compile(
    r"(?i)\b(?:no|none of the) (?:option|choice|answer|one|other)s?\s?(?:other than|but|except)\s+"
    r"|\b(?:all|none) of [^.;]{1,30}(?:except|but)\s+"
)
# `It is radon (C)`
_NAMES = re.compile(
    r"(?i)\banswer\b|(?:^|[,.:]\s|\b(?:so|thus|hence|therefore)\s)(?:it|the (?:correct|right|best) (?:option|choice)) (?:is|has to be|must be) (?:[^\s,;]+ ){1,5}$"
)
_ALSO = re.compile(r"(?i)\b(?:also|as well|too)\b(?! (?:\w+ly )?(?:\w+ )?(?:wrong|high|low|small|large))")
_HOWEVER = re.compile(r"(?i)\W*(?:however|but|yet)\b")
_RELATIVE = re.compile(r"(?i)\b(?:that|which)\s(?:is|does|can|was)(?:n['’]t|\snot)\s")  # `the one that isn't true is A`
_ONLY = re.compile(
    rf"(?i)(?:^|[,;:.]\s|\b(?:and|but|so|thus|that|because|as)\s)\W{{0,3}}(?:\bonly|\bjust)\s+{_NOUN}\(?$"
)


@cache
def _pattern(name: str) -> re.Pattern[str]:
    words = _words(name)
    return re.compile(
        {
            "pointing": rf"(?i)(?<![A-Za-z])(?:{words}),?(?::\s*|\s+|(?<=[^\x00-\x7f]))(?:either |both )?(?:{_NOUN}|(?:la|el|die|l['’])\s?)$"
            r"|(?:\bis|['’]s)\s(?:exactly\s)?(?:the\s)?(?:option|choice|answer)\s$",
            "loosely": rf"(?i)(?:(?<![A-Za-z])(?:{words}),?(?::\s*|\s+|(?<=[^\x00-\x7f]))|[→⇒⟹]\s*|=>\s*|(?<=[a-z\])]{{2}}):\s*|(?<=[^\x00-\x7f]):\s*)(?:either |both )?{_NOUN}$",
            "is": rf"(?i)(?:\b(?:is|must be|has to be|will be|should be|would be)|['’]s)[:,]?\s+(?:(?:either|both|most likely|clearly|probably|indeed|in fact|precisely|simply|therefore|thus),?\s+)?{_NOUN}$",
            "subjects": rf"(?i)(?:{words})(?:,?\s\w+){{0,4}}\s$",
            "things": rf"(?i)\b(?:{words}):\s*$",
            "starts": rf"(?i)(?:^|[,;:.!?—–(]\s?|\b(?:{words})\s|(?:따라서|그러므로|したがって|所以|因此|よって)\s?)\W*$",
            "right": rf"(?i)^,?\s*(?:{words})",
            "answered": rf"(?i)^,?\s*(?:{words})",
            "refused": rf"(?i)^\s*(?:{words})",
            "only": rf"(?i)^\s(?:{words})\b",
            "denied": rf"(?i)(?:{words})",
            "supposed": rf"(?i)(?:{words})",
            "retracted": rf"(?i)(?:{words})",
            "undecided": rf"(?i)\b(?:{words})\b",
            "asks_for_false": rf"\b(?:{words})\b",
            "contrasts": rf"(?i)(?:,?\s*\b(?:{words})\s+)(?:the \w+, )?{_NOUN}\(?[A-J](?![\w'’])\)?|,\s*\(?[A-J]\)?\s?(?:नहीं|না|নয়|కాదు)",
            "going_on": rf"(?i)^\s*(?:$|[.,;:!)\]—–(}}|<]|-\s|[^\x00-\x7f]|(?:{words})\b)",
            "closed": rf"(?i)^\W*$|^\s?[.!](?=\s[A-Z#(]|$)|^,?\s(?:{words})\b|^\s\([^()]*\)[.!]?$|^[;)}}\]]|^\s?[–—-]\s|^[。．！]|^[,}}\]](?=\S)|^[,:]\s(?!\w+\b\s\w+s\b)",
        }[name]
    )


def chosen_option(text: str, letters: str = ALL) -> str:
    """The letter that a reply chooses, of those that are allowed; empty if it chooses none, or several.

    >>> chosen_option("A is too slow and B leaks, so I'd go with C. D would be right without friction.")
    'C'
    >>> chosen_option("It is B or C."), chosen_option("The patient lacks vitamin B.")
    ('', '')
    """
    text = _plain(text[-_LONGEST:])
    if is_cut(text):
        return ""
    if re.search(r"\bII\b", text):
        letters = letters.replace("I", "")  # which is a number here
    labelled = [match[1] or match[2] for match in map(_LABEL.match, text.splitlines()) if match]
    is_list = len(set(labelled)) > 1
    if not is_list:
        text = re.sub(r":\s*\n+\s*(?=\(?[A-J]\b)", ": ", text)
    sentences = list(_sentences(text, without_labels=is_list))
    choices = [_choices(sentence, ends_line=ends) for sentence, ends in sentences]
    said = [sentence for sentence, _ in sentences]
    for place in range(len(choices) - 1, -1, -1):
        if named := [letter for letter, choice in choices[place].items() if choice is _Choice.ANSWER]:
            others = {letter for some in choices[:place] for letter, choice in some.items() if choice > _Choice.REFUSED}
            another = _ALSO.search(said[place]) is not None and not others <= set(named)
            refused = any(some.get(named[0]) is _Choice.REFUSED for some in choices[place:])
            retracted = any(map(_pattern("retracted").search, said[place + 1 :])) or _pattern("undecided").search(
                " ".join(said[place:])
            )
            return named[0] if len(named) == 1 and named[0] in letters and not (another or refused or retracted) else ""
    asks_for_false = _pattern("asks_for_false").search(text) is not None
    if (listed := _from_list(text)) and listed in letters:
        return "" if asks_for_false else listed
    right = {letter for some in choices for letter, choice in some.items() if choice is _Choice.RIGHT}
    refused_ones = {letter for some in choices for letter, choice in some.items() if choice is _Choice.REFUSED}
    also = any(
        _ALSO.search(sentence) for sentence, some in zip(said, choices, strict=True) if _Choice.RIGHT in some.values()
    )
    unsure = also or asks_for_false or _pattern("undecided").search(text) or any(map(_HOWEVER.match, said))
    return right.pop() if len(right) == 1 and right <= set(letters) - refused_ones and not unsure else ""


def is_cut(text: str) -> bool:
    """Whether a text ends within a sentence, as where a model has reached its limit of tokens."""
    last = text.rstrip().rpartition("\n")[2]
    if last.endswith((",", "，", "、", ";", "；")):
        return True
    ended = re.search(r"[^\w,\s]\W*$|\b[A-J]$|[^\x00-\u024f]$|\d$", last) is not None
    return (
        not ended
        and len(last.split()) > 3
        and _LABEL.match(last) is None
        and re.search(r"[.!?]\s+[A-Z]|\n", text) is not None
    )


def _plain(text: str) -> str:
    """A text without markup, in which formulas are `#` and small letters of options are capitals."""
    text = unicodedata.normalize("NFKC", _CODE.sub("\n", text)).translate({0x3010: "(", 0x3011: ")"})
    text = re.sub(r"<([A-Za-z_]{1,20})>", r"\n\1: ", text)
    text = re.sub(r"</[A-Za-z_]{1,20}>|<\|[a-z_]{1,30}\|>", "\n", text)
    text = _MARKUP.sub("", _STYLED.sub(lambda match: match[1] or match[2] or match[3], text))
    text = _QUOTED.sub(r"\1", _FORMULA.sub("#", text))
    alone = r"(?m)^([\s*(]*(?:[Aa]nswer\W*)?\(?([A-J])\)?)[\s.,]*\n(?=[\s*(]*(?!\2)[A-J][\s.,]*$)"
    text = re.sub(alone, r"\1, ", text)  # two letters that stand alone are an enumeration
    for letter, others in table("extraction")["choosing"]["letters"].items():
        text = re.sub(rf"\(\s?(?:{others})\s?\)|(?<=ข้อ)\s?(?:{others})(?!\w)", f" ({letter})", text)
    text = re.sub(r"\[\[([A-J])\]\]", r"(\1)", ORDINAL.sub(lambda match: f" option {ordinal(match, ALL)}", text))
    return _SMALL.sub(lambda match: match[0][: match.start(1) - match.start()] + match[1].upper(), text)


def _sentences(text: str, *, without_labels: bool) -> Iterator[tuple[str, bool]]:
    """Each sentence, and whether it ends its line."""
    for line in text.splitlines():
        if without_labels and (
            (_LABEL.match(line) and not _ALONE.fullmatch(line)) or re.fullmatch(r"\s*[A-J]\)\s*", line)
        ):
            continue
        sentences = [sentence for sentence in _ENDS.split(line) if sentence.strip()]
        yield from ((sentence, place == len(sentences)) for place, sentence in enumerate(sentences, 1))


def _choices(sentence: str, *, ends_line: bool) -> dict[str, _Choice]:
    """What a sentence says of each letter that it names; the most that it says."""
    if ends_line and (alone := _ALONE.fullmatch(sentence)):
        return {alone[1]: _Choice.ANSWER}
    choices = dict[str, _Choice]()
    if re.search(r"\?\W*$", sentence) or not _LETTERS.search(sentence):
        return choices
    sentence = _CONTRARY.sub(", I choose ", sentence)
    sentence = _NONE_BUT.sub("only ", sentence)
    sentence = _pattern("contrasts").sub("", sentence)
    for match in list(_LETTERS.finditer(sentence))[-_MOST:]:
        choice = _of_letters(sentence, match, ends_line=ends_line)
        for letter in re.findall(r"\b[A-J]\b", match[0]):
            choices[letter] = max(choice, choices.get(letter, _Choice.NONE))
    return choices


def _of_letters(sentence: str, match: re.Match[str], *, ends_line: bool) -> _Choice:
    """What a sentence says of a letter, or of several that it enumerates."""
    before, after = sentence[max(0, match.start() - _AROUND) : match.start()], sentence[match.end() :][:_AROUND]
    clause = _RELATIVE.sub("", re.split(r"[,;—–(]\s?(?=.)|\b(?:and|but)\s", before)[-1])
    ended, bracketed = re.fullmatch(r"\W*", after) is not None, match[0].endswith(")")
    named = re.search(rf"(?i)(?:{_words('nouns')})\W*$", before) is not None
    starts = named or _pattern("starts").search(before) is not None
    about = _pattern("is").search(before)
    pointed = _pattern("pointing").search(before) or (
        about and _pattern("subjects").search(before[: about.start()].rstrip(" ,") + " ")
    )
    if (starts or pointed) and _pattern("refused").match(after):
        return _Choice.REFUSED
    after = re.sub(r"^\s\([^()]*\)", "", after)
    if match[0] == "I" and not named and re.match(r"\s(?!is\b|holds\b|fits\b)[a-z]|['’]|,\s[a-z]", after):
        return _Choice.NONE  # who speaks
    if (
        re.search(r"(?i)\beither\s+$", before)
        or _pattern("supposed").search(before)
        or _pattern("denied").search(clause)
        or re.match(r"(?i)neither|either \S+$", match[0])
    ):
        return _Choice.NONE
    if pointed and (bracketed or _pattern("going_on").match(after)):
        return _Choice.ANSWER
    closed = bracketed or _pattern("closed").match(after) is not None
    if closed and _pattern("loosely").search(before) and not _pattern("things").search(before):
        return _Choice.ANSWER
    if _ONLY.search(before) and (bracketed or ended or _pattern("only").match(after)):
        return _Choice.ANSWER
    if starts and _pattern("answered").match(after):
        return _Choice.ANSWER
    if (
        ended
        and ends_line
        and re.search(
            r"(?i)(?<!second)(?<!next)(?<!first)(?<!third)(?<!also)(?<!\band)(?<!\bor)(?:[a-z]{2},|[.–—-])\s*$", before
        )
    ):  # `I have to choose, D.`
        return _Choice.ANSWER
    if ended and (
        re.search(r"(?i)[(,]\s?(?:option|answer|choice|letter)\s$", before) or (bracketed and _NAMES.search(before))
    ):
        return _Choice.ANSWER  # `a catalyst (option C)`
    return (
        _Choice.RIGHT
        if starts and _pattern("right").match(after) and not re.search(r"\bbut\b", after)
        else _Choice.NONE
    )


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
