"""Refuses hook points that a language model does not have, before its weights are loaded or a toy is trained.

Their names follow from the config alone: they are those of a model of the same class and number of layers whose widths
are small.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from sae.common.errors import UserError, near
from sae.models import toy
from sae.models.hook_names import INPUT, PREFIX, names_modules
from sae.models.loading import config_of, knows, malformed, tokenizer_of
from sae.models.quiet import quiet_libraries
from sae.models.subject import hub_name
from sae.models.toy_recipe import Toy

SMALL = {
    "hidden_size": 16, "intermediate_size": 16, "n_inner": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
    "head_dim": 8, "vocab_size": 512,
}  # fmt: skip
"""Widths of the small model, by transformers' common names."""


def refuse_unknown_hook_points(model: str, hook_points: Sequence[str]) -> None:
    """Raise UserError with the near names for a hook point that a model does not have.

    Of a model of which no small one can be made, nothing is refused here; loading it refuses such names, too.
    """
    location = hub_name(model)
    by_modules = names_modules(hook_points) or not knows(model, location)
    known = _names(_small(config_of(model, location)), location, tokenizer_of(model, location), by_modules)
    _refuse_others(model, known, hook_points)


def refuse_unknown_of_toy(recipe: Toy, hook_points: Sequence[str]) -> None:
    """Raise UserError with the near names for a hook point that a toy will not have."""
    _refuse_others("the toy", _names_of_toy(recipe.n_layers, names_modules(hook_points)), hook_points)


@cache
def _names_of_toy(n_layers: int, by_modules: bool) -> list[str]:
    recipe = Toy(n_layers=n_layers, d_model=16, d_mlp=16, n_heads=2, vocabulary=512)
    tokenizer = toy.wrapped(toy.train_tokenizer(["a"], recipe.vocabulary))
    return _names(toy.config(recipe, 8), "the toy", tokenizer, by_modules)


def _refuse_others(model: str, known: Sequence[str], hook_points: Sequence[str]) -> None:
    for hook_point in hook_points if known else ():
        if hook_point not in known:
            raise UserError(f"{model} has no hook point {hook_point!r}{near(hook_point, list(known))}")


def _small(config: Any) -> Any:
    """Return the config of a model with the same modules and small widths."""
    small = deepcopy(config)
    text = small.get_text_config()
    for name, size in SMALL.items():
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, size)
    text.pad_token_id = None  # it may be beyond the small vocabulary
    return small


def _names(config: Any, location: str, tokenizer: Any, by_modules: bool) -> list[str]:
    """Return the names of a model's hook points, none if it cannot be made."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    try:
        with quiet_libraries(), torch.random.fork_rng():  # its weights are drawn
            model = AutoModelForCausalLM.from_config(config)
            if by_modules:
                return [PREFIX + name + end for name, _ in model.named_modules() if name for end in ("", INPUT)]
            bridge = TransformerBridge.boot_transformers(location, hf_model=model, tokenizer=tokenizer)
            bridge.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    except malformed():
        return []
    return sorted(name for name, hook in bridge.hook_dict.items() if not isinstance(hook, str))
