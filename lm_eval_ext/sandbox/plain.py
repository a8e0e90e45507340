"""Values as data: what may pass between a program in the sandbox and whoever judges it.

Only the standard library: this file is also read inside the sandbox. What is decoded consists of exact built-in types,
whatever the sender is, so no object with an `__eq__` of its own arrives.

>>> decoded(encoded([1, (2.5, "a"), {3: None}, {4}, 1 + 2j, b"x", range(3)]))
[1, (2.5, 'a'), {3: None}, {4}, (1+2j), b'x', range(0, 3)]
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

ERROR, MEMORY = 1, 117  # exit statuses of a process in the sandbox that failed
LONGEST = 64 << 20  # bytes of one message
_LARGEST_FRACTION = 1 << 14  # bits of its parts: to reduce larger ones takes minutes
_SAME_HASH = 1000  # members of a set, or keys, of one hash: more would take quadratic time, and are no accident
_DEEPEST = 200  # containers within containers
_NAME = 60  # characters of a type's name
_EXACT = 1 << 53  # whole numbers below it are written as numbers


class Opaque:
    """What stands for an object that is no plain data: it is there, and equal to nothing else."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        return f"<{self._kind}, which is no plain data>"


def encoded(value: object) -> bytes:
    """A value as bytes; subclasses of built-in types become these, and other objects are opaque.

    Raises:
        ValueError: it is nested too deeply, or too long.
    """
    data = json.dumps(_tagged(value, 0), separators=(",", ":")).encode("ascii")
    if len(data) > LONGEST:
        raise ValueError(f"{len(data):,} bytes of data, more than {LONGEST:,}")
    return data


def _tagged(value: Any, depth: int) -> object:
    if depth > _DEEPEST:
        raise ValueError(f"data nested more than {_DEEPEST} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -_EXACT < number < _EXACT else ["int", hex(number)]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, range):
        return ["range", *(hex(part) for part in (value.start, value.stop, value.step))]
    if isinstance(value, dict):
        return ["dict", [[_tagged(key, depth + 1), _tagged(one, depth + 1)] for key, one in dict.items(value)]]
    for kind, name in _CONTAINERS:
        if isinstance(value, kind):
            members: Any = value
            return [name, [_tagged(one, depth + 1) for one in members]]
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _LARGEST_FRACTION:
            raise ValueError(f"a fraction of more than {_LARGEST_FRACTION:,} bits")
        return ["Fraction", hex(value.numerator), hex(value.denominator)]
    if isinstance(value, Decimal) and value.is_finite():
        return ["Decimal", str(value)]
    if isinstance(value, Opaque):
        return ["opaque", value._kind]
    if isinstance(value, Iterator) or type(value).__name__ in ("dict_keys", "dict_values", "dict_items"):
        return ["iterator", [_tagged(one, depth + 1) for one in value]]
    if type(value).__module__ == "collections" and type(value).__name__ == "deque":
        return ["list", [_tagged(one, depth + 1) for one in value]]
    if type(value).__module__ == "numpy":
        return _tagged(value.tolist(), depth + 1)
    return ["opaque", type(value).__name__[:_NAME]]


_CONTAINERS: tuple[tuple[type, str], ...] = ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset"))
_MADE: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": iter,
}


def decoded(data: bytes) -> Any:
    """The value that some bytes say.

    Raises:
        ValueError: they say none.
    """
    try:
        return _untagged(json.loads(data), 0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"no plain data: {error}") from None


def _untagged(found: Any, depth: int) -> Any:
    if depth > _DEEPEST + 2:
        raise ValueError("nested too deeply")
    if not isinstance(found, list):
        if isinstance(found, dict):
            raise TypeError("an object of JSON")
        return found
    name, *parts = found
    if name == "int":
        return int(parts[0], 16)
    if name == "complex":
        return complex(*map(float, parts))
    if name == "bytes":
        return bytes.fromhex(parts[0])
    if name == "range":
        return range(*(int(part, 16) for part in parts))
    if name == "Fraction":
        if 4 * max(map(len, parts)) > _LARGEST_FRACTION + 16:
            raise ValueError("a fraction that is too large")
        return Fraction(int(parts[0], 16), int(parts[1], 16))
    if name == "opaque":
        return Opaque(str(parts[0])[:_NAME])
    if name == "Decimal":
        if not (number := Decimal(parts[0])).is_finite():
            raise ValueError("no number")
        return number
    if name == "dict":
        keys = _apart([_untagged(key, depth + 1) for key, _ in parts[0]])
        return dict(zip(keys, (_untagged(one, depth + 1) for _, one in parts[0]), strict=True))
    members = [_untagged(one, depth + 1) for one in parts[0]]
    return _MADE[name](_apart(members) if name in ("set", "frozenset") else members)


def _apart(members: Sequence[Hashable]) -> Sequence[Hashable]:
    """Members of a set, if not too many of them have one hash."""
    if len(members) > _SAME_HASH and max(Counter(map(hash, members)).values()) > _SAME_HASH:
        raise ValueError("too many values of one hash")
    return members
