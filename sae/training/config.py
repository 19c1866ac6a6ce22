"""One YAML file is one training: a subject, a text, and any number of dictionaries. Needs no torch.

An item of `dictionaries` may have a `sweep`, a mapping of settings to lists: it stands for one dictionary each.
"""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sae import settings
from sae.errors import UserError
from sae.settings import Section
from sae.training.recipes import AnyRecipe, Count

PRESETS = "train/"
"""Where in `eval_configs` the presets lie."""
RUNTIME = {"runtime", "name"}
"""What may be changed while a stopped training is gone on with."""


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


class Toy(Section):
    """A one-layer transformer as in Towards Monosemanticity, trained here on the corpus."""

    vocabulary: Annotated[int, Field(ge=300)] = 2048
    d_model: Count = 128
    d_mlp: Count = 512
    n_heads: Count = 4
    n_layers: Count = 1
    steps: Count = 1100
    batch: Count = 16
    """Blocks a step."""
    seed: int = 0
    """Two seeds give the two transformers of which universality is measured."""


class Subject(Section):
    model: str = "toy"
    """`toy` (trained here), a hub name, or a Hugging Face directory."""
    hook_point: str = "blocks.0.mlp.hook_post"
    """TransformerLens name; attention heads are flattened."""
    prepend_bos: bool | None = None
    """Null: as the model is used to."""
    toy: Toy = Toy()


class Runtime(Section):
    """What changes speed and place, not what is learnt (but for rounding)."""

    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of products and activations; weights, sums and the optimiser are float32. auto: bfloat16 on a GPU."""
    split: Literal["data", "features"] = "data"
    """What several processes (`torchrun`) share: each batch, or the features where they do not fit one GPU."""
    forward_blocks: Count = 32
    """Blocks the language model runs at once."""
    measure_every: Count = 50
    """Steps between two rows of metrics; measuring waits for the device."""
    checkpoint_every: Count = 1000
    """Steps; also on Ctrl-C."""
    wandb: str | None = None
    """A project of Weights & Biases to report to (`pip install wandb`)."""
    out: str | None = None
    """Null: trained/NAME here."""


class TrainConfig(Section):
    name: str = "dictionaries"
    seed: int = 0
    """Of the text's split and the activations' order."""
    corpus: Corpus = Corpus()
    subject: Subject = Subject()
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
            raise ValueError(f"two dictionaries are called {twice[0]!r}; give one a name")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides what is learnt."""
        return self.model_dump(mode="json", exclude=RUNTIME)


def load(name_or_path: str, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a config by path or by name (./eval_configs/train, then the shipped presets), with some fields changed.

    Raises UserError: no such config, not YAML, an unknown key (with the near one), or a value of the wrong kind.
    """
    path, values = settings.read(name_or_path, PRESETS)
    items = values.get("dictionaries")
    if isinstance(items, list):
        values = values | {"dictionaries": [expanded for item in items for expanded in _swept(item, str(path))]}
    return settings.build(TrainConfig, {"name": path.stem} | values, changes or {}, str(path))


def _swept(item: Any, where: str) -> list[Any]:
    """An item without its `sweep`, once for every combination of the values there."""
    if not isinstance(item, dict) or "sweep" not in item:
        return [item]
    sweep, rest = item["sweep"], {key: value for key, value in item.items() if key != "sweep"}
    if not isinstance(sweep, dict) or not all(isinstance(values, list) for values in sweep.values()):
        raise UserError(f"{where}: sweep wants a list of values for each setting, for example sweep: {{k: [16, 32]}}")
    combinations = product(*sweep.values())
    return [rest | dict(zip(sweep, values, strict=True)) for values in combinations]
