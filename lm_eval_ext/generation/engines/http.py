"""Requests to an inference server, and which of their failures may pass when they are tried again."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import math
import queue
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from lm_eval_ext.errors import EngineError

if TYPE_CHECKING:
    import aiohttp


logger = logging.getLogger("lm_eval.tts")

_PASSING = {408, 409, 429}  # statuses that may pass, besides those from 500
_MOST_BYTES = 256 * 2**20  # of a reply
_LONGEST_WAIT = 600.0  # seconds that a server may ask for
_CONNECT = 30.0  # seconds
_SOON = 2  # retries after which a server that has never replied is told of
_SECRET = 6  # characters from which a header's value may be a secret
_JSON = {"Content-Type": "application/json"}


class RetryableError(Exception):
    """A request failed, and may succeed later.

    Attributes:
        wait: seconds that the server asks to wait; 0 if it doesn't say.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class UnreachableError(RetryableError):
    """The server cannot be reached, or has closed the connection."""


class RefusedError(EngineError):
    """The server refuses a request, and would again.

    Attributes:
        every: whether it would refuse every other request as well.
        status: of the reply; 0 if there was none.
    """

    def __init__(self, reason: str, every: bool, status: int = 0) -> None:
        super().__init__(reason)
        self.every = every
        self.status = status


@dataclass(frozen=True)
class ConnectionOptions:
    """How to connect to a server.

    Attributes:
        timeout: seconds until a request must be answered in full.
        headers: sent with every request.
        key: sent as a bearer token, and removed from messages.
        key_variable: the environment variable that holds the key.
        verify: whether to check the server's certificate.
        ca_file: certificates to trust, instead of the system's.
    """

    timeout: float = 3600.0
    headers: dict[str, str] = field(default_factory=dict)
    key: str = field(default="", repr=False)
    key_variable: str = "OPENAI_API_KEY"
    verify: bool = True
    ca_file: str | None = None


@dataclass(eq=False)
class ServerClient:
    """An HTTP client for one server; to be used in one event loop.

    Attributes:
        root: the server's address without a path, such as `http://localhost:8000`.
        options: how to connect.
        connections: number of connections made so far; a server that was started again needs new ones.
    """

    root: str
    options: ConnectionOptions
    connections: int = field(default=0, init=False)

    async def open(self) -> None:
        """Prepare for requests."""
        import aiohttp

        async def connected(*_: object) -> None:
            self.connections += 1

        given = {name.lower() for name in self.options.headers}
        key = (
            {"Authorization": f"Bearer {self.options.key}"} if self.options.key and "authorization" not in given else {}
        )
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(connected)
        self._proxy = _proxy(self.root)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_certificates(self.options)),
            timeout=aiohttp.ClientTimeout(total=self.options.timeout, sock_connect=_CONNECT),
            headers=self.options.headers | key,
            trace_configs=[trace],
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def post(self, route: str, body: object) -> object:
        """Send JSON; returns the parsed reply.

        Raises:
            RetryableError: the connection failed, the server is overloaded or broken, or its reply is not JSON.
            RefusedError: the server refuses the request.
        """
        return await self._request("POST", route, body)

    async def get(self, route: str) -> object:
        """Read JSON; raises as `post` does."""
        return await self._request("GET", route, None)

    async def _request(self, method: str, route: str, body: object) -> object:
        import aiohttp

        # By pydantic, because it is several times as fast with thousands of token ids.
        sent = None if body is None else to_json(body)
        try:
            async with self._session.request(
                method, self.root + route, data=sent, headers=_JSON, proxy=self._proxy, allow_redirects=False
            ) as response:
                return self._parsed(route, response, await _content(response))
        except aiohttp.ClientConnectorCertificateError as error:
            text = f"{self.root}: {self.clean(str(error))}; give ca_cert_path=FILE, or verify_certificate=False"
            raise RefusedError(text, every=True) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError) as error:
            reason = self.clean(str(error)) or type(error).__name__
            raise UnreachableError(f"{self.root} cannot be reached ({reason})") from error
        except TimeoutError as error:
            raise RetryableError(f"{self.root}{route}: no complete reply within {self.options.timeout:g} s") from error
        except ValueError as error:  # a header that cannot be sent, or the address of a proxy
            raise RefusedError(f"{self.root}: {self.clean(str(error))}", every=True) from error
        except aiohttp.ClientError as error:
            raise RetryableError(f"{self.root}{route}: {self.clean(str(error))}") from error

    def _parsed(self, route: str, response: aiohttp.ClientResponse, content: bytes) -> object:
        status, place = response.status, f"{self.root}{route}"
        if status == 200:
            return self._json(place, content)
        said = self.clean(_message(content)) or response.reason or "no reason"
        if status in _PASSING or status >= 500:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            raise RetryableError(f"{place}: the server replied {status}: {said}", wait)
        raise self._refused(place, status, said, response.headers.get("Location", ""))

    def _refused(self, place: str, status: int, said: str, location: str) -> RefusedError:
        hint = ""
        if status in (401, 403):
            hint = f"; set the environment variable {self.options.key_variable} to a valid key, or give auth_token="
        if 300 <= status < 400:
            hint = f"; it redirects to {self.clean(location)[:200]}: give that as base_url"
        every = status in (401, 403, 404, 405) or status < 400
        return RefusedError(f"{place}: the server replied {status}: {said}{hint}", every, status)

    def _json(self, place: str, content: bytes) -> object:
        try:
            return from_json(content)
        except ValueError as error:
            start = self.clean(content[:1000].decode("utf-8", "replace"))[:80]
            raise RetryableError(f"{place}: the reply is not JSON: {start!r}") from error

    def clean(self, text: str) -> str:
        """A text on one line, without the key and the headers' values, which some servers repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:300]

    @cached_property
    def _secrets(self) -> list[str]:
        """The longest first; of a header, also its words, such as the token after `Bearer`."""
        given = [self.options.key, *self.options.headers.values()]
        words = {word for value in given for word in (value, *value.split()) if len(word) >= _SECRET}
        return sorted({self.options.key, *words} - {""}, key=len, reverse=True)


@dataclass(eq=False)
class PatientClient(ServerClient):
    """A client that tries a failed request again, each alone: one failure among many costs nothing that went well.

    Attributes:
        root, options: as of `ServerClient`.
        retries: how often a request is tried again; less often if the server cannot be reached and has never replied.
        wait: seconds before a try, by how often the request has failed.
    """

    retries: int
    wait: Callable[[int], float]
    _has_replied: bool = field(default=False, init=False)

    async def _request(self, method: str, route: str, body: object) -> object:
        for tries in count(1):
            try:
                content = await super()._request(method, route, body)
                break
            except RetryableError as error:
                unknown = isinstance(error, UnreachableError) and not self._has_replied
                if tries > (min(_SOON, self.retries) if unknown else self.retries):
                    raise
                logger.info("%s; trying again", error)
                await asyncio.sleep(max(error.wait, self.wait(tries)))
        self._has_replied = True
        return content


def _proxy(root: str) -> str | None:
    """The proxy that the environment names for a server; read once, where aiohttp's `trust_env` reads it every time."""
    address = urlsplit(root)
    if urllib.request.proxy_bypass(address.hostname or ""):
        return None
    proxy = urllib.request.getproxies().get(address.scheme)
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


def _certificates(options: ConnectionOptions) -> ssl.SSLContext | bool:
    if not options.verify:
        return False
    if options.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise EngineError(
            f"ca_cert_path={options.ca_file}: cannot be read ({error}); expected a file of certificates"
        ) from error


async def _content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > _MOST_BYTES:
            raise RefusedError(f"{response.url}: the reply is longer than {_MOST_BYTES:,} bytes", every=False)
    return bytes(content)


def _message(content: bytes) -> str:
    """The server's own words in the reply to a failed request."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return content[:1000].decode("utf-8", "replace")
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else json.dumps(found)


def _retry_after(value: str) -> float:
    """Seconds of a `Retry-After` header, which has a number or a date (RFC 9110, section 10.2.3).

    >>> _retry_after("3"), _retry_after("soon"), _retry_after("1e9")
    (3.0, 0.0, 600.0)
    """
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_WAIT)


_Tag = TypeVar("_Tag")
_Result = TypeVar("_Result")


class Settled(NamedTuple, Generic[_Tag]):
    """What came of a coroutine: its result, or the exception that ended it."""

    tag: _Tag
    result: Any
    error: BaseException | None


class LoopThread(Generic[_Tag]):
    """Runs coroutines in its thread, and hands their outcomes to the caller's; leaving it cancels what still runs."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._outcomes: queue.SimpleQueue[Settled[_Tag]] = queue.SimpleQueue()
        self._running: set[asyncio.Task[object]] = set()  # the loop itself holds its tasks by weak references
        self._thread = threading.Thread(target=self._loop.run_forever, name="lm-eval-tts-requests", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.result_of(self._cancelled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self, tag: _Tag, coroutine: Coroutine[object, object, object]) -> None:
        """Run a coroutine; its outcome is reported with the tag, unless it is cancelled."""
        self._loop.call_soon_threadsafe(self._begin, tag, coroutine)

    def result_of(self, coroutine: Coroutine[object, object, _Result]) -> _Result:
        """Run a coroutine and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def outcome(self, timeout: float | None) -> Settled[_Tag] | None:
        """The next outcome; None if there is none within `timeout` seconds."""
        try:
            return self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None

    def _begin(self, tag: _Tag, coroutine: Coroutine[object, object, object]) -> None:
        task = self._loop.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(partial(self._report, tag))

    def _report(self, tag: _Tag, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._outcomes.put(Settled(tag, None if error else task.result(), error))

    async def _cancelled(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_apart(coroutine: Coroutine[object, object, _Result]) -> _Result:
    """Run a coroutine in a loop and a thread of its own, and wait for its result."""
    thread: LoopThread[None] = LoopThread()
    with thread:
        return thread.result_of(coroutine)
