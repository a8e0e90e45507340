"""What runs within the sandbox: a program, one that answers calls, or tests that call it from another process.

Only the standard library. The process of the model's code never holds a test or an expected value: it reads its own
source, and then its input, or the arguments of calls. Tests run in a process of their own, in which the candidate is a
proxy that sends calls over and gets plain data back.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import os
import select
import struct
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any

from plain import LONGEST, decoded, encoded  # type: ignore[import-not-found]  # beside this file; not the package's

_SAID = 300  # characters of what went wrong
_MAIN, _MODULE = "__main__", "program"  # names of a program that is run, and of one that is called


class NoPythonError(Exception):
    """The program isn't Python."""


class CandidateGoneError(BaseException):
    """The process of the model's code has ended, or says what isn't an answer; no test may catch that."""


class NoDataError(BaseException):
    """What a call returned is no plain data, so it can't be compared; no test may catch that either."""


def program(places: Mapping[str, int]) -> None:
    """Run a program whose input and output are the standard ones."""
    request = decoded(_received(places["source"]))
    os.close(places["source"])
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", newline="\n")  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", newline="\n")  # type: ignore[misc]  # noqa: SIM115
    names = _module(_MAIN)
    try:
        _execute(names, request["prelude"], request["source"])
    finally:
        _finished(names)


def _finished(names: dict[str, Any]) -> None:
    """What Python does at its end: wait for threads, call what was registered, write what was not yet written."""
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter calls it
    atexit._run_exitfuncs()
    _flush(sys.stdout)  # which may be the program's own, and works only as long as its names are there
    _flush(sys.__stdout__)
    names.clear()
    gc.collect()  # which closes files of the program's own, as nothing refers to them any more
    _flush(sys.__stdout__)


def _flush(stream: Any) -> None:
    with contextlib.suppress(Exception):
        stream.flush()


def calls(places: Mapping[str, int]) -> None:
    """Run a program, and then answer calls of what it defines."""
    request = decoded(_received(places["requests"]))
    try:
        names = _module(_MODULE)
        _execute(names, request["prelude"], request["source"])
        called = _defined(names, request["entry"])
    except BaseException as error:  # `sys.exit()` too
        _send(places["replies"], encoded({"failed": line(error), "memory": isinstance(error, MemoryError)}))
        return
    _send(places["replies"], encoded({"ready": True}))
    while data := _received(places["requests"]):
        arguments = decoded(data)
        echo = arguments.get("echo", False)
        _send(places["replies"], _answer(called(), arguments["args"], arguments["kwargs"], echo=echo))


def tests(places: Mapping[str, int]) -> None:
    """Run tests of a candidate in another process, one after the other, and say how each ended."""
    request = decoded(_received(places["tests"]))
    names, gone = _module(_MODULE), list[BaseException]()
    try:
        _execute(names, request["prelude"])
    except Exception as error:
        _send(places["outcomes"], encoded({"broken": line(error)}))
        return
    proxy = _proxy(places, gone)
    names |= {request["entry"]: proxy, "candidate": proxy}
    for test in request["tests"]:
        outcome: dict[str, Any] = {"passed": True}
        try:
            exec(compile(test, "test", "exec"), names)  # what this process is for
        except (CandidateGoneError, NoDataError):
            pass  # in `gone`, also if a test has caught it
        except AssertionError as error:
            outcome = {"wrong": line(error)}
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            outcome = {"error": line(error)}
        if gone:
            outcome = {"gone" if isinstance(gone[0], CandidateGoneError) else "wrong": str(gone[0])}
        _send(places["outcomes"], encoded(outcome))
        if "gone" in outcome:
            return
        gone.clear()


def _module(name: str) -> dict[str, Any]:
    """The names of a new module of a program."""
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # as outside, where the module `site` adds them
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit = lambda *_: None  # limits are the sandbox's; what asks for a larger stack goes on
    module = types.ModuleType(name)
    sys.modules[name] = module
    module.__dict__.update(__builtins__=builtins, __file__="program.py")
    return module.__dict__


def _execute(names: dict[str, Any], *parts: str) -> None:
    """Run the parts of a program, each with its own `from __future__`.

    Raises:
        NoPythonError: one can't be compiled.
    """
    for part in filter(None, parts):
        try:
            code = compile(part.lstrip("\ufeff"), "program.py", "exec")
        except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
            raise NoPythonError(line(error)) from None
        exec(code, names)  # what the sandbox is for


def _defined(names: Mapping[str, Any], entry: str) -> Callable[[], Callable[..., Any]]:
    """What gives the function to call: the one of that name, or a method of a new `Solution`."""
    first, _, method = entry.rpartition(".")
    if (first or entry) not in names:
        raise NameError(f"it defines no {first or entry!r}")
    if not first:
        function = names[entry]
        return lambda: function
    made = names[first]
    return lambda: getattr(made(), method)


def _answer(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], *, echo: bool) -> bytes:
    """What a call returns or raises, and with `echo` its arguments, which it may have changed."""
    try:
        value = function(*args, **kwargs)
    except MemoryError as error:
        return bytes(encoded({"memory": line(error)}))
    except BaseException as error:
        kind = next(one.__name__ for one in type(error).__mro__ if one.__module__ == "builtins")
        return bytes(encoded({"raised": kind, "says": line(error), "text": _text(error)}))
    try:
        reply = {"value": value}
        if echo:
            with contextlib.suppress(TypeError, ValueError):  # one that was changed into what is no data
                return bytes(encoded(reply | {"args": args}))
        return bytes(encoded(reply))
    except (TypeError, ValueError, MemoryError) as error:
        return bytes(encoded({"no data": line(error)}))


def _proxy(places: Mapping[str, int], gone: list[BaseException]) -> Callable[..., Any]:
    """The candidate as a function: calls go to its process, and come back as plain data.

    What no test may catch is kept in `gone`.
    """
    lock = threading.Lock()

    def stop(error: BaseException) -> BaseException:
        gone.append(error)
        return error

    def candidate(*args: Any, **kwargs: Any) -> Any:
        request = encoded({"args": list(args), "kwargs": kwargs, "echo": True})
        try:
            with lock:
                _send(places["candidate requests"], request)
                reply = decoded(_received(places["candidate replies"]))
        except (OSError, ValueError) as error:
            raise stop(CandidateGoneError(line(error))) from None
        if not isinstance(reply, dict) or not reply:
            raise stop(CandidateGoneError("what it answers is no answer"))
        if "raised" in reply:
            raise _exception(str(reply["raised"]), str(reply.get("text", "")))
        if "memory" in reply:
            raise MemoryError(_said(str(reply["memory"])))
        if "value" not in reply:
            raise stop(NoDataError(_said(str(next(iter(reply.values()))))))
        for mine, theirs in zip(args, reply.get("args", []), strict=False):
            _take_over(mine, theirs)
        return reply["value"]

    return candidate


# Not as they are: a failed assertion would be the test's own, an end of iteration would end a loop of the test.
_OTHERWISE = (AssertionError, StopIteration, StopAsyncIteration)


def _exception(name: str, text: str) -> Exception:
    """An exception that a call has raised, or the built-in one that it is a kind of."""
    kind = getattr(builtins, name, Exception)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _OTHERWISE):
        with contextlib.suppress(TypeError):  # one that takes more than a text
            return kind(text)
        return next(base for base in kind.__mro__[1:] if base in (ValueError, Exception))(text)
    return Exception(f"{name}: {text}")


def _take_over(mine: object, theirs: object) -> None:
    """Change an argument as the call changed it."""
    if isinstance(mine, list) and isinstance(theirs, list):
        mine[:] = theirs
    elif isinstance(mine, (dict, set)) and type(mine) is type(theirs):
        mine.clear()
        mine.update(theirs)


# Messages: a length of four bytes, and then so many ----------------------------------------------------


def _send(place: int, data: bytes) -> None:
    view = memoryview(struct.pack(">I", len(data)) + data)
    while view:
        try:
            view = view[os.write(place, view) :]
        except BlockingIOError:  # the other end of the same pipe may not block
            _wait(place, select.POLLOUT)


def _received(place: int) -> bytes:
    """The next message; empty if there is none."""
    head = _exactly(place, 4)
    if len(head) < 4:
        return b""
    (length,) = struct.unpack(">I", head)
    if length > LONGEST:
        raise ValueError("a message that is too long")
    data = _exactly(place, length)
    if len(data) < length:
        raise ValueError("a message without its end")
    return data


def _exactly(place: int, count: int) -> bytes:
    parts = []
    while count:
        try:
            part = os.read(place, min(count, 1 << 20))
        except BlockingIOError:
            _wait(place, select.POLLIN)
            continue
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _wait(place: int, event: int) -> None:
    poll = select.poll()
    poll.register(place, event)
    poll.poll()


def line(error: BaseException) -> str:
    """An exception in a line."""
    text = _text(error)
    return _said(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _text(error: BaseException) -> str:
    try:
        only = error.args[0] if len(error.args) == 1 else None
        return only[:_SAID] if type(only) is str else str(error)[:_SAID]
    except Exception:  # of an exception that can't be written
        return ""


def _said(text: str) -> str:
    return " ".join(text.split())[:_SAID]
