"""A fake inference server in each dialect, whose model is a script and whose faults are chosen by the test."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self

from aiohttp import web

from lm_eval_ext.generation.engines.dialect import Vocabulary
from lm_eval_ext.generation.request import Job, Sampling, Stop

END, WORDS = 0, 50  # an id that ends a text, and the number of ordinary ones after it
_LIMITS = ("max_tokens", "n_predict", "max_new_tokens", "max_completion_tokens")
Script = Callable[[Job], Iterable[int] | Awaitable[Iterable[int]]]

vocabulary = Vocabulary(
    encode=lambda text: [1 + (ord(letter) - ord("A") - 1) % WORDS for letter in text],
    text=lambda ids: "".join("$" if token == END else chr(ord("A") + token) for token in ids),
    ends=frozenset([END]),
)


def decode(ids: Sequence[int]) -> str:
    """Ids to text, without the end."""
    return vocabulary.text([token for token in ids if token != END])


def scripted(job: Job, words: int = WORDS) -> Iterable[int]:
    """A model whose next token depends on all before it, and on the seed if it samples."""
    ids = list(job.ids)
    while True:
        noise = job.seed if job.sampling.temperature > 0 else None
        token = int.from_bytes(hashlib.sha256(f"{ids} {noise}".encode()).digest()[:4], "big") % (words + 1)
        yield token
        ids.append(token)


class FakeServer:
    """A server on a free port, in a thread of its own.

    Args:
        dialect: name of the dialect it speaks.
        script: the model.
        max_length: context length that it has.
        says: context length that it says it has.

    Attributes:
        faults: what goes wrong with the next requests for texts, one word each; empty when all is well.
        asked: bodies of all requests for texts.
        most: largest number of requests in flight.
    """

    def __init__(
        self, dialect: str = "vllm", script: Script = scripted, max_length: int = 4096, says: int | None = None
    ) -> None:
        self.dialect, self.script, self.max_length, self.says = dialect, script, max_length, says or max_length
        self.faults: deque[str] = deque()
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.busy = self.most = 0
        self.port = 0
        self.seconds = 0.0  # that each text takes
        self.name = "m"  # of its model; to be changed before it is entered
        self.recipe = ""  # what it says of dropped layers; to be set before it is entered
        self.tokenizer: Callable[[str], list[int]] | None = None
        self.loading = 0  # how many questions about itself it answers with 503 first
        self.retry_after = "0"  # seconds, beside 429
        self.fault_of: Callable[[dict[str, Any]], str] = lambda body: ""  # what goes wrong with a request, always
        self.times: list[float] = []  # when texts were asked for
        self.closes = False  # whether it closes each connection after a reply
        self.listed = "m"  # id of the model that a chat or text server lists

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def up(self) -> None:
        """Start to listen, at the same port as before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def down(self) -> None:
        """Close all connections and stop to listen."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.add_routes([web.post(self.route, self._complete), web.post("/tokenize", self._encode), *self._facts()])
        self._runner = web.AppRunner(app, shutdown_timeout=0.0, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # it listens

    @property
    def route(self) -> str:
        """Where texts are asked for."""
        return {
            "vllm": "/v1/completions",
            "text": "/v1/completions",
            "llama.cpp": "/completion",
            "sglang": "/generate",
            "chat": "/v1/chat/completions",
        }[self.dialect]

    def _facts(self) -> list[web.RouteDef]:
        said: dict[str, dict[str, dict[str, Any]]] = {
            "vllm": {
                "/version": {"version": "0.32.0"},
                "/v1/models": {
                    "data": [
                        {"id": name, "root": "org/m", "max_model_len": self.says}
                        for name in (self.name, *([f"lm-eval-tts:{self.recipe}"] if self.recipe else []))
                    ]
                },
            },
            "llama.cpp": {
                "/props": {
                    "default_generation_settings": {"n_ctx": self.says}, "build_info": "b1", "model_path": "m.gguf",
                },
                "/v1/models": {"data": [{"id": "m", "meta": {"n_params": 5}}]},
            },
            "sglang": {
                "/get_model_info": {"model_path": "org/m"},
                "/get_server_info": {"version": "0.5", "context_length": self.says},
            },
            "text": {"/v1/models": {"data": [{"id": self.listed, "context_length": self.says}]}},
        }  # fmt: skip

        def answering(content: dict[str, Any]) -> Callable[[web.Request], Any]:
            async def answer(request: web.Request) -> web.Response:
                self.loading -= 1
                return web.json_response(content, status=503 if self.loading >= 0 else 200)

            return answer

        said["chat"] = said["text"]
        return [web.get(path, answering(content)) for path, content in said[self.dialect].items()]

    async def _encode(self, request: web.Request) -> web.Response:
        if self.tokenizer is None:
            raise web.HTTPNotFound
        body = await request.json()
        return web.json_response({"tokens": self.tokenizer(body.get("prompt", body.get("content")))})

    # Texts ------------------------------------------------------------------------------------------------

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        fault = (self.faults.popleft() if self.faults else "") or self.fault_of(body)
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            if fault:
                return await self._faulty(fault, request)
            reply = web.json_response(self._scores(body) if "prompt_logprobs" in body else await self._reply(body))
            if self.closes:
                reply.force_close()
            return reply
        finally:
            self.busy -= 1

    async def _faulty(self, fault: str, request: web.Request) -> web.StreamResponse:
        if fault.isdigit():
            headers = {"Retry-After": self.retry_after} if fault == "429" else {}
            said = {"error": {"message": f"fault {fault}, key was {request.headers.get('Authorization')}"}}
            return web.json_response(said, status=int(fault), headers=headers)
        if fault == "words":  # an error with status 200, which repeats the key
            return web.json_response({"error": f"bad\x1b[2J key\n{request.headers['Authorization'].split()[1]}"})
        if fault == "redirect":
            raise web.HTTPTemporaryRedirect("http://elsewhere.example/v1")
        if fault == "hang":
            await asyncio.sleep(3)
        if fault in ("cut", "drip"):
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"choices": [')
            if fault == "drip":
                await asyncio.sleep(3)
            assert request.transport is not None
            request.transport.abort()
            return response
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
        if fault == "empty":
            return web.json_response(self._in_dialect((), "stop", ""))
        texts = {
            "html": "<html>Bad gateway</html>",
            "broken": '{"choices": [',
            "list": "[]",
            "null": '{"choices": [{}]}',
        }
        return web.Response(text=texts.get(fault, ""), content_type="text/html")

    def _scores(self, body: dict[str, Any]) -> dict[str, Any]:
        """Every third token is the likeliest."""
        entries = [{str(token): {"logprob": -0.1 * (token % 3)}, "999": {"logprob": -0.05}} for token in body["prompt"]]
        return {"choices": [{"finish_reason": "length", "token_ids": [1], "prompt_logprobs": [None, *entries[1:]]}]}

    async def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        job = self._job(body)
        out: list[int] = []
        most = min(job.max_tokens, self.max_length - len(job.ids))
        tokens = self.script(job)
        for token in await tokens if inspect.isawaitable(tokens) else tokens:
            if len(out) >= most:
                return self._in_dialect(out, "length", "")
            out.append(token)
            if token in job.stop.tokens or (self.dialect in ("llama.cpp", "text", "chat") and token == END):
                return self._in_dialect(out, "stop", token)
            found = [stop for stop in job.stop.strings if stop in decode(out)]
            if found:
                return self._in_dialect(out, "stop", found[0])
        raise AssertionError("scripts don't end")

    def _job(self, body: dict[str, Any]) -> Job:
        options = body.get("sampling_params", body)
        prompt: Any = body.get("input_ids", body.get("prompt")) or body["messages"][-1]["content"]
        ids = tuple(vocabulary.encode(prompt) if isinstance(prompt, str) else prompt)
        limits = [options[name] for name in _LIMITS if name in options]
        seed = options.get("seed", options.get("sampling_seed"))
        return Job(
            ids, limits[0], Stop(frozenset(options.get("stop_token_ids", ())), (), tuple(options.get("stop", ()))),
            Sampling(options["temperature"]), seed,
        )  # fmt: skip

    def _in_dialect(self, out: Sequence[int], reason: str, matched: int | str) -> dict[str, Any]:
        ids = list(out)
        if self.dialect == "vllm":
            return {"choices": [{"finish_reason": reason, "token_ids": ids, "text": decode(ids)}]}
        if self.dialect == "llama.cpp":
            kind = "limit" if reason == "length" else "word" if isinstance(matched, str) else "eos"
            return {"content": decode(ids), "tokens": ids, "stop_type": kind}
        if self.dialect == "sglang":
            kept = ids[:-1] if isinstance(matched, int) else ids  # its source does not say whether the stop is kept
            return {
                "output_ids": kept,
                "meta_info": {"finish_reason": {"type": reason, "matched": None if matched == "" else matched}},
            }
        if self.dialect == "chat":
            message = {"role": "assistant", "content": decode(ids)}
            return {"choices": [{"index": 0, "finish_reason": reason, "message": message}]}
        text = decode(ids)
        return {"choices": [{"text": text.partition(str(matched))[0] if matched else text, "finish_reason": reason}]}
