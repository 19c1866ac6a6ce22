"""Reads a language model at the modules of its transformers class: `hf:model.layers.3.mlp` is what that module returns,
`hf:model.layers.3.mlp:in` what it is called with.

For models that TransformerLens does not boot, and for users who want transformers' own numbers. Nothing is folded,
centred or otherwise processed.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from sae.common.errors import UserError
from sae.models.hook_names import INPUT, PREFIX
from sae.models.loading import CheckedLoader, cannot_load, context_of, malformed, refuse_larger_tokenizer

PROBE_TOKENS = 7
"""A length unlike any number of heads, so that what is not one vector per token shows by its shape."""
PROBE_BLOCKS = 2
"""More than one: what is the same for all blocks (rotary embeddings) holds no activations."""
Hook = Callable[[Tensor, Any], Tensor | None]
"""Gets the activations at a hook point and None; returns what replaces them, or None."""


def load_modules(model: str, location: str, device: str, tokenizer: Any) -> "ModuleModel":
    """Load a model through transformers alone, in float32. Raises UserError if it is damaged or no causal model."""
    from transformers import AutoModelForCausalLM

    try:
        loader = CheckedLoader(model, AutoModelForCausalLM)
        loaded = ModuleModel(
            loader.from_pretrained(location, dtype=torch.float32).to(device).eval(),
            context_of(model, location),
            _puts_bos_first(tokenizer),
        )
    except malformed() as error:
        raise cannot_load(model, error) from error
    refuse_larger_tokenizer(model, tokenizer, loaded.cfg.d_vocab)
    return loaded


def _puts_bos_first(tokenizer: Any) -> bool:
    """Tell whether the tokenizer itself begins a text with its BOS token."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


class ModuleModel:
    """Answers what a subject asks of TransformerLens' bridge, for a model of transformers and its modules' names."""

    def __init__(self, model: Any, context: int | None, default_prepend_bos: bool) -> None:
        self._model = model
        seen, n_logits = _probe(model)
        self.cfg = SimpleNamespace(
            n_ctx=context or sys.maxsize, d_vocab=n_logits, default_prepend_bos=default_prepend_bos
        )
        self.hook_dict: dict[str, str | None] = seen
        """Every module's hook points; beside those that are no activation vectors, one for each token, why not."""

    def run_with_hooks(self, ids_NC: Tensor, fwd_hooks: Sequence[tuple[str, Hook]]) -> Tensor:
        """Return the logits [N, C, V] of a forward pass in which each hook gets, and may replace, its activations.

        Raises UserError for a hook point that holds no activation vectors.
        """
        with ExitStack() as handles:
            for name, hook in fwd_hooks:
                if fault := self.hook_dict[name]:
                    raise UserError(f"{name} is no hook point: the module {fault}; choose another")
                handles.callback(_register(self._model, name, hook).remove)
            logits_NCV: Tensor = self._model(ids_NC, use_cache=False).logits
        return logits_NCV


def _register(model: nn.Module, name: str, hook: Hook) -> Any:
    """Register a hook at a module's output, or at its input."""
    path = name.removeprefix(PREFIX)
    if path.endswith(INPUT):

        def at_input(module: nn.Module, args: Any, named: dict[str, Any]) -> Any:
            key, value = _input(args, named)
            changed = _passed_on(hook, value)
            return ((changed, *args[1:]), named) if key is None else (args, {**named, key: changed})

        return model.get_submodule(path.removesuffix(INPUT)).register_forward_pre_hook(at_input, with_kwargs=True)

    def at_output(module: nn.Module, args: Any, output: Any) -> Any:
        changed = _passed_on(hook, _first(output))
        return changed if isinstance(output, Tensor) else type(output)((changed, *output[1:]))

    return model.get_submodule(path).register_forward_hook(at_output)


def _passed_on(hook: Hook, value: Tensor) -> Tensor:
    """Return what goes on through the model. The hook gets a copy: models add to activations in place, later on."""
    changed = hook(value.clone(), None)
    return value if changed is None else changed


def _input(args: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[str | None, Any]:
    """Return what a module reads, its first argument or `hidden_states`, with the name under which that is passed."""
    return (None, args[0]) if args else ("hidden_states", named.get("hidden_states"))


def _first(output: Any) -> Any:
    """Return what a module writes: its output, or the first part (attention returns its weights behind it)."""
    return output[0] if type(output) in (tuple, list) and output else output


@torch.no_grad()
def _probe(model: Any) -> tuple[dict[str, str | None], int]:
    """Run a model on a few tokens; return each module's hook points, why they are none or None, and V."""
    values: dict[str, list[Any]] = {}
    with ExitStack() as handles:
        for path, module in model.named_modules():
            if path:
                values[PREFIX + path], values[PREFIX + path + INPUT] = [], []
                for handle in _recorders(module, values[PREFIX + path], values[PREFIX + path + INPUT]):
                    handles.callback(handle.remove)
        logits_NCV = model(
            torch.zeros((PROBE_BLOCKS, PROBE_TOKENS), dtype=torch.long, device=model.device), use_cache=False
        ).logits
    return {name: _fault(seen, name.endswith(INPUT)) for name, seen in values.items()}, int(logits_NCV.shape[-1])


def _recorders(module: nn.Module, outputs: list[Any], inputs: list[Any]) -> tuple[Any, Any]:
    """Register hooks that append what a module writes and reads at each call."""

    def at_output(module: nn.Module, args: Any, output: Any) -> None:
        outputs.append(_first(output))

    def at_input(module: nn.Module, args: Any, named: dict[str, Any]) -> None:
        inputs.append(_input(args, named)[1])

    return module.register_forward_hook(at_output), module.register_forward_pre_hook(at_input, with_kwargs=True)


def _fault(seen: Sequence[Any], is_input: bool) -> str | None:
    """Return why what a module reads or writes is not one activation vector per token; None if it is."""
    does, n = "reads" if is_input else "returns", len(seen)
    if n != 1:
        return f"runs {n} times in a pass" if n else "does not run by itself in a pass"
    if not isinstance(seen[0], Tensor) or not seen[0].is_floating_point():
        return f"{does} no tensor of numbers ({type(seen[0]).__name__})"
    shape = list(seen[0].shape)
    fits = len(shape) >= 3 and shape[:2] == [PROBE_BLOCKS, PROBE_TOKENS]
    what = f"shape {shape} for {PROBE_BLOCKS} blocks of {PROBE_TOKENS} tokens"
    return None if fits else f"{does} not one vector per token ({what})"
