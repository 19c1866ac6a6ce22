"""Loads the language model under study: hook points, activations, losses.

TransformerLens names the hook points, or transformers' modules do (`hf:...`, `sae.models.modules`).
A block's forward pass stops right after the hook point that is read.

Shape suffixes: N blocks, C tokens of context, D the hook point's width, V vocabulary.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sae.common.errors import UserError, near
from sae.common.resources import path_of
from sae.models.hook_names import names_modules
from sae.models.loading import context_of, knows, load_bridge, tokenizer_of
from sae.models.modules import PROBE_TOKENS, load_modules
from sae.models.quiet import quiet_libraries
from sae.models.residual import RESIDUAL, kind_and_layer, normed

Replace = Callable[[Tensor], Tensor]


class _HookReached(Exception):
    """Ends a forward pass as soon as the activations at the hook point were read."""


@dataclass(frozen=True)
class Subject:
    """Holds a booted model, its tokenizer, and whether blocks get a beginning-of-sequence token in front."""

    name: str
    bridge: Any
    tokenizer: Any
    prepend_bos: bool
    device: str

    @property
    def hook_points(self) -> list[str]:
        """The names of those that can be read. Of a module that cannot, a string says why in place of the hook."""
        return sorted(name for name, hook in self.bridge.hook_dict.items() if not isinstance(hook, str))

    @property
    def max_context(self) -> int:
        return int(self.bridge.cfg.n_ctx) - int(self.prepend_bos)

    @property
    def vocabulary(self) -> int:
        """V, as the logits have it."""
        return int(self.bridge.cfg.d_vocab)

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text, without special tokens."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "sequence longer than the model's maximum": blocks are cut later
            encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        return encoded

    def token_strings(self) -> list[str]:
        """Return the text of every token of the vocabulary; an undecodable piece of a character holds U+FFFD."""
        return list(self.tokenizer.batch_decode([[index] for index in range(len(self.tokenizer))]))

    @torch.no_grad()
    def activations(self, ids_NC: Tensor, hook_point: str) -> Tensor:
        """Return activations [N, C, D] at a hook point; heads are flattened, a prepended token is dropped.

        Raises UserError if the model never passes the hook point.
        """
        return self.activations_at(ids_NC, (hook_point,))[hook_point]

    def activations_at(
        self,
        ids_NC: Tensor,
        hook_points: Sequence[str],
        replaced: Mapping[str, Replace] | None = None,
        with_gradients: bool = False,
    ) -> dict[str, Tensor]:
        """Read the activations [N, C, D] at several hook points in one forward pass, which stops after the last one.

        Heads are flattened, a prepended token is dropped; they are in the order of the pass. Raises UserError if the
        model never passes a hook point.

        Args:
            replaced: as for `logits`.
            with_gradients: whether gradients reach what `replaced` returns.
        """
        seen: dict[str, Tensor] = {}
        names = tuple(dict.fromkeys(hook_points))  # a reader that knew the hooks would keep the activations in a cycle

        def reader(hook_point: str) -> Callable[[Tensor, object], None]:
            def read(value: Tensor, hook: object) -> None:
                seen[hook_point] = self._without_bos(value).flatten(2).float()
                if len(seen) == len(names):
                    raise _HookReached

            return read

        hooks = [*self._writers(replaced), *((hook_point, reader(hook_point)) for hook_point in names)]
        with torch.set_grad_enabled(with_gradients), contextlib.suppress(_HookReached):
            self.bridge.run_with_hooks(self._with_bos(ids_NC), fwd_hooks=hooks)
        missing = [hook_point for hook_point in names if hook_point not in seen]
        if missing:
            raise UserError(f"{self.name} never passes hook point {missing[0]}; choose another")
        return seen

    @torch.no_grad()
    def side_by_side(self, ids_NC: Tensor, hook_points: Sequence[str]) -> Tensor:
        """Return the activations [N, C, D] at several hook points, their vectors side by side, from one pass."""
        acts = self.activations_at(ids_NC, hook_points)
        parts = [acts[hook_point] for hook_point in hook_points]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @torch.no_grad()
    def logits(self, ids_NC: Tensor, replaced: Mapping[str, Replace] | None = None) -> Tensor:
        """Return the logits [N, C, V] of the token after each.

        The activations [N, C, D] at each hook point of `replaced` are replaced by its function's result on the way.
        """
        logits: Tensor = self.bridge.run_with_hooks(self._with_bos(ids_NC), fwd_hooks=self._writers(replaced))
        return self._without_bos(logits)

    def _writers(self, replaced: Mapping[str, Replace] | None) -> list[tuple[str, Callable[[Tensor, object], Tensor]]]:
        """Return the hooks that replace activations."""

        def writer(replace: Replace) -> Callable[[Tensor, object], Tensor]:
            def write(value: Tensor, hook: object) -> Tensor:
                text = self._without_bos(value)
                changed = replace(text.flatten(2)).reshape(text.shape)
                return torch.cat([value[:, : value.shape[1] - text.shape[1]], changed.to(value.dtype)], 1)

            return write

        return [(hook_point, writer(replace)) for hook_point, replace in (replaced or {}).items()]

    @torch.no_grad()
    def losses(self, ids_NC: Tensor, replaced: Mapping[str, Replace] | None = None) -> Tensor:
        """Return cross-entropy in nats [N, C-1] of tokens 1..C-1 given those before; `replaced` as for `logits`."""
        logits_NCV = self.logits(ids_NC, replaced)
        # A block at a time: softmax and slices copy the logits, which may be gigabytes.
        pairs = zip(logits_NCV, ids_NC, strict=True)
        return torch.stack([cross_entropy(each[:-1].float(), ids_C[1:], reduction="none") for each, ids_C in pairs])

    def width(self, hook_point: str) -> int:
        """Return the hook point's width (heads flattened).

        Raises UserError, with the near names, if there is none such, or if it does not hold one vector per token.
        """
        if hook_point not in self.bridge.hook_dict:
            raise UserError(f"{self.name} has no hook point {hook_point!r}{near(hook_point, self.hook_points)}")
        n_tokens = PROBE_TOKENS - int(self.prepend_bos)  # so many that the model itself sees PROBE_TOKENS
        probe = torch.zeros((1, n_tokens), dtype=torch.long, device=self.device)
        acts_NCD = self.activations(probe, hook_point)
        if acts_NCD.shape[1] != n_tokens:
            raise UserError(
                f"hook point {hook_point} of {self.name} does not hold one vector per token; choose another"
            )
        return int(acts_NCD.shape[-1])

    @torch.no_grad()
    def logits_of(self, hook_point: str, directions_FD: Tensor, through_norm: bool = False) -> Tensor | None:
        """Return what adding directions at a hook point adds to the logits [F, V]: by the block's output weights, then
        the unembedding, as if nothing came between. None where no fixed map leads there.

        Args:
            through_norm: apply the final norm, but for its scale: centre the directions, if it does, and multiply by
                its weights. Otherwise it is left out.
        """
        kind, layer = kind_and_layer(hook_point)
        if kind == "mlp.hook_post":
            written_FR = directions_FD @ self.bridge.W_out[layer].to(directions_FD)
        elif kind == "attn.hook_z":
            written_FR = directions_FD @ self.bridge.W_O[layer].flatten(0, 1).to(directions_FD)
        elif kind in RESIDUAL:
            written_FR = directions_FD
        else:
            return None
        if through_norm:
            written_FR = normed(getattr(self.bridge, "ln_final", None), written_FR)
        logits_FV: Tensor = written_FR @ self.bridge.W_U.to(directions_FD)
        return logits_FV

    def _with_bos(self, ids_NC: Tensor) -> Tensor:
        if not self.prepend_bos:
            return ids_NC
        bos_N1 = torch.full_like(ids_NC[:, :1], self.tokenizer.bos_token_id)
        return torch.cat([bos_N1, ids_NC], 1)

    def _without_bos(self, values: Tensor) -> Tensor:
        return values[:, 1:] if self.prepend_bos else values


def boot(
    model: str,
    device: str = "cpu",
    prepend_bos: bool | None = None,
    processing: Mapping[str, Any] | None = None,
    hook_points: Sequence[str] = (),
) -> Subject:
    """Boot a model from a hub name or a local Hugging Face directory.

    TransformerLens boots it, unless it does not know the architecture or hook points are names of modules.

    Args:
        prepend_bos: by default, if the tokenizer has a BOS token that its model was trained to see first.
        processing: the weight processing (`fold_ln`, `center_writing_weights`, ...) a dictionary was trained under;
            none by default: activations are then those of the Hugging Face model.
        hook_points: those that will be read or written.

    Raises:
        UserError: nothing loadable has that name, or its files are damaged or not of one model; hook points that
            need it loaded in two ways; processing without TransformerLens.
    """
    location, by_modules = hub_name(model), names_modules(hook_points)
    with quiet_libraries():
        tokenizer = tokenizer_of(model, location)
        has_bos = tokenizer.bos_token_id is not None  # asked now: TransformerLens gives a tokenizer one
        if by_modules or not knows(model, location):
            _refuse_processing(model, processing)
            bridge = load_modules(model, location, device, tokenizer)
        else:
            bridge = load_bridge(model, location, device, tokenizer)
            bridge.enable_compatibility_mode(disable_warnings=True, no_processing=not processing, **(processing or {}))
            bridge.eval()
    if prepend_bos and not has_bos:
        raise UserError(f"{model}'s tokenizer has no BOS token, but it was asked for one; ask for none")
    wants_bos = has_bos and bool(bridge.cfg.default_prepend_bos) if prepend_bos is None else prepend_bos
    return Subject(model, bridge, tokenizer, wants_bos, device)


def _refuse_processing(model: str, processing: Mapping[str, Any] | None) -> None:
    """Raise UserError if weights are to be processed, which TransformerLens does."""
    asked = [name for name, value in (processing or {}).items() if value]
    if asked:
        raise UserError(
            f"the dictionary's model was processed by TransformerLens ({', '.join(asked)}), but transformers reads "
            f"{model} as it is; give hook points of TransformerLens"
        )


def hub_name(model: str) -> str:
    """Return the hub's name for a name of TransformerLens (gpt2-small), which metadata often use; others unchanged."""
    if path_of(model).is_dir():
        return str(path_of(model))
    with quiet_libraries():
        from transformer_lens.supported_models import MODEL_ALIASES

    for official, aliases in MODEL_ALIASES.items():
        if model.lower() in (alias.lower() for alias in aliases):
            return str(official)
    return model


def refuse_longer_context(model: str, context: int, setting: str) -> None:
    """Raise UserError if a model sees fewer tokens at once; its weights are not loaded for that.

    Args:
        setting: the name of the setting or flag with the context, for the message.
    """
    most = context_of(model, hub_name(model))
    if most is not None and context > most:
        raise UserError(f"{setting} is {context}, but {model} sees at most {most} tokens; set {setting}={most}")


def one_name(model: str) -> str:
    """Return one name for all names of a model: an alias and the hub's name, a relative and an absolute path."""
    folder = path_of(model)
    return str(folder.resolve()) if folder.is_dir() else hub_name(model)


def batches(ids_NC: Tensor, size: int) -> Iterator[Tensor]:
    """Yield consecutive slices of at most `size` blocks."""
    for start in range(0, len(ids_NC), size):
        yield ids_NC[start : start + size]


def undecodable(token_strings: Sequence[str]) -> Tensor:
    """Tell per id whether its text cannot be shown, because it is a piece of a character (it holds U+FFFD)."""
    return torch.tensor(["�" in text for text in token_strings])
