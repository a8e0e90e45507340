"""`--model tts-server`: a model behind an inference server, with the same budgets as a model in this process."""

from __future__ import annotations

import functools
import importlib.util
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from pydantic import ValidationError
from tqdm import tqdm

from lm_eval_ext.errors import ArgumentError, EngineError, first_fault
from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.engines.dialect import ServerFacts, TokenScore, Vocabulary
from lm_eval_ext.generation.engines.dialects import SINGLE
from lm_eval_ext.generation.engines.http import PatientClient, RefusedError, RetryableError, UnreachableError, run_apart
from lm_eval_ext.generation.engines.server import Limits, Server, ServerEngine
from lm_eval_ext.generation.engines.server_identity import (
    Passage,
    ServedModel,
    ServerIdentity,
    UnusableReplyError,
    found_dialect,
    identity,
)
from lm_eval_ext.harness.arguments import BY_HAND
from lm_eval_ext.harness.models.thinking import ThinkingLM
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.harness.serving import ServedRecipe
from lm_eval_ext.paths import digest, located
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.recipe import (
    Recipe,
    format_layers,
    load_recipe,
    parse_experts,
    parse_layers,
    recipe_info,
)
from lm_eval_ext.pruning.sliced_model import parameter_count

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


if importlib.util.find_spec("aiohttp") is None:
    raise ArgumentError("--model tts-server needs aiohttp; pip install 'lm-eval-tts[server]'")

logger = logging.getLogger("lm_eval.tts")


class TTSServer(ThinkingLM, TemplateLM):  # type: ignore[misc]  # lm-eval has no type information
    """A model behind one or several inference servers.

    Takes the arguments in `harness/server_arguments.py`. Before the first request, it tries what each server can do.

    Raises:
        TTSError: an argument cannot be used, a server cannot be reached, or cannot do what is asked for.
    """

    NAME = "tts-server"
    sampler = None  # each server has its own

    def __init__(self, **kwargs: object) -> None:
        super().__init__()
        self.arguments: ServerArguments = ServerArguments.taken(kwargs)
        self._rank, self._world_size = 0, 1
        declared_recipe(self.arguments, None)  # what is wrong with it is said before a server is asked
        self.recipe = declared_recipe(self.arguments, served_recipe(self.arguments))
        self.max_gen_toks = self.arguments.max_gen_toks
        self.tokenizer = self._loaded_tokenizer()
        self._use_chat_template()
        self.servers, self.identities = tried_servers(self.arguments, self._vocabulary(), self._decode)
        self._log()

    def _loaded_tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        name = self._tokenizer_name()
        try:
            return AutoTokenizer.from_pretrained(
                name, revision=self.arguments.revision, trust_remote_code=self.arguments.trust_remote_code
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:150]
            raise ArgumentError(
                f"tokenizer={name}: cannot be loaded ({reason}); give the Hub name or folder of the served model's"
            ) from error

    def _tokenizer_name(self) -> str:
        named = self.arguments.tokenizer or self._base() or self.arguments.model
        if not named:
            raise ArgumentError("give model=NAME or tokenizer=NAME, because prompts are encoded here")
        return located(named)

    def _base(self) -> str:
        return self.arguments.base or (self.recipe.base if self.recipe else "")

    def _vocabulary(self) -> Vocabulary:
        added = sorted(self.tokenizer.get_added_vocab().values())
        return Vocabulary(
            encode=lambda text: list(self.tokenizer.encode(text, add_special_tokens=False)),
            text=lambda ids: str(self.tokenizer.decode(list(ids), skip_special_tokens=False)),
            ends=frozenset([self.tokenizer.eos_token_id] if self.tokenizer.eos_token_id is not None else []),
            special=tuple(added[:4]),
            begin=self.tokenizer.bos_token_id,
        )

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _log(self) -> None:
        logger.info(
            "%s: %s, context %d tokens, token ids %s, seeds %s, tokenizer %s",
            ", ".join(server.root for server in self.servers),
            ", ".join(dict.fromkeys(one.facts.version for one in self.identities)),
            self.max_length,
            "exact" if self._capabilities()["token_exact"] else "approximated through text",
            "kept" if self._seeded else "not kept",
            "the same" if self._tokenizer_checked else "not checked",
        )
        if not self._seeded:
            logger.warning(
                "the server's samples don't depend on a request's seed alone; results are marked so%s",
                "" if self.arguments.reproducible else " (reproducible=True may help, one request at a time)",
            )
        if self.arguments.weights is None and self.identities[0].dialect == "text":
            logger.warning("the server doesn't say what it serves; weights=NAME keeps its texts apart in the journal")

    # What thinking requests need (see ThinkingModel) -------------------------------------------------------

    @property
    def pretrained(self) -> str:
        """Name by which the thinking format is found."""
        return self._base() or self.arguments.model or self._tokenizer_name()

    @property
    def max_length(self) -> int:
        """Context length, in tokens."""
        known = [found.facts.max_length for found in self.identities if found.facts.max_length]
        return self.arguments.max_length or min(known)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifier that changes with the served model, as far as that can be told, and with what was declared."""
        found = self.identities[0]
        content = [
            found.facts.served,
            self.arguments.weights or found.greedy,
            self.recipe.digest if self.recipe else "",
            *(["reproducible"] if self.arguments.reproducible else []),  # of the others, a seed may give another text
        ]
        return digest(content)

    @property
    def versions(self) -> str:
        """Software that affects the decoded tokens."""
        return self.identities[0].facts.version

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        """Encode a prompt; special tokens are added unless the text already begins with one."""
        if add_special_tokens is None:
            bos = self.tokenizer.bos_token
            add_special_tokens = not (bos and string.startswith(bos))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation as text."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's cache of requests."""
        return self._tokenizer_name().replace("/", "__")

    @property
    def eot_token_id(self) -> int:
        """The id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    def decoding_engine(
        self,
        tokens: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None],
        on_replicas: Callable[[int, int], None] = lambda up, asked: None,
    ) -> Engine:
        """An engine on all servers."""
        return ServerEngine(self.servers, self.arguments.options, self.arguments.limits, on_tokens, on_replicas)

    def decoding_context(self) -> AbstractContextManager[object]:
        """No context: the server handles precision."""
        return nullcontext()

    def generation_defaults(self) -> GenerationConfig | None:
        """The generation config beside the tokenizer, which says what ends a text; None if there is none."""
        from transformers import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self._tokenizer_name(), revision=self.arguments.revision)
        except (OSError, ValueError):
            return None

    # lm-eval's requests -----------------------------------------------------------------------------------

    def _is_ours(self, request: Instance) -> bool:
        return True

    def _other_texts(self, requests: list[Instance], disable_tqdm: bool) -> NoReturn:
        raise AssertionError("all requests are run on our engine")

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        passages = [self._passage(context, continuation) for _, context, continuation in requests]
        found: dict[Passage, tuple[float, bool]] = {}
        with tqdm(total=len(set(passages)), desc="Log-likelihoods", disable=disable_tqdm) as bar:

            def keep(passage: Passage, scores: Sequence[TokenScore]) -> None:
                found[passage] = sum(score.logprob for score in scores), all(score.greedy for score in scores)
                bar.update()

            self._score(list(dict.fromkeys(passages)), keep)
        return [found[passage] for passage in passages]

    def _score(self, passages: Sequence[Passage], keep: Callable[[Passage, list[TokenScore]], None]) -> None:
        ServerEngine(self.servers, self.arguments.options, self.arguments.limits).scores(passages, keep)

    def likeliest_along(self, ids: Sequence[int], start: int, count: int) -> list[Mapping[int, float]]:
        """Log-probabilities of the likeliest tokens at each place of a text, and of the one that is there.

        Args:
            ids: of the text.
            start: the first place, above 0.
            count: how many of the likeliest.

        Raises:
            ArgumentError: the server gives none, or the text is too long for it.
            EngineError: the server fails or refuses, as where its own limit (`--max-logprobs`) is lower.
        """
        passage = replace(self._passage(ids[:start], ids[start:]), likeliest=count)
        found: list[TokenScore] = []
        self._score([passage], lambda _, scores: found.extend(scores))
        return [score.likeliest for score in found]

    def _passage(self, context: Sequence[int], continuation: Sequence[int]) -> Passage:
        if not all(server.model.dialect.logprobs for server in self.servers):
            raise ArgumentError(
                f"a {self.identities[0].dialect} server gives no log-likelihoods by token ids; use tasks that "
                "generate, vLLM, or pruned-hf"
            )
        if len(context) + len(continuation) >= self.max_length:
            raise ArgumentError(
                f"a text of {len(context) + len(continuation)} tokens leaves no room in the server's context of "
                f"{self.max_length}; leave that question out"
            )
        return Passage((*context, *continuation), max(1, len(context)))

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihoods of whole texts, in windows as wide as the context."""
        windows: list[tuple[None, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.eot_token_id, self.max_length - 2, 1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows, disable_tqdm), strict=True):
            totals[number] += logprob
        return totals

    # Results ----------------------------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """Model information for the results, including what was declared to be dropped."""
        name = self.arguments.base or self._tokenizer_name()  # one of a local copy, if that was given
        pruning = name and pruning_info(name, self.arguments.trust_remote_code, self.recipe, self.fingerprint)
        return {**super().get_model_info(), **({"pruning": pruning} if pruning else {})}

    def _capabilities(self) -> dict[str, object]:
        found = self.identities[0]
        return super()._capabilities() | {
            "token_exact": all(server.model.dialect.token_exact for server in self.servers),
            "reproducible": self._seeded, "seed_reproducible": self._seeded, "server": found.facts.version,
            "dialect": found.dialect, "tokenizer_checked": self._tokenizer_checked,
        }  # fmt: skip

    @property
    def _tokenizer_checked(self) -> bool:
        return all(found.tokenizer_checked for found in self.identities)

    @property
    def _seeded(self) -> bool:
        return all(found.seeded for found in self.identities)

    def _device_named(self) -> str:
        return f"behind {self.versions}"


def served_recipe(arguments: ServerArguments) -> ServedRecipe | None:
    """What the first server says of how its model was made smaller; None if it says nothing.

    Raises:
        EngineError: it cannot be reached, or refuses.
    """
    root, limits = arguments.base_url[0], arguments.limits

    async def facts() -> ServerFacts:
        async with PatientClient(root, arguments.options_of_trials, limits.retries, limits.wait) as client:
            return (await found_dialect(client, arguments.model or "", arguments.server))[1]

    said = _reported(facts, arguments).recipe
    try:
        return ServedRecipe.model_validate_json(said) if said else None
    except ValidationError as error:
        raise EngineError(f"{root}: what it says of dropped layers cannot be read ({first_fault(error)})") from error


def declared_recipe(arguments: ServerArguments, served: ServedRecipe | None) -> Recipe | None:
    """The recipe of the served model, as declared, or as the server says; None for a whole model.

    Args:
        arguments: what is declared.
        served: what the server says; None if nothing.

    Raises:
        ArgumentError: they contradict each other, or nobody says what the model was made from.
        RecipeError: the recipe cannot be read.
    """
    if arguments.recipe is not None:
        recipe = arguments.recipe if isinstance(arguments.recipe, Recipe) else load_recipe(arguments.recipe)
    elif arguments.drop_layers is not None or served is not None:
        if served is not None and served.changes and arguments.drop_layers is None:
            raise ArgumentError("the server says that weights are changed; give recipe=, which says how")
        said = ServedRecipe(base="") if served is None else served
        drop = said.drop if arguments.drop_layers is None else parse_layers(arguments.drop_layers)
        base = arguments.base or said.base or arguments.tokenizer or arguments.model
        if not base:
            raise ArgumentError("drop_layers: of which model they were dropped isn't said; give base= or model=")
        if served is not None:
            declared = served.model_copy(update={"base": base, "drop": drop})
            _check_declared(declared, served, given=arguments.base)
        try:
            return Recipe(
                base=base, method=BY_HAND, source="model_args", drop=drop, drop_attention=said.drop_attention,
                drop_mlp=said.drop_mlp, drop_experts=parse_experts(said.drop_experts) if said.drop_experts else {},
            )  # fmt: skip
        except ValidationError as error:
            raise ArgumentError(f"the layers that are dropped: {first_fault(error)}") from error
    else:
        return None
    if served is not None:
        _check_declared(ServedRecipe.of(recipe, recipe.base), served, given=arguments.base)
    return recipe


def _check_declared(declared: ServedRecipe, served: ServedRecipe, given: str | None) -> None:
    """Compare what was declared with what the server says; of bases the last parts, because one may be a folder.

    A base that was given as `base=` says what a folder's name on the server does not.
    """
    bases = {one.base.rstrip("/").rpartition("/")[2].lower() for one in (served, declared)}
    if len(bases) > 1 and not (given and "/" not in served.base):
        raise ArgumentError(f"the server says that its model was made from {served.base}, not {declared.base}")
    if served.changes != declared.changes:
        raise ArgumentError(
            f"the server says {served.changes or 'no changed weights'}, the recipe {declared.changes or 'none'}"
        )
    if served.drop_experts != declared.drop_experts:
        raise ArgumentError(
            f"the server says that experts {served.drop_experts or 'none'} are dropped, but "
            f"{declared.drop_experts or 'none'} are declared"
        )
    for field, what in (("drop", "layers"), ("drop_attention", "attention blocks"), ("drop_mlp", "MLP blocks")):
        said, other = getattr(served, field), getattr(declared, field)
        if said != other:
            raise ArgumentError(
                f"the server says that {what} {format_layers(said) or 'none'} are dropped, but "
                f"{format_layers(other) or 'none'} are declared"
            )


def pruning_info(
    base: str, trust_remote_code: bool, recipe: Recipe | None, fingerprint: str
) -> dict[str, object] | None:
    """What results say about dropped layers; None if the base's config is not at hand."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return None
    dropped = recipe.drop if recipe else ()
    return {
        "base": recipe.base if recipe else base,
        **recipe_info(recipe),
        "kept_layers": [layer for layer in range(depth(config)) if layer not in dropped],
        "parameters_before": parameter_count(config),
        "model_fingerprint": fingerprint,
    }


_SOON = 2  # retries after which a server that is not understood is told of; a gateway may send an error as a text
_Tried = tuple[Server, ServerIdentity]
_Found = TypeVar("_Found")
_Trial = Callable[[], Coroutine[object, object, _Found]]


def tried_servers(
    arguments: ServerArguments, vocabulary: Vocabulary, decode: Callable[[Sequence[int]], str]
) -> tuple[list[Server], list[ServerIdentity]]:
    """Try all servers of a run.

    Args:
        arguments: the model's arguments.
        vocabulary: of the model.
        decode: ids to text, for stop strings.

    Raises:
        EngineError: a server cannot be reached, refuses requests, cannot do what is asked for, or has another model
            than the first.
        ArgumentError: the length of the context is not known, or `max_length` is longer.
    """
    tried = [_reported(_trial(root, arguments, vocabulary, decode), arguments) for root in arguments.base_url]
    servers, identities = [server for server, _ in tried], [found for _, found in tried]
    if arguments.weights is None:
        _check_same(servers, identities)
    _check_length(arguments, servers, identities)
    return servers, identities


def _trial(
    root: str, arguments: ServerArguments, vocabulary: Vocabulary, decode: Callable[[Sequence[int]], str]
) -> _Trial[_Tried]:
    async def trial() -> _Tried:
        name, limits = arguments.model or "", arguments.limits
        async with PatientClient(root, arguments.options_of_trials, limits.retries, limits.wait) as client:
            dialect, facts = await found_dialect(client, name, arguments.server)
            if not dialect.token_exact and arguments.exact == "require":
                raise EngineError(
                    f"{root}: answers on no route of vLLM, llama.cpp or SGLang, so it takes and returns text only, "
                    "if it is an inference server at all, and a budget would not cut a trace at its own tokens; check "
                    "base_url, use one of these, or accept approximations with exact=allow_text"
                )
            if dialect.name == "vllm" and name not in ("", facts.name):
                raise EngineError(f"{root}: serves {facts.name}, not {name}; give model={facts.name}")
            if arguments.reproducible:
                dialect, facts = SINGLE.get(dialect.name, dialect), facts._replace(slots=1)
            model = ServedModel(name or facts.name, dialect, vocabulary, decode)
            found = await identity(client, model, facts)
            return Server(root, model, "" if arguments.weights else found.greedy, facts.slots), found

    return trial


def _reported(trial: _Trial[_Found], arguments: ServerArguments) -> _Found:
    try:
        return _understood(trial, arguments.limits)
    except RefusedError as error:
        if error.status != 404:
            raise
        raise EngineError(
            f"{error}; expected a server that continues texts: one that only offers chat cannot keep a thinking "
            "budget, but lm-eval's local-chat-completions runs tasks without one"
        ) from error
    except UnreachableError as error:
        raise EngineError(f"{error}; is the server running, and base_url right?") from error
    except RetryableError as error:
        raise EngineError(str(error)) from error


def _understood(trial: _Trial[_Found], limits: Limits) -> _Found:
    """What a trial finds; requests that fail are tried again by its client."""
    for tries in range(1, min(_SOON, limits.retries) + 1):
        try:
            return run_apart(trial())
        except UnusableReplyError as error:
            logger.info("%s; trying again", error)
            time.sleep(limits.wait(tries))
    return run_apart(trial())


def _check_same(servers: Sequence[Server], identities: Sequence[ServerIdentity]) -> None:
    first = identities[0]
    for server, other in zip(servers, identities, strict=True):
        if other.greedy != first.greedy:
            raise EngineError(
                f"{server.root} serves another model than {servers[0].root} ({other.model}; {first.model}); all "
                "servers of a run must have the same"
            )


def _check_length(arguments: ServerArguments, servers: Sequence[Server], identities: Sequence[ServerIdentity]) -> None:
    known = [found.facts.max_length for found in identities if found.facts.max_length]
    if not known and arguments.max_length is None:
        raise ArgumentError(f"{servers[0].root} doesn't say how long its context is; give max_length=TOKENS")
    if known and (arguments.max_length or 0) > min(known):
        raise ArgumentError(f"max_length={arguments.max_length}: the server's context has {min(known)} tokens")
