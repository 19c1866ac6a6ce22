"""Defines the command `plan`: what a run at scale would take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from sae.common.click_group import Command

if TYPE_CHECKING:
    from autointerp.sampling.projection import Projection
    from sae.common.tables import Table

RATES = {name: f"--{name}-rate" for name in ("product", "count", "follow", "merge", "record")}
MOST = 1e18
"""Larger numbers are taken for mistakes."""


@click.command(cls=Command)
@click.argument("config", required=False, default="judged")
@click.option("--tokens", default="1e9", metavar="N", help="Tokens that records are drawn from; default: 1e9.")
@click.option("--features", default="131072", metavar="N", help="Features of each dictionary; default: 131072.")
@click.option("--layers", default="26", metavar="N", help="Dictionaries, one for each layer; default: 26.")
@click.option("--gpus", default="1", metavar="N", help="Workers of Ray; default: 1, this process alone.")
@click.option("--width", default="2304", metavar="N", help="Width of what each dictionary reads; default: 2304.")
@click.option("--parameters", metavar="N", help="Parameters that a token passes; default: 12 x layers x width squared.")
@click.option("--l0", default="100", metavar="N", help="Active features of a token; default: 100.")
@click.option("--product-rate", metavar="N", help="Floating-point operations a second of a worker's matrix products.")
@click.option("--count-rate", metavar="N", help="Activations a second that a worker computes and counts.")
@click.option("--follow-rate", metavar="N", help="Activations a second of followed features that a worker takes in.")
@click.option("--merge-rate", metavar="N", help="Bytes a second that are merged.")
@click.option("--record-rate", metavar="N", help="Records a second that are drawn and written.")
@click.option("--usd-per-feature", metavar="USD", help="Cost of language models; default: from real prompts.")
@click.option(
    "--device", default="auto", metavar="NAME", help="Where rates are measured; default: a GPU if there is one."
)
@click.option("--set", "settings", multiple=True, metavar="K=V", help="Any setting, as for run: sampling.features=50.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(config: str, settings: tuple[str, ...], usd_per_feature: str | None, as_json: bool, **flags: Any) -> None:
    """Foretell time, memory, bytes merged and cost of sampling and judging at scale; nothing is run.

    CONFIG says how many features and records are sampled and who judges; default: judged. Rates that are not given are
    measured on this machine, in three seconds. Everything is an upper bound, of a second pass and of encoders that
    compute all features.

    \b
    autointerp plan judged --tokens 1e9 --features 131072 --layers 26 --gpus 8
    """
    import json
    from dataclasses import asdict

    from autointerp.config import load
    from autointerp.runs.judging_cost import usd_per_feature as foretold_usd
    from autointerp.sampling.projection import Rates, Size, project
    from sae.common.errors import UserError
    from sae.common.settings import parse_settings
    from sae.common.tables import print_tables

    experiment = load(config, parse_settings(settings, "sampling.features=50"))
    names = ("tokens", "features", "layers", "gpus", "width")
    numbers: dict[str, Any] = {name: _amount(f"--{name}", flags[name], whole=True) for name in names}
    parameters = flags["parameters"] or str(12 * numbers["layers"] * numbers["width"] ** 2)
    size = Size(**numbers, parameters=_amount("--parameters", parameters, whole=True), l0=_amount("--l0", flags["l0"]))
    if size.l0 > size.features:
        raise UserError(
            f"--l0 {size.l0:g} is more than all --features {size.features}; give the active features of a token"
        )
    given = {name: _amount(flag, flags[f"{name}_rate"]) for name, flag in RATES.items() if flags[f"{name}_rate"]}
    usd = _amount("--usd-per-feature", usd_per_feature, least=0) if usd_per_feature else foretold_usd(experiment)
    measured: dict[str, float] = {}
    if len(given) < len(RATES):
        from autointerp.sampling.rates import measure

        measured = asdict(measure(experiment, flags["device"]))
    rates = Rates(**(measured | given))
    projection = project(experiment, size, rates)
    usd = None if usd is None else usd * projection.sampled
    if as_json:
        values = {"size": asdict(size), "rates": asdict(rates), "rates_given": sorted(given)}
        values |= asdict(projection) | {"seconds": projection.seconds, "judging_usd": usd}
        click.echo(json.dumps(values, indent=1))
    else:
        print_tables(_tables(asdict(size), asdict(rates), sorted(given), projection, usd))


def _amount(flag: str, text: str, whole: bool = False, least: float = 1e-9) -> Any:
    """Read a positive number such as 131072 or 1e9. Raises UserError in one line."""
    from sae.common.errors import UserError, shortened

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= MOST or (whole and value != int(value)):
        kind = "a whole number from 1" if whole else "a number from 0" if least == 0 else "a number above 0"
        raise UserError(f"{flag} is {shortened(text, 40)!r}; give {kind} to {MOST:.0e}, such as 1000 or 1e9")
    return int(value) if whole else value


def _tables(
    size: dict[str, Any], rates: dict[str, float], given: list[str], projection: Projection, usd: float | None
) -> list[Table]:
    from sae.common.progress import duration
    from sae.common.tables import Table

    passes = [
        [
            str(number), f"{one.followed:,}", "yes" if one.counts_all else "no", f"{one.shards:,}",
            duration(one.compute_seconds), _bytes(one.bytes_merged), duration(one.merge_seconds),
        ]
        for number, one in enumerate(projection.passes, start=1)
    ]  # fmt: skip
    header = ["pass", "followed features a dictionary", "counts all", "shards", "reading", "merged", "merging"]
    totals = [
        ["time, at most", duration(projection.seconds)],
        ["of it for records", duration(projection.record_seconds)],
        ["memory of a worker", _bytes(projection.worker_bytes)],
        ["memory of this process", _bytes(projection.merging_bytes)],
        ["bytes merged, at most", _bytes(sum(one.bytes_merged for one in projection.passes))],
        ["sampled features", f"{projection.sampled:,}"],
        ["records, at most", f"{projection.records:,}"],
        ["language models", "no price is known" if usd is None else f"${usd:,.2f}"],
    ]
    assumed = [[name, f"{value:,.0f}", "size"] for name, value in size.items()]
    assumed += [
        [f"{name} rate", f"{value:.3g} a second", "given" if name in given else "measured here"]
        for name, value in rates.items()
    ]
    return [
        Table(["assumed", "value", "source"], assumed),
        Table(header, passes, "The second pass is not always needed."),
        Table(["in all", ""], totals),
    ]


def _bytes(n: float) -> str:
    """Return an amount of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            break
        n /= 1000
    return f"{n:,.0f} {unit}" if unit == "B" else f"{n:,.1f} {unit}"
