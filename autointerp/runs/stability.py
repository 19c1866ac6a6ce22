"""Measures over finished runs that differ only in their seed how stable the features of their dictionaries are."""

from __future__ import annotations

from collections.abc import Sequence

from autointerp import stability_files
from autointerp.reporting.seeds import differ_only_in_seed
from autointerp.runs import opening
from autointerp.runs.plan import TOY
from autointerp.runs.trying import plan_of
from autointerp.store import RunFolder
from sae.common.progress import Report
from sae.common.settings import cache_folder


def measure_over_seeds(folders: Sequence[RunFolder], report: Report) -> None:
    """Write the stability of what each run trained or fitted, and make its tables and pictures again with it.

    Nothing is done for runs whose subjects differ, since directions in two models have nothing in common: for the toy
    and for weights that are reset, which depend on the seed. Nor where it was done before.

    Raises UserError if a dictionary is not in the cache any more.
    """
    abouts = [folder.about for folder in folders]
    subject = abouts[0]["config"]["subject"]
    runs = [about["identity"] for about in abouts]
    if subject["model"] == TOY or subject["reset_weights"] or not differ_only_in_seed(abouts):
        return
    if all(stability_files.is_over(folder.path, runs) for folder in folders):
        return
    from autointerp.sampling.reload import reload
    from autointerp.sampling.stability import over_runs

    made, sampled = [], []
    for folder in folders:
        plan = plan_of(folder)
        given = {planned.header.name for planned in plan.dictionaries}
        reloaded = reload(plan, cache_folder("autointerp"), folder.path)
        made.append([one for one in reloaded.dictionaries if one.name not in given])
        sampled.append(_sampled(folder))
    for folder, stability in zip(folders, over_runs(made, sampled, report), strict=True):
        stability_files.write_over_seeds(folder.path, runs, stability)
        opening.rebuild(folder)


def _sampled(folder: RunFolder) -> dict[str, list[int]]:
    sampled: dict[str, list[int]] = {}
    for feature in folder.numbers("max_activation"):
        sampled.setdefault(feature.dictionary, []).append(feature.index)
    return sampled
