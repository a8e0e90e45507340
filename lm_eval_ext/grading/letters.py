"""The letter named by an answer to a multiple-choice question."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

ALL = "ABCDEFGHIJ"
_LONGEST = 300  # characters in which the letter stands, so that no output takes long to search
_NAMED = r"(?:(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:answer|option|choice)\b\W*(?:is\b)?\W*)?"
_CHOSEN = (
    r"i(?:['\u2019](?:d|ll)|\s+would|\s+will)?\s+(?:choose|pick|select|go\s+with|opt\s+for)\s+"
    r"(?:option\s+(?=\W*[A-Z])|(?=\W*\(|[A-J](?![\w'\u2019]|\s+[a-z])))"
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
ORDINAL = re.compile(
    rf"(?i)\b(?:the\s+)?(?P<place>{'|'.join(_ORDINALS)}|last|\d{{1,2}}(?=st|nd|rd|th))(?:st|nd|rd|th)?\s+(?:option|choice|one)\b(?!,)"
    r"|\b(?:option|choice|answer) (?:number|no\.|#)\s?(?P<number>\d{1,2})(?![\d.])"
)
# Names of species, of which the first word is cut to a letter.
SPECIES = (
    "elegans|coli|aureus|cerevisiae|melanogaster|sapiens|subtilis|pylori|difficile|albicans|thaliana|falciparum|rerio|"
    "botulinum|tetani|perfringens|burgdorferi|anthracis|diphtheriae|jejuni|trachomatis|pneumoniae|vivax|gondii|musculus"
)
# What a letter alone begins the name of: `G protein-coupled receptors`, `C minor`.
_NAMES = (
    "proteins?|lymphocytes?|cells?|vitamins?|flat|sharp|major|minor|forces?|statistics?|tests?|bonds?|curve|horizon|"
    "waves?|bands?|orbitals?|shell"
)
_RUN = re.compile(r"([^\w\s])\1{3,}")  # of one sign, which takes long to search
_STYLE = r"\\(?:text|math)\w*\s*\{"
_OPENING = r"[\s*_$({\[\"'`:]*"
_PLURAL = re.compile(
    r"(?<!wrong )(?<!incorrect )\b(?i:answers|options|choices)\s+(?i:are|were)[\s:]+([^.\n]{1,100})"
    r"|\b((?:[A-Z]\b(?:,\s?(?:and\s)?|\sand\s|\s?&\s?)?){2,26})\s+are\s(?:both\s|all\s)?(?:the\s)?(?:correct|right|true)\b(?!\?)"
)
_REFUSED = "wrong|incorrect|false|out|ruled|too|impossible|eliminated|excluded"
_SMALL_IN_BRACKETS = re.compile(rf"\W*?(?:{_STYLE})?\(?([a-z])\)(?!\s*[=+^*/\\-])(?![^\n]*(?:and|or)\W*\(?[a-z]\))")
_SMALL_ALONE = re.compile(rf"\W*(?:{_STYLE})?(?i:(?:option|choice|answer)\b)?\W*([a-z])\W*")


def chosen_letter(answer: str, letters: str = ALL) -> str:
    """The one letter that an answer begins with; empty if there is none, or several are named.

    Args:
        answer: a final answer, such as `(C)`, `C. 12 cm` or `option C`.
        letters: the letters that the task allows.

    >>> chosen_letter("(B), since it is even")
    'B'
    """
    start = _RUN.sub(r"\1\1\1", unicodedata.normalize("NFKC", answer[:_LONGEST]))
    if named := ORDINAL.match(start.lstrip("*_$({[\"'` ")):
        return ordinal(named, letters)
    match = _pattern(letters).match(start)
    return match[1] if match else ""


def ordinal(named: re.Match[str], letters: str) -> str:
    """The letter that a match of `ORDINAL` names; empty if there are not so many."""
    place = (named["place"] or named["number"]).lower()
    if place == "last":
        return letters[-1]
    at = int(place) - 1 if place.isdecimal() else _ORDINALS.index(place)
    return letters[at:][:1] if at >= 0 else ""


def capital(answer: str, *, boxed: bool = False) -> str:
    r"""The letter of an answer that is a small letter, in brackets or alone, as a capital; any other as it is.

    `a` and `i` alone are letters only in a box: `The answer is a` may have been cut.

    >>> capital("(b), since it is even"), capital("c"), capital("a"), capital("a", boxed=True), capital("a prime")
    ('B', 'C', 'a', 'A', 'a prime')
    """
    start = unicodedata.normalize("NFKC", answer[:_LONGEST])
    if (bracketed := _SMALL_IN_BRACKETS.match(start)) and "(ii)" not in start:
        return bracketed[1].upper()
    alone = _SMALL_ALONE.fullmatch(start)
    return alone[1].upper() if alone and (boxed or alone[1] not in "ai") else answer


@cache
def _pattern(letters: str) -> re.Pattern[str]:
    some = f"[{re.escape(letters)}]"
    closed = r"[\s*_$)}\]\"'`.,:]*"
    joined = (
        r"(?:\b(?:and|or|und|oder|et|ou|y|o|e|и|или|або)\b(?:\s+maybe)?|,?\s*\b(?:also|but also|as well as)\b"
        r"|[&/,;|+–×·∧∨→≥≤⊂∪\u3001\u548c\u6216]|\(\s*(?:and|or)\b|또는|및|และ|หรือ|और|या|এবং|و|أو|లేదా)"
    )
    another = rf"(?:\\text\s*\{{)?\s*\(?{some}\)?(?![\w'\u2019])"
    others = rf"(?:{closed}{joined}{closed}{another}|{closed}\(\s*{some}\s*\)|\s+{some}(?![\w'\u2019]))"
    article = r"(?<=[AI])\s+[a-z]"  # a sentence that begins with `A` or `I`
    operator = r"\?(?=\s)|\((?![^\x00-\x7f])|[\^=+/#'\u2019\\-]|\s*(?:[=+^<>]|\\[A-Za-z])|\*(?=\s*\w)"
    species = rf"\.\s*(?:{SPECIES})\b|[ -](?:{_NAMES})\b|\.\s?[A-Z]\.|\.[A-Z]\W*$"
    negated = r"(?:is|was|can|could|does|would)(?:\s*not|n['\u2019]t)|cannot"
    wrong = rf"(?:\w+ly\s+|also\s+|just\s+)?(?:{_REFUSED})|(?:the|an?)\s+(?:{_REFUSED})\s+(?:answer|option|choice)"
    refused = rf"{closed}\s*(?:{negated}|is\s+(?:{wrong})|would\s+be|fails|contradicts)\b"
    end = rf"(?!\w|{operator}|{species}|{article}|{others}|{refused})"
    return re.compile(rf"(?i:^\W*?(?:{_STYLE}\W*)?(?:{_CHOSEN})?{_NAMED})(?:{_STYLE})?{_OPENING}({some}){end}")


def several_named(text: str) -> list[str]:
    """What a text calls its answers in the plural, the last first: `A and C` of `A and C are correct`."""
    found = [(match.end(), match[1] or match[2]) for match in _PLURAL.finditer(text)]
    return [named for _, named in sorted(found, reverse=True)]


def several_letters(answer: str, letters: str = ALL) -> str:
    r"""The letters that an answer consists of, in order; empty if it is anything else.

    >>> several_letters(r"\text{C and A}"), several_letters("(B)"), several_letters("AC"), several_letters("A cat")
    ('A, C', 'B', 'A, C', '')
    """
    text = unicodedata.normalize("NFKC", answer)
    text = re.sub(r"\\(?:text|math)\w*|\b(?i:and|or|options?|choices?|answers?)\b", " ", text)
    found = re.findall(r"\w+", text)
    if len(found) == 1 and found[0].isupper():
        found = list(found[0])
    if len(found) > 1 and all(len(one) == 1 for one in found):
        found = [one.upper() for one in found]
    return ", ".join(sorted(set(found))) if found and all(len(one) == 1 and one in letters for one in found) else ""
