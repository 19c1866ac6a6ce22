"""Writes measurements as aligned text for a terminal, and names their files. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sae.common.errors import visible

if TYPE_CHECKING:
    from sae.measuring.diagnosis import Diagnosis
    from sae.measuring.eval_paths import Outcome
    from sae.measuring.evaluate import Evaluation
    from sae.measuring.nearest import Nearest

LONGEST = 100
"""Characters of a metadata value that are shown."""
NAMES = 46
"""Width, in characters, of the names in every list, because one command prints several lists."""
Row = tuple[str, list[str]]


def number(value: float | None) -> str:
    """Return four significant digits, or a dash for None."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def share(value: float | None) -> str:
    """Return a percentage, or a dash for None."""
    return "-" if value is None else f"{value:.2%}"


def aligned(rows: Sequence[Row]) -> str:
    """Return rows with names aligned left and columns aligned right, each as wide as its widest cell."""
    rows = [(visible(name), [visible(cell) for cell in cells]) for name, cells in rows]
    width = max(len(name) for name, _ in rows)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    lines = (
        f"{name:{width}}  " + "  ".join(f"{cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        for name, cells in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def trained(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with one row for each dictionary in train.json."""
    head = ["features", "L0", "FVU", "CE recovered", "dead", "ms a step", "MB"]
    cells = [
        [
            f"{row['features']:,}",
            *(number(row[name]) for name in ("l0", "fvu", "ce_recovered")),
            share(row["dead"]),
            *(f"{row[name]:,.0f}" for name in ("ms_per_step", "megabytes")),
        ]
        for row in rows
    ]
    return aligned([("", head), *((row["name"], line) for row, line in zip(rows, cells, strict=True))])


def outcomes(measured: Sequence[Outcome]) -> str:
    """Return device, models and texts of what was measured, then one table of all; "" if there is nothing."""
    if not measured:
        return ""
    text = measured[0].text
    lines = [f"device {text.device}: {text.device_reason}"]
    for outcome in measured:
        target, bos = outcome.target, "a BOS token before each block" if outcome.prepend_bos else "no BOS token"
        lines.append(f"{target.header.name}: {target.model} at {target.hook_point}, {bos}")
        lines += [f"  {note}" for note in outcome.notes]
    return "\n".join([*map(visible, [*lines, *texts(measured)]), "", evaluations(measured), ""])


def evaluations(outcomes: Sequence[Outcome]) -> str:
    """Return a table with one column for each dictionary, and the definitions below it."""
    columns = [list(_evaluation(outcome.evaluation)) + list(_comparison(outcome)) for outcome in outcomes]
    names = [name for name, _ in columns[0]]
    decades = sorted({decade for outcome in outcomes for decade in _decades(outcome.evaluation)})
    rows = [("", [outcome.target.header.name for outcome in outcomes])]
    rows += [(name, [column[row][1] for column in columns]) for row, name in enumerate(names)]
    rows += [
        (f"features of density 1e{low} to 1e{low + 1}", [number(_decades(o.evaluation).get(low, 0)) for o in outcomes])
        for low in decades
    ]
    return aligned(rows) + f"\n\n{DEFINITIONS}"


def diagnosis(outcome: Outcome) -> str:
    """Return a table of the FVU with each cause taken away, and the best one; "" if it was not asked for."""
    made = outcome.diagnosis
    if made is None:
        return ""
    rows: list[Row] = [(f"{made.name}: what was tried", ["FVU"]), ("as given", [number(made.fvu)])]
    rows += [(f"{trial.cause}: {trial.tried}", [number(trial.fvu)]) for trial in made.trials]
    return f"{aligned(rows)}\n\n{visible(_verdict(made, outcome.target.path))}\n"


def _verdict(made: Diagnosis, path: str) -> str:
    best, command = made.best, made.command(path)
    if best is None:
        return f"{made.name} fits" if made.fvu < 1 else "none of these alone is the cause; is it another model's?"
    cause = f"probable cause: {best.cause}; {best.tried}, FVU is {number(best.fvu)} instead of {number(made.fvu)}"
    if not command:
        return f"{cause}; correct the hook points that the dictionary's files name"
    also = {"BOS token": "--set subject.prepend_bos=true or false", "layer": best.options}.get(best.cause)
    return f"{cause}; use: {command}" + (f" (in a run: {also})" if also else "")


def texts(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield a line about the text; where there are several texts, one each, with the dictionaries measured on it."""
    names: dict[str, list[str]] = {}
    for outcome in outcomes:
        text, blocks = outcome.text, outcome.evaluation.loss_blocks
        line = (
            f"corpus {text.corpus}, {text.part}: {text.tokens:,} tokens in blocks of {text.context}; "
            f"cross-entropy on {blocks} of them"
        )
        names.setdefault(line, []).append(outcome.target.header.name)
    for line, measured in names.items():
        yield line if len(names) == 1 else f"{', '.join(measured)}: {line}"


DEFINITIONS = (
    "L0: active features per token. FVU: sum |x - x_hat|^2 / sum |x - mean x|^2, x what is written. CE recovered: the\n"
    "share of the loss that an ablation adds which the reconstruction avoids. Density: share of tokens on which a\n"
    "feature is active; dead: on none; ultralow: on less than 1e-6 of them, but on some (ten million tokens or more\n"
    "can tell)."
)


def _evaluation(measured: Evaluation) -> Iterator[tuple[str, str]]:
    losses, norms, directions = measured.losses, measured.squared_norms, measured.directions
    yield "features", number(measured.n_features)
    yield "L0", number(measured.l0)
    yield "FVU", number(measured.fvu)
    yield "CE recovered, of zero ablation", number(losses.recovered)
    yield "CE recovered, of mean ablation", number(losses.recovered_from_mean)
    yield "cross-entropy (nats): untouched", number(losses.clean)
    yield "  reconstructed", number(losses.reconstructed)
    yield "  zero ablation", number(losses.zeroed)
    yield "  mean ablation", number(losses.averaged)
    yield "mean |x|^2", number(norms.activations)
    yield "  |x_hat|^2", number(norms.reconstructions)
    yield "  |x - x_hat|^2", number(norms.errors)
    yield "decoder norm: smallest, median, largest", spread(directions.decoder_norms)
    if directions.nearest:
        yield "cosine with the nearest other: 5%, median, 95%", nearest(directions.nearest)
    yield "cosine of encoder and decoder: 5%, median, 95%", nearest(directions.paired) if directions.paired else "-"
    yield "dead", share(measured.density.dead)
    yield "ultralow", share(measured.density.ultralow)
    yield "median density of the others", number(measured.density_median)


def _comparison(outcome: Outcome) -> Iterator[tuple[str, str]]:
    compared = outcome.comparison
    if compared is None:
        return
    name = compared.b.dictionary.name
    yield f"MMCS to {name}", number(compared.mmcs.a_to_b.mean if compared.mmcs else None)
    yield "  and back", number(compared.mmcs.b_to_a.mean if compared.mmcs else None)
    yield f"universality to {name}: 5%, median, 95%", nearest(compared.universality.a_to_b)
    yield "  and back", nearest(compared.universality.b_to_a)


def _decades(measured: Evaluation) -> dict[int, int]:
    """Return the number of features by lower log10 edge of their density, from the first decade that has any."""
    histogram = measured.histogram(per_decade=1)
    borders = [round(edge) for edge in histogram.edges[:-1]]
    first = next((index for index, count in enumerate(histogram.counts) if count), len(borders))
    return dict(list(zip(borders, histogram.counts, strict=True))[first:])


def nearest(similarity: Nearest) -> str:
    """Return the 5%, 50% and 95% quantiles, or a dash if no feature has a similarity."""
    quantiles = similarity.quantiles((0.05, 0.5, 0.95))
    return spread(tuple(quantiles.values())) if quantiles else "-"


def spread(values: Sequence[float]) -> str:
    """Return numbers with three decimals in one cell."""
    return "  ".join(f"{value:.3f}" for value in values)


def listed(rows: Mapping[str, str]) -> str:
    """Return one line for each name and value, both aligned left."""
    return "\n".join(f"{visible(name):{NAMES}}  {visible(str(value))}" for name, value in rows.items())


def recorded(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of nested metadata under its dotted name; long values are cut."""
    for key, value in metadata.items():
        if isinstance(value, Mapping) and value:
            yield from recorded(value, f"{prefix}{key}.")
        else:
            text = " ".join(str(value).split())
            yield f"{prefix}{key}", text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def file_name(dictionary: str) -> str:
    """Return the default name of a dictionary's JSON file; characters that a file name cannot have are replaced."""
    return re.sub(r"[^\w.+\[\]-]+", "_", dictionary) + ".metrics.json"
