"""Tries a finished run's features on a text of the user's own. Torch is imported only when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from autointerp import config as configs
from autointerp.config import Config
from autointerp.records import FeatureId, FeatureResult
from autointerp.runs import identity
from autointerp.runs.plan import Plan, make_plan
from autointerp.store import RunFolder
from autointerp.trials import Trial
from sae.common.errors import UserError, near, shortened
from sae.common.settings import cache_folder

if TYPE_CHECKING:
    from autointerp.sampling.reload import Reloaded


class Trier:
    """Reads texts with a run's model and dictionaries, which are loaded once."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def try_text(self, text: str, dictionaries: Sequence[str] = (), top: int = 5) -> Trial:
        """Read a text.

        Args:
            text: any text.
            dictionaries: those whose features are looked at; empty: the trained ones, or all if there is none.
            top: number of features that are shown of each token, and of the explained ones.

        Raises UserError if the run has no such dictionary, if what it was made from is gone or has changed, or if the
        text has no token, or half of a character.
        """
        if text != text.encode("utf-8", "replace").decode("utf-8"):
            raise UserError("the text holds half of a character, which no tokenizer reads; replace it")
        names = _names(self._folder, dictionaries)
        reloaded = self._reloaded
        from autointerp.sampling.trying import try_text

        tokens = try_text(reloaded, text, names, self._results, top)
        return Trial(names, tuple(tokens), self._results, self._folder.numbers("max_activation"))

    @cached_property
    def _reloaded(self) -> Reloaded:
        plan = plan_of(self._folder)
        from autointerp.sampling.reload import reload

        return reload(plan, cache_folder("autointerp"), self._folder.path)

    @cached_property
    def _results(self) -> dict[FeatureId, FeatureResult]:
        """The main explainer's, or of another one where it has none."""
        results: dict[FeatureId, FeatureResult] = {}
        for result in self._folder.results():  # the main explainer's come first
            results.setdefault(result.feature, result)
        return {feature: result for feature, result in results.items() if result.explanation}


def _names(folder: RunFolder, names: Sequence[str]) -> tuple[str, ...]:
    """Return the dictionaries to look at. Raises UserError if one is unknown, or if nothing is sampled yet."""
    summaries = folder.about.get("dictionaries", [])
    known = [summary["name"] for summary in summaries]
    for name in names:
        if name not in known:
            raise UserError(f"the run has no dictionary {shortened(name)!r}{near(name, known)}")
    trained = [summary["name"] for summary in summaries if summary["kind"] == "sae"]
    return tuple(dict.fromkeys(names or trained or known))


def plan_of(folder: RunFolder) -> Plan:
    """Plan a run again as far as its records go, from run.json.

    Raises UserError if a file that it names is gone, or if records drawn now would be others.
    """
    about = folder.about
    config = configs.build(dict(about["config"]), {}, f"{folder.path / 'run.json'}")
    assert isinstance(config, Config)
    by_rules = {"explainers": ("rules-5",), "simulator": "rules", "judge": None, "scorers": ("simulation",)}
    try:
        plan = make_plan(config.model_copy(update=by_rules | {"control_kinds": ()}))
    except UserError as error:
        raise UserError(f"cannot load again what {folder.path} was made from: {error}; paths that do not begin with / "
                        "are looked up from here, so start where the run was started") from error  # fmt: skip
    if plan.records_identity != identity.identify_records(config, about["inputs"]):
        raise UserError(
            f"the model, a dictionary or the corpus of {folder.path} has changed since; the command that made the run, "
            "with another --out, makes one of what is there now"
        )
    return plan
