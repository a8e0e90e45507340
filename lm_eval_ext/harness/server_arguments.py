"""Arguments of `tts-server`: those of lm-eval's `local-completions` that make sense, under the same names, and ours."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from itertools import count
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import ConnectionOptions
from lm_eval_ext.generation.engines.server import Limits
from lm_eval_ext.harness.arguments import Flag, Text, ThinkingArguments
from lm_eval_ext.harness.effects import marked
from lm_eval_ext.pruning.recipe import Recipe

logger = logging.getLogger("lm_eval.tts")

KEY_VARIABLE = "OPENAI_API_KEY"
_MEANINGLESS = ("tokenizer_backend", "tokenized_requests", "eos_string")  # arguments of `local-completions`
_IGNORED = ("batch_size", "max_batch_size", "device", *_MEANINGLESS)  # lm-eval passes some to every model class
_TRIAL = 300.0  # seconds
_ROUTES = (
    "/v1/completions", "/v1/chat/completions", "/completions", "/chat/completions", "/completion", "/generate", "/v1",
)  # fmt: skip


def _positive(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("give a whole number above 0")


def _roots(value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, str) for one in given):
        found = tuple(_root(one) for text in given for one in _without_brackets(text.strip()).split(","))
        if len(set(found)) == len(found):
            return found
        raise ValueError("names a server twice")
    raise ValueError("give the address of a server, or a list of them")


def _without_brackets(text: str) -> str:
    """`[A,B]` as `A,B`; the brackets of `http://[::1]` stay."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _root(url: str) -> str:
    """A server's address without a path that we know; other paths stay, for proxies.

    >>> _root("http://localhost:8000/v1/completions")
    'http://localhost:8000'
    """
    url = url.strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected something like http://localhost:8000/v1")
    if parts.username or parts.password:
        raise ValueError("give the key with auth_token= or an environment variable, not in the address")
    return url.removesuffix(next((route for route in _ROUTES if url.endswith(route)), "")).rstrip("/")


def _headers(value: object) -> object:
    if value is None:
        return {}
    if isinstance(value, str):  # from the command line
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError('give JSON, such as {"X-Team": "one"}') from error
    if isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair):
        return value
    raise ValueError("give a dictionary of texts")


Positive = Annotated[int, BeforeValidator(_positive)]


class ServerArguments(ThinkingArguments):
    """The arguments of `tts-server`."""

    model: Text = Field(
        None, description="name of the model on the server", json_schema_extra={"default_is": "the one it serves"}
    )
    base_url: Annotated[tuple[str, ...], BeforeValidator(_roots)] = Field(
        description="address of the server, with or without `/v1` or a route; a list in brackets for several servers "
        "of the same model",
        json_schema_extra={"default_is": "required"},
    )
    server: Annotated[str, BeforeValidator(str)] = Field(
        "auto", description=f"kind of server: {', '.join(f'`{name}`' for name in DIALECTS)}, or `auto`"
    )
    exact: Literal["require", "allow_text"] = Field(
        "require",
        description="`allow_text`: also use servers that take and return only text, where a budget's cut is an "
        "approximation; results are marked, and never compared with exact ones",
    )
    tokenizer: Text = Field(
        None,
        description="Hub name or folder of the model's tokenizer",
        json_schema_extra={"default_is": "the base of what was dropped, else `model`"},
    )
    revision: Text = Field(None, description="branch, tag or commit of the tokenizer")
    trust_remote_code: Flag = Field(False, description="run code that comes with the tokenizer")
    recipe: str | Recipe | None = Field(None, description="declares the recipe of the served model")
    drop_layers: object = Field(None, description="declares which layers the served model lacks")
    base: Text = Field(
        None,
        description="declares the model that the served one was made from",
        json_schema_extra={"default_is": "the recipe's base, else `tokenizer`"},
    )
    weights: Text = Field(
        None,
        description="a name for the served weights, which keeps their texts apart in the journal, instead of what the "
        "model says to fixed prompts",
    )
    num_concurrent: Positive = Field(32, description="requests in flight to each server")
    reproducible: Flag = Field(
        False,
        description="make one request at a time to each server, and let llama.cpp cache no prompts: slower, but a seed "
        "gives the same sample again where it otherwise gives almost the same",
    )
    max_retries: Annotated[int, Field(ge=0, strict=True)] = Field(
        8,
        description="how often a failed request is tried again, with waits that double; a server may be down for ten "
        "minutes",
    )
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        3600.0, description="seconds in which a request must be answered in full"
    )
    max_length: Positive | None = Field(
        None, description="context length in tokens", json_schema_extra={"default_is": "the server's"}
    )
    max_gen_toks: Positive = Field(256, description="maximum tokens of a text, unless the task sets a limit")
    header: Annotated[dict[str, str] | None, BeforeValidator(_headers)] = Field(
        None, description="headers for every request"
    )
    auth_token: Text = Field(
        None,
        description="key for the server",
        json_schema_extra={"default_is": f"the environment variable `{KEY_VARIABLE}`"},
    )
    verify_certificate: Flag = Field(True, description="check the server's certificate")
    ca_cert_path: Text = Field(None, description="file of certificates to trust")

    @classmethod
    def taken(cls, given: Mapping[str, object]) -> ServerArguments:
        """Validate the arguments of a model class.

        Raises:
            ArgumentError: an argument is unknown, missing or invalid.
        """
        known = {name: value for name, value in shown(given).items() if name not in _IGNORED}
        if "pretrained" in known:
            known.setdefault("model", known["pretrained"])
            if known.pop("pretrained") != known["model"]:
                raise ArgumentError("model and pretrained contradict each other; give one of them")
        for name in (name for name in _MEANINGLESS if given.get(name) is not None):
            logger.warning("%s=%s has no meaning for tts-server", name, given[name])
        unknown = next((name for name in known if name not in cls.model_fields), None)
        if unknown is not None:
            raise ArgumentError(f"unknown model argument {unknown!r}; expected one of: {', '.join(cls.model_fields)}")
        if not known.get("base_url"):
            raise ArgumentError("base_url is missing; give the server's address, such as http://localhost:8000/v1")
        return cls.of(known)

    def check(self) -> None:
        """Check arguments that depend on each other; raises ArgumentError."""
        if self.server != "auto" and self.server not in DIALECTS:
            raise ArgumentError(f"server={self.server}: expected auto, or one of: {', '.join(DIALECTS)}")
        if self.recipe is not None and self.drop_layers is not None:
            raise ArgumentError("recipe and drop_layers contradict each other; give one of them")

    @property
    def options(self) -> ConnectionOptions:
        """How to connect."""
        key = (self.auth_token or os.environ.get(KEY_VARIABLE, "")).strip()
        return ConnectionOptions(
            self.timeout, dict(self.header or {}), key, KEY_VARIABLE, self.verify_certificate, self.ca_cert_path
        )

    @property
    def options_of_trials(self) -> ConnectionOptions:
        """How to connect for short requests."""
        return replace(self.options, timeout=min(self.timeout, _TRIAL))

    @property
    def limits(self) -> Limits:
        """How much to ask of the servers."""
        return Limits(self.num_concurrent, self.max_retries)


_HIDDEN = "***"
_given: dict[str, object] = {}  # by what replaces them


def hide(arguments: MutableMapping[str, object]) -> None:
    """Replace the secrets in model arguments; `shown` finds them again in this process."""
    for name in marked("secret"):
        value = arguments.get(name)
        if value and str(value) not in _given:
            arguments[name] = _placeholder(value)


def _placeholder(value: object) -> str:
    """`***`, or `*** 2` and so on for other secrets of the same process."""
    for number in count(1):
        name = _HIDDEN if number == 1 else f"{_HIDDEN} {number}"
        if _given.setdefault(name, value) == value:
            return name
    raise AssertionError("there are more numbers than secrets")


def shown(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments with the secrets that `hide` has replaced."""
    secret = marked("secret")
    return {name: _given.get(str(value), value) if name in secret else value for name, value in arguments.items()}
