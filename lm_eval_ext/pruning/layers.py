"""Access to the decoder layers of a loaded model: observe their inputs and outputs, or bypass some of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import depth, layer_of_tensor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lm_eval_ext.pruning.calibration import Batches, ReplyBatches

    Positional = tuple[torch.Tensor, ...]
    Output = torch.Tensor | tuple[torch.Tensor, ...] | list[torch.Tensor]  # of a layer, hidden states first

Visit = Callable[[int, "torch.Tensor", "torch.Tensor"], None]


def decoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The decoder layers, in order.

    Raises:
        ArchitectureError: they are not found under any of the names in `architectures.yaml`.
    """
    from torch.nn import ModuleList

    wanted = depth(model.config)
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == wanted and layer_of_tensor(f"{name}.0.weight") == 0:
            return list(module)
    raise ArchitectureError(
        f"no list of {wanted} decoder layers in {type(model).__name__}; "
        "declare their name in lm_eval_ext/pruning/architectures.yaml under tensor_names"
    )


@contextmanager
def hooked(
    hooks: Iterable[tuple[torch.nn.Module, Callable[..., object]]], *, with_kwargs: bool = False
) -> Iterator[None]:
    """Forward hooks of modules within the context."""
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.callback(module.register_forward_hook(hook, with_kwargs=with_kwargs).remove)
        yield


def bypassed(layers: Sequence[torch.nn.Module], dropped: Collection[int]) -> AbstractContextManager[None]:
    """Bypass some layers within the context, i.e. output their input. Don't use it with a cache of keys and values.

    Bypassed layers are still computed, because the form of the output is only known from the output itself.
    """

    def passing_on(_: object, positional: Positional, named: Mapping[str, torch.Tensor], output: Output) -> Output:
        return with_states(output, _input(positional, named))

    return hooked(((layers[number], passing_on) for number in dropped), with_kwargs=True)


def _input(positional: Positional, named: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return positional[0] if positional else named["hidden_states"]


def visit_layers(model: PreTrainedModel, batches: Batches, visit: Callable[[torch.Tensor], Visit]) -> None:
    """Run batches through the decoder and call a function with each layer's input and output; nothing is stored.

    A layer that the model skips, as mllama skips its cross-attention layers without an image, passes its input on.

    Args:
        model: a causal language model.
        batches: token ids and attention mask, both of shape (batch, length).
        visit: given a batch's mask, returns the function to call for each layer, with the layer's index, its input and
            its output, both of shape (batch, length, width). The last layer's output is taken before the final norm.
            If a token has several streams, as in DeepSeek-V4, they are one after the other in the last dimension.

    Raises:
        ArchitectureError: it is not known which states belong to which token.
    """
    import torch
    from torch.nn.functional import pad

    layers = decoder_layers(model)
    for batch in batches:
        square = batch[0].shape[0] == batch[0].shape[1]  # one more token, so that a state's shape shows what is what
        ids, mask = (pad(one, (0, int(square))) for one in batch)
        walk = _Walk(visit(mask), ids.shape)
        hooks = ((layer, walk.hook(number)) for number, layer in enumerate(layers))
        with hooked(hooks, with_kwargs=True), torch.no_grad():
            model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        walk.skip_to(len(layers))


class _Walk:
    """One pass through the layers, in order, which shows each layer's input and output."""

    def __init__(self, seen: Visit, shape: torch.Size) -> None:
        self._seen = seen
        self._shape = shape  # of the batch
        self._next = 0
        self._state: torch.Tensor | None = None  # what enters the next layer

    def hook(self, number: int) -> Callable[..., None]:
        """The forward hook of a layer."""

        def shown(_: object, positional: Positional, named: Mapping[str, torch.Tensor], output: Output) -> None:
            before = by_token(_input(positional, named), self._shape)
            after = by_token(hidden_states(output), self._shape)
            self._state = before
            self.skip_to(number)
            self._seen(number, before, after.to(before.device))
            self._next, self._state = number + 1, after

        return shown

    def skip_to(self, number: int) -> None:
        """Show the layers before this one that were skipped."""
        if self._state is not None:
            for skipped in range(self._next, number):
                self._seen(skipped, self._state, self._state)


@contextmanager
def reruns(layers: Sequence[torch.nn.Module]) -> Iterator[dict[int, Callable[[], Output]]]:
    """Remember, by a layer's index, a function that computes it again on what it was last called with."""
    runs: dict[int, Callable[[], Output]] = {}

    def remembered(number: int) -> Callable[..., None]:
        def hook(
            layer: torch.nn.Module, positional: tuple[object, ...], named: Mapping[str, object], _: object
        ) -> None:
            runs[number] = partial(layer.forward, *positional, **named)

        return hook

    with hooked(((layer, remembered(number)) for number, layer in enumerate(layers)), with_kwargs=True):
        yield runs


def hidden_states(output: Output) -> torch.Tensor:
    """The hidden states among what a layer or block returns."""
    return output[0] if isinstance(output, (tuple, list)) else output


def with_states(output: Output, states: torch.Tensor) -> Output:
    """What a layer or block returns, with other hidden states."""
    return type(output)([states, *output[1:]]) if isinstance(output, (tuple, list)) else states


def by_token(states: torch.Tensor, batch: torch.Size) -> torch.Tensor:
    """Hidden states in the shape (batch, length, width).

    Args:
        states: hidden states, of any shape that begins with the numbers of texts and tokens, in either order.
        batch: the numbers of texts and tokens, which differ.

    Raises:
        ArchitectureError: it doesn't begin with them, as where states of other tokens are among them.
    """
    if states.shape[:2] == batch[::-1]:  # xlnet
        states = states.transpose(0, 1)
    if states.shape[:2] != batch:
        raise ArchitectureError(
            f"its layers return states of shape {tuple(states.shape)} for {batch[0]} texts of {batch[1]} tokens, so it "
            "is not known which state belongs to which token; use a method that compares no states, such as sleb"
        )
    return states.flatten(2)


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Cosine along the last dimension, in float32 whatever the model's dtype, because it overflows in float16."""
    from torch.nn.functional import cosine_similarity

    return cosine_similarity(one.float(), other.float(), dim=-1, eps=1e-12)


def loss_sum(
    model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, counted: torch.Tensor | None = None
) -> tuple[torch.Tensor, int]:
    """Sum of the negative log likelihoods of all tokens except the first of each text, in float32, and their number.

    Args:
        model: a causal language model.
        ids, mask: of a batch, of shape (batch, length).
        counted: a mask of the tokens that count, of the same shape, if not all do.

    Raises:
        ArchitectureError: it is not finite, e.g. because hidden states overflow in float16.
    """
    import torch

    computed = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    logits = computed.float()
    target = ids[:, 1:].masked_fill((mask if counted is None else counted)[:, 1:] == 0, -100).to(logits.device)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
    if not torch.isfinite(loss):
        raise ArchitectureError(f"the model's loss is {loss.item()} in {computed.dtype}; try dtype=bfloat16 or float32")
    return loss, int((target != -100).sum())


def mean_loss(model: PreTrainedModel, batches: Batches | ReplyBatches) -> float:
    """Mean negative log likelihood per token, in nats; its exponential is the perplexity."""
    import torch

    with torch.no_grad():
        sums = [loss_sum(model, *batch) for batch in batches]
    return sum(float(loss) for loss, _ in sums) / sum(count for _, count in sums)


def matrices(layer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a layer's linear maps, by their name within the layer.

    Raises:
        ArchitectureError: they are not in memory, or packed.
    """
    check_in_memory(layer)
    found: dict[str, torch.Tensor] = {
        name: parameter
        for name, parameter in layer.named_parameters()
        if parameter.ndim >= 2 and re.search(r"weight$|_proj$", name)
    }
    if not found or not all(parameter.is_floating_point() for parameter in found.values()):
        raise ArchitectureError("this method reads the weights, but they are quantized; use the unquantized model")
    return found


def check_in_memory(layer: torch.nn.Module) -> None:
    """Refuse a layer whose weights are offloaded by accelerate, because they can't be read or changed in place.

    Raises:
        ArchitectureError: weights are offloaded; the message says what to do.
    """
    if any(parameter.device.type == "meta" for parameter in layer.parameters()):
        raise ArchitectureError(
            "this method needs all weights in memory, but some are offloaded; use more or larger GPUs, or the CPU "
            "(CUDA_VISIBLE_DEVICES=)"
        )


@contextmanager
def in_memory(module: torch.nn.Module) -> Iterator[None]:
    """Have the weights that accelerate offloads in memory, to be read; changes are lost afterwards."""
    from accelerate.utils import align_module_device

    with ExitStack() as parts:
        for part in module.modules():
            parts.enter_context(align_module_device(part))
        yield
