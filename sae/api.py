"""Offers in Python what `sae train` and `sae eval` do. Thin; loads nothing heavy before it is called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError

if TYPE_CHECKING:
    from sae.common.progress import Report
    from sae.dictionary import Dictionary
    from sae.measuring.eval_request import Request
    from sae.measuring.evaluate import Evaluation
    from sae.training.config import TrainConfig


def train(
    config: str | Path | TrainConfig = "toy",
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
) -> dict[str, Dictionary]:
    """Train the dictionaries of a config, or resume a stopped training, and return them by name, on the CPU.

    >>> trained = sae.train("config.yaml", {"steps": 20}, out="trained/small")
    >>> dictionary = trained["topk_1x_k4"]
    >>> dictionary.d_in, dictionary.n_features, dictionary.hook_point
    (64, 64, 'blocks.0.mlp.hook_post')

    Args:
        config: the name of a shipped config (`toy`), the path of a YAML file, or a TrainConfig.
        changes: dotted config names to new values: {"steps": 1000, "dictionaries.0.k": 16}.
        out: the folder to train into; by default the config's, or trained/NAME here. A complete training in it is read.
        report: makes a progress display from a title; `sae.common.progress.Silent` shows nothing.

    Raises:
        UserError: a wrong path, name or setting, a folder of another training, or a loss that became infinite or NaN.

    In all but the first of several processes the result is empty.
    """
    from sae import formats
    from sae.common.progress import Progress
    from sae.training.session import run

    trained = run(_train_config(config, changes, out), report or Progress)
    if problems := trained.about.get("problems"):
        lines = "; ".join(f"dictionary {name} was not finished: {problem}" for name, problem in problems.items())
        raise UserError(f"{lines}; then train to another folder")
    return {row["name"]: formats.load(trained.folder / row["name"]) for row in trained.about.get("dictionaries", ())}


def _train_config(
    config: str | Path | TrainConfig, changes: Mapping[str, Any] | None, out: str | Path | None
) -> TrainConfig:
    from sae.common import settings
    from sae.training import config as configs

    changed = dict(changes or {}) | ({} if out is None else {"runtime.out": str(out)})
    if isinstance(config, configs.TrainConfig):
        return settings.build(configs.TrainConfig, config.model_dump(), changed, "changes")
    return configs.load(str(config), changed)


def evaluate(
    dictionary: str | Path | Dictionary,
    corpus: str | None = None,
    *,
    tokens: int = 1_000_000,
    context: int | None = None,
    model: str | None = None,
    hook_point: str | None = None,
    prepend_bos: bool | None = None,
    device: str = "auto",
    seed: int = 0,
    cosines: bool = True,
    report: Report | None = None,
) -> Evaluation:
    """Measure a dictionary on text: L0, FVU, cross-entropy recovered, densities, directions.

    >>> measured = sae.evaluate("dictionary", "corpus.jsonl", tokens=2000)
    >>> measured.name, measured.tokens, measured.l0 < 1
    ('words', 2016, True)

    Args:
        dictionary: its path, in any known format, or a Dictionary.
        corpus: `stdlib`, a text file, a folder, x.jsonl[#COLUMN], x.parquet[#COLUMN] or hf:NAME; by default the one it
            was trained on, or `stdlib`. Of the corpus that it was trained on only the held-out part is read.
        tokens: how many tokens to read, rounded up to whole blocks; fewer if the text ends.
        context: tokens of a block; by default as in training, or 128.
        model: a hub name or a Hugging Face directory; by default the one that the dictionary names.
        hook_point: by default the one that the dictionary names.
        prepend_bos: whether a BOS token precedes each block; by default as the dictionary says, or as its model does.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        seed: draws the blocks of the cross-entropy.
        cosines: whether to compare every decoder direction with every other, which is slow for 100,000 features.
        report: makes a progress display from a title; `sae.common.progress.Silent` shows nothing.

    Raises:
        UserError: an unreadable dictionary, one that names no model or hook point and is given none, a dictionary of
            another width than the hook point, or a corpus without text.
    """
    from sae import formats
    from sae.dictionary import Dictionary
    from sae.measuring.eval_request import Request

    def request(path: str) -> Request:
        return Request(
            (path,), model, hook_point, corpus, tokens, context,
            prepend_bos=prepend_bos, device=device, seed=seed, cosines=cosines,
        )  # fmt: skip

    if not isinstance(dictionary, Dictionary):
        return _evaluated(request(str(dictionary)), report)
    with TemporaryDirectory() as folder:
        formats.save(dictionary, f"{folder}/dictionary")
        return _evaluated(request(f"{folder}/dictionary"), report)


def _evaluated(request: Request, report: Report | None) -> Evaluation:
    from sae.common.progress import Progress
    from sae.measuring.eval_paths import eval_paths

    return eval_paths(request, report or Progress)[0].evaluation
