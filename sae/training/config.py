"""One YAML file is one training: a subject, a text, and any number of dictionaries. Needs no torch.

An item of `dictionaries` may have a `sweep`, a mapping of settings to lists: it stands for one dictionary each. Its
`name`, if it has one, then says which in braces: `{name: "x_lr={lr}", sweep: {lr: [1.0e-3, 1.0e-4]}}`.
"""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sae.common import settings
from sae.common.errors import UserError
from sae.common.field_types import Count
from sae.common.settings import Section
from sae.models.toy_recipe import Toy
from sae.training.recipes import AnyRecipe

TOY_HOOK_POINT = "blocks.0.mlp.hook_post"
PRESETS = "train/"
"""Where in `eval_configs` the presets lie."""
RUNTIME = {"runtime", "name"}
"""What may be changed while a stopped training is gone on with."""


TAKEN = {"subject", "checkpoint", "train.json", "metrics.jsonl"}
"""What else lies in a training's folder."""


class Corpus(Section):
    source: str = "stdlib"
    """`stdlib`, a text file, a folder, `x.jsonl`, `x.parquet` (`#COLUMN`, by default `text`), or `hf:NAME`."""
    context: Annotated[int, Field(ge=8)] = 128
    """Tokens the model sees at once (a BOS token, if any, comes on top)."""
    max_tokens: Count = 20_000_000
    """Of a corpus that is kept in memory: it is read until it has so many."""
    streamed: bool | None = None
    """Read it as it is trained on, whatever its size, in its own order; null: hub datasets are, files are not."""
    held_out_tokens: Count = 200_000
    """By document, for the metrics at the end; at most half of a corpus in memory."""

    @property
    def is_streamed(self) -> bool:
        return self.source.startswith("hf:") if self.streamed is None else self.streamed


class Subject(Section):
    model: str = "toy"
    """`toy` (trained here), a hub name, or a Hugging Face directory."""
    hook_point: str
    """TransformerLens name; attention heads are flattened. The toy's default is its MLP."""
    prepend_bos: bool | None = None
    """Null: as the model is used to."""
    toy: Toy = Toy()

    @model_validator(mode="before")
    @classmethod
    def _toy_hook_point(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("model", "toy") == "toy":
            return {"hook_point": TOY_HOOK_POINT} | values
        return values


class Runtime(Section):
    """What changes speed and place, not what is learnt (but for rounding)."""

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the dictionaries' products, their results and the activations; weights and the optimiser are float32, the
    language model too (TF32 on a GPU). auto: bfloat16 on a GPU that has it."""
    split: Literal["data", "features"] = "data"
    """What several processes (`torchrun`) share: each batch, or the features where they do not fit one GPU."""
    forward_blocks: Count = 32
    """Blocks the language model runs at once."""
    measure_every: Count = 50
    """Steps between two rows of metrics; measuring waits for the device."""
    checkpoint_every: Count = 1000
    """Steps; also on Ctrl-C."""
    experimental: bool = False
    """Use code that was tested on a CPU but has never run on a GPU: a step recorded as a CUDA graph (one GPU), and
    several processes with a GPU each (NCCL), which are refused otherwise."""
    wandb: str | None = None
    """A project of Weights & Biases to report to (`pip install wandb`)."""
    out: str | None = None
    """Null: trained/NAME here."""


class TrainConfig(Section):
    name: str = "dictionaries"
    seed: int = 0
    """Of the text's split and the activations' order."""
    corpus: Corpus = Corpus()
    subject: Subject = Subject(hook_point=TOY_HOOK_POINT)
    steps: Count = 2000
    batch: Count = 4096
    """Activation vectors a step, of all processes together."""
    buffer: Count = 131_072
    """Vectors that are shuffled together, on the device."""
    dictionaries: Annotated[tuple[AnyRecipe, ...], Field(min_length=1)]
    """All are trained at once, on the same batches."""
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _distinct(self) -> "TrainConfig":
        labels = [recipe.label for recipe in self.dictionaries]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise ValueError(f"two dictionaries are called {twice[0]!r}; give one a name (in a sweep, as x_lr={{lr}})")
        taken = [label for label in labels if label in TAKEN or not label.strip(".")]
        if taken:
            raise ValueError(f"a dictionary cannot be called {taken[0]!r}: its folder lies beside what is called so")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides what is learnt."""
        return self.model_dump(mode="json", exclude=RUNTIME)


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a config by path or by name (./eval_configs/train, then the shipped presets), with some fields changed.

    Raises UserError: no such config, not YAML, an unknown key (with the near one), or a value of the wrong kind.
    """
    path, values = settings.read(name_or_path, PRESETS)
    if "dictionaries" in values:
        values = values | {"dictionaries": _expanded(values["dictionaries"], str(path))}
    changed = {
        name: _expanded(value, "--set dictionaries") if name == "dictionaries" else value
        for name, value in (changes or {}).items()
    }
    return settings.build(TrainConfig, {"name": path.stem} | values, changed, str(path))


def _expanded(items: Any, where: str) -> Any:
    return [one for item in items for one in _swept(item, where)] if isinstance(items, list) else items


def _swept(item: Any, where: str) -> list[Any]:
    """An item without its `sweep`, once for every combination of the values there."""
    if not isinstance(item, dict) or "sweep" not in item:
        return [item]
    sweep, rest = item["sweep"], {key: value for key, value in item.items() if key != "sweep"}
    if not isinstance(sweep, dict) or not all(isinstance(values, list) for values in sweep.values()):
        raise UserError(f"{where}: sweep wants a list of values for each setting, for example sweep: {{k: [16, 32]}}")
    combinations = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    return [rest | values | _named(rest.get("name"), values, where) for values in combinations]


def _named(name: Any, values: dict[str, Any], where: str) -> dict[str, str]:
    if not isinstance(name, str):
        return {}
    try:
        return {"name": name.format(**values)}
    except (LookupError, ValueError) as error:
        raise UserError(f"{where}: name {name!r} can have {{{'}, {'.join(values)}}} in it, nothing else") from error
