"""Reads the config of one training from a YAML file: a subject, a text, and any number of dictionaries.

An item of `dictionaries` can have a `sweep`, a mapping of settings to lists of values: it then stands for one
dictionary with each combination of values. If it has a `name`, the swept settings are inserted where they stand in
braces: `{name: "x_lr={lr}", sweep: {lr: [1.0e-3, 1.0e-4]}}`. Needs no torch.
"""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sae.common import settings
from sae.common.errors import UserError
from sae.common.field_types import Count, FileName, Seed, Text
from sae.common.settings import Section
from sae.models.toy_recipe import Toy
from sae.training.architectures.relu import ReLU
from sae.training.recipes import AnyRecipe

TOY_HOOK_POINT = "blocks.0.mlp.hook_post"
PRESETS = "train/"
"""The folder of the presets in `eval_configs`."""
RUNTIME = {"runtime", "name"}
"""Sections and fields that may change before a stopped training is continued."""


TAKEN = {"subject", "checkpoint", "train.json", "metrics.jsonl"}
"""Names of the other files and folders in a training's folder, which no dictionary can have."""


class Corpus(Section):
    """Chooses the text that is trained on."""

    source: Text = "stdlib"
    """`stdlib`, a text file, a folder, `x.jsonl`, `x.json`, `x.parquet` (`#COLUMN`, by default `text`), also `.gz` and
    `.zst`, or `hf:NAME`; several with ` + ` between them."""
    context: Annotated[int, Field(ge=8)] = 128
    """Tokens that the model reads at once; a BOS token, if there is one, is added to these."""
    max_tokens: Count = 20_000_000
    """Largest number of tokens to read of a corpus that is kept in memory."""
    streamed: bool | None = None
    """Read the corpus while training, whatever its size, in its own order, instead of keeping it in memory. Null: true
    for hub datasets, false for files."""
    held_out_tokens: Count = 200_000
    """Tokens, in whole documents, that are kept for the metrics at the end; at most half of a corpus in memory."""

    @property
    def is_streamed(self) -> bool:
        """Whether the corpus is read while training."""
        return self.source.startswith("hf:") if self.streamed is None else self.streamed


class Subject(Section):
    """Names the language model whose activations are read."""

    model: Text = "toy"
    """`toy` (trained here), a name on the Hugging Face hub, or a local directory."""
    hook_point: Text
    """TransformerLens' name of the hook point, or `hf:` and a module of transformers (its input: `:in` behind it);
    attention heads are flattened. Default for the toy: its MLP."""
    writes: Text | None = None
    """Train transcoders: the hook point that they make from what they read at `hook_point`; null: autoencoders."""
    prepend_bos: bool | None = None
    """Put a BOS token before each block; null: the model's default."""
    reset_weights: bool = False
    """Re-initialise the subject's weights and keep its config and tokenizer: a null (Heap et al. 2025, arXiv
    2501.17727). The weights are drawn with the training's seed and saved in its folder, as subject/."""
    toy: Toy = Toy()
    """Size and training of the toy model."""

    @property
    def hook_points(self) -> tuple[str, ...]:
        """What is read and, for transcoders, what is written."""
        return (self.hook_point, *([self.writes] if self.writes else []))

    @model_validator(mode="before")
    @classmethod
    def _toy_hook_point(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("model", "toy") == "toy":
            return {"hook_point": TOY_HOOK_POINT} | values
        return values


class Runtime(Section):
    """Sets speed and output folder; changes nothing that is learnt (except by rounding)."""

    device: Text = "auto"
    """`auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1` and so on."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number type of the activations and of the dictionaries' products. Weights, the optimiser and the language model
    are float32 in any case (the model's products TF32 on a GPU). `auto`: bfloat16 on a GPU that has it."""
    split: Literal["data", "features"] = "data"
    """What several processes (`torchrun`) divide among them: each batch, or the features if they do not fit into one
    GPU."""
    forward_blocks: Count = 32
    """Blocks that the language model reads at once."""
    measure_every: Count = 50
    """Steps between two rows of metrics; measuring waits for the device to finish."""
    checkpoint_every: Count = 1000
    """Steps between two checkpoints; Ctrl-C also writes one."""
    experimental: bool = False
    """Use code that was tested on a CPU but has never run on a GPU: a step recorded as a CUDA graph (one GPU), and
    several processes with a GPU each (NCCL), which are refused otherwise."""
    wandb: Text | None = None
    """Project of Weights & Biases to send metrics to (needs `pip install wandb`); null: none."""
    out: Text | None = None
    """Folder for the results; null: trained/NAME in the working directory."""


class TrainConfig(Section):
    """Holds everything about one training."""

    name: FileName = "dictionaries"
    """Names the default folder for the results; by default the config file's name."""
    seed: Seed = 0
    """Seed of the text's split, of the activations' order, and of a subject's weights that are reset."""
    corpus: Corpus = Corpus()
    subject: Subject = Subject(hook_point=TOY_HOOK_POINT)
    steps: Count = 2000
    """Number of training steps."""
    batch: Count = 4096
    """Activation vectors in one step, of all processes together."""
    buffer: Count = 131_072
    """Activation vectors that are kept on the device and shuffled together."""
    dictionaries: Annotated[tuple[AnyRecipe, ...], Field(min_length=1)]
    """The recipes of the dictionaries. All are trained at once, on the same batches."""
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _distinct(self) -> "TrainConfig":
        labels = [recipe.label for recipe in self.dictionaries]
        twice = [label for label in labels if labels.count(label) > 1]
        if twice:
            raise ValueError(f"two dictionaries are called {twice[0]!r}; give one a name (in a sweep, as x_lr={{lr}})")
        taken = [label for label in labels if label in TAKEN or not label.strip(".")]
        if taken:
            raise ValueError(
                f"a dictionary cannot be called {taken[0]!r}: the training's folder has a file or folder of that name"
            )
        return self

    @model_validator(mode="after")
    def _transcoders(self) -> "TrainConfig":
        writes = self.subject.writes
        if writes == self.subject.hook_point:
            raise ValueError(f"subject.writes is what is read, {writes}; leave it out for autoencoders")
        for recipe in self.dictionaries:
            resamples = isinstance(recipe, ReLU) and bool(recipe.resampling.steps)
            if recipe.skip and not writes:
                raise ValueError(f"{recipe.label}: skip is for transcoders; give subject.writes (--writes NAME)")
            if writes and (recipe.one_matrix or resamples):
                what = "resampling" if resamples else recipe.architecture
                raise ValueError(f"{recipe.label}: {what} is for autoencoders, not for what writes {writes}")
        return self

    def identity(self) -> dict[str, Any]:
        """Return every setting that decides what is learnt."""
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
    """Return an item once for every combination of the values in its `sweep`."""
    if not isinstance(item, dict) or "sweep" not in item:
        return [item]
    sweep, rest = item["sweep"], {key: value for key, value in item.items() if key != "sweep"}
    if not isinstance(sweep, dict) or not all(isinstance(values, list) for values in sweep.values()):
        raise UserError(f"{where}: sweep needs a list of values for each setting, for example sweep: {{k: [16, 32]}}")
    combinations = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    return [rest | values | _named(rest.get("name"), values, where) for values in combinations]


def _named(name: Any, values: dict[str, Any], where: str) -> dict[str, str]:
    if not isinstance(name, str):
        return {}
    try:
        return {"name": name.format(**values)}
    except (LookupError, ValueError) as error:
        raise UserError(
            f"{where}: name {name!r} can have only the swept settings in braces: {{{'}, {'.join(values)}}}"
        ) from error
