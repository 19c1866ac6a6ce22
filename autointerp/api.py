"""Offers what a user of `import autointerp` needs: `run`, `estimate`, `open_run`, and a `Run` with pandas tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from autointerp.calibration.report import Calibration
    from autointerp.config import Config
    from autointerp.llm.cache import AnswerCache
    from autointerp.llm.preflight import Abilities
    from autointerp.records import FeatureRecord, FeatureResult
    from autointerp.runs.savings import Estimate
    from autointerp.store import RunFolder
    from autointerp.trials import Trial
    from sae.common.progress import Report


class Run:
    """Reads a run folder, finished or not, as tables.

    >>> run = autointerp.open_run("run")
    >>> run.about["status"]
    'complete'
    >>> sorted(run.leaderboard()["dictionary"].unique())
    ['ica', 'neurons', 'pca', 'random', 'random_matched[topk_2x]', 'topk_2x']
    >>> len(run.features) * 4 == len(run.results)  # a row per feature and explainer, of which `smoke` has four
    True
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.path: Path = folder.path

    @property
    def about(self) -> dict[str, Any]:
        """run.json: config, identity, status, inputs, versions, what was sampled."""
        return self._folder.about

    @property
    def features(self) -> list[FeatureRecord]:
        """The feature records: what the explainer saw and what was scored."""
        return self._folder.read_features()

    @property
    def results(self) -> pandas.DataFrame:
        """A row per feature and explainer: status, explanation, scores, controls (NaN: undefined).

        In a run with dictionaries of several seeds also `stability`, the share of the other seeds in which the feature
        reappears; in a run that people rated also `human/rubric` and `human/intruder`.
        """
        import pandas

        from autointerp import stability_files
        from autointerp.exports.results_table import rows

        return pandas.DataFrame(rows(self._rated(), stability_files.read(self._folder.path)))

    def _rated(self) -> list[FeatureResult]:
        """Read the results; human scores are among their scores."""
        from autointerp import ratings
        from autointerp.reporting import human

        return human.joined(list(self._folder.results()), ratings.read(self._folder.path))

    def export(
        self,
        format: str,
        out: str | Path,
        dictionaries: Sequence[str] = (),
        explainers: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
    ) -> Sequence[str]:
        """Write the run in the format of another tool; return what that cannot hold, a line each.

        >>> run.export("features", "features.csv", dictionaries=["topk_2x"])
        []

        Args:
            format: a name that `autointerp export --help` lists.
            out: the file or folder to write, which must not exist yet.
            dictionaries: those to write; empty: all.
            explainers: those whose explanations and scores are written; empty: all.
            options: settings of the format.

        Raises UserError for an unknown name or setting, a run that is not finished, and what the format needs.
        """
        from autointerp import exports
        from autointerp.exports import content

        export = exports.make(format, options or {})
        exports.check(export, Path(out))
        return exports.write(export, content.read(self._folder, self._rated(), dictionaries, explainers), Path(out))

    def try_text(self, text: str, dictionaries: Sequence[str] = (), top: int = 5) -> Trial:
        """Return the features of the run that are active on a text, token by token (torch is imported here).

        >>> [token.text for token in run.try_text("import os").tokens]
        ['import', ' os']

        Args:
            text: any text; where it is longer than the run's context, it is cut into blocks of that length.
            dictionaries: those whose features are looked at; empty: the trained ones, or all if there is none.
            top: the strongest features of each token that are returned, and the strongest of the explained ones.

        Raises UserError if the run's model, dictionaries or corpus are gone or have changed.
        """
        from autointerp.runs.trying import Trier

        return Trier(self._folder).try_text(text, dictionaries, top)

    def leaderboard(self) -> pandas.DataFrame:
        """Return a row per dictionary, explainer and scorer. Raises UserError if the run is not finished."""
        import pandas

        return pandas.DataFrame(self._folder.read_leaderboard())

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.about['status']})"


def run(
    config: str | Path | Config = "demo",
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
    preset: str | None = None,
) -> Run:
    """Run an experiment, or continue it where it stopped.

    >>> run = autointerp.run("smoke", {"sampling.features": 2}, out="small", report=Silent)
    >>> run.leaderboard()[["dictionary", "scorer"]].iloc[0].tolist()
    ['topk_2x', 'simulation/population']
    >>> run.features[0].id.dictionary
    'topk_2x'

    Args:
        config: a name (`demo`), a path to a YAML file, or a Config.
        changes: dotted config names to new values: {"sampling.features": 20}.
        out: the run folder; by default runs/NAME-IDENTITY here.
        report: makes a progress display from a title; `sae.common.progress.Silent` shows nothing.
        preset: a published protocol, such as "bills": it overrides the config, and `changes` override it.

    Raises:
        sae.common.errors.UserError: a wrong path, name or setting, in one line.
    """
    from autointerp.runs import pipeline
    from sae.common.progress import Progress

    return Run(pipeline.run(_changed(config, changes, out, preset), report or Progress))


def estimate(
    config: str | Path | Config = "demo",
    changes: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
    preset: str | None = None,
) -> Estimate:
    """Estimate what a run would still ask of language models, without calls: `stages` hold calls, tokens and cost.

    Takes the arguments of `run` and raises what it raises. Records are drawn and kept: the run continues from them.

    >>> changes = {"explainers": ["openai/gpt-4o-mini"], "simulator": "openai/gpt-4o-mini", "sampling.features": 1}
    >>> estimator = autointerp.estimate("smoke", changes, out="dry", report=Silent)
    >>> [(stage.stage, stage.usage.cost_usd > 0) for stage in estimator.stages]
    [('explain', True), ('simulate', True)]
    """
    from autointerp.runs import pipeline
    from sae.common.progress import Progress

    return pipeline.estimate(_changed(config, changes, out, preset), report or Progress)


def check(config: str | Path | Config = "judged", changes: Mapping[str, Any] | None = None) -> list[Abilities]:
    """Ask each model of an API that a config names for a few single tokens, and say what it can do.

    Takes the config and the changes of `run`. Raises UserError if a model does not answer, in one line with the cause.
    """
    from autointerp.runs import pipeline

    return pipeline.abilities(_changed(config, changes, None))


@dataclass(frozen=True)
class Study:
    """Holds a finished study."""

    path: Path
    """Its folder."""
    report: dict[str, Any]
    """study.json: of each part its figures beside the published ones, or why there are none."""


def study(
    config: str | Path | Config = "demo",
    parts: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    features: int | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
) -> Study:
    """Repeat published experiments on a config's dictionary, or continue where they stopped.

    >>> done = autointerp.study("smoke", ["ablation"], features=2, out="study", report=Silent)
    >>> done.report["parts"]["ablation"]["figures"][0]["n"]
    2

    Args:
        config, changes, report: as `run` takes them.
        parts: names that `autointerp study --help` lists; empty: all.
        features: features of each dictionary; None: all, with a language model the config's number.
        out: the folder; by default runs/study-IDENTITY here.

    Raises UserError for an unknown part, a config without a trained dictionary, and what `run` raises.
    """
    import json

    from autointerp.runs import study as studying
    from sae.common.progress import Progress

    changed = _changed(config, changes, None)
    folder = studying.study(changed, parts, features, None if out is None else Path(out), report or Progress)
    return Study(folder, json.loads((folder / "study.json").read_text("utf-8")))


def _changed(
    config: str | Path | Config, changes: Mapping[str, Any] | None, out: str | Path | None, preset: str | None = None
) -> Config:
    """Load a config by name or path, with some settings changed. Raises UserError."""
    from autointerp import config as configs
    from autointerp import presets

    base = config if isinstance(config, configs.Config) else configs.load(str(config))
    settings = presets.under(preset, changes) | ({"runtime.out": str(out)} if out is not None else {})
    return configs.build(base.model_dump(), settings, "changes") if settings else base


def calibrate(
    out: str | Path,
    explainer: str = "rules-5",
    simulator: str = "rules",
    judge: str | None = None,
    seed: int = 0,
    quick: bool = False,
    max_cost: float | None = None,
    changes: Mapping[str, Any] | None = None,
    report: Report | None = None,
) -> Calibration:
    """Run the method on features whose truth is known, and write what each score is worth to the folder `out`.

    >>> calibration = autointerp.calibrate("calibration", quick=True, report=Silent)
    >>> [(mark.score, mark.reached) for mark in calibration.marks if mark.name == "planted token named"]
    [('explainer', True)]

    Args:
        explainer, simulator, judge: as `autointerp run` takes them; the judge is by default the simulator.
        quick: whether to plant a tenth of the features, in less text.
        max_cost: USD that may be spent; None: no limit.
        changes: further settings, such as {"simulation.format": "lines"}.
        report: makes a progress display from a title; `sae.common.progress.Silent` shows nothing.

    Raises:
        UserError: an unknown part, model or setting, a missing key, or the budget reached.
    """
    from autointerp.calibration import calibrate as calibrating
    from autointerp.calibration import report as reporting
    from sae.common.progress import Progress

    config = calibrating.config_for(explainer, simulator, judge, seed, max_cost, changes)
    size = calibrating.QUICK if quick else calibrating.FULL
    calibration = calibrating.calibrate(config, size, report or Progress)
    reporting.write(calibration, Path(out))
    return calibration


def answers() -> AnswerCache:
    """Open the cache of answers of language models."""
    from autointerp.llm.cache import AnswerCache
    from sae.common.settings import cache_folder

    return AnswerCache(cache_folder("autointerp"))


def open_run(path: str | Path) -> Run:
    """Open a run folder; damaged tables and pictures of a finished run are made again.

    Raises UserError if it is not one, one of another schema version, or one whose damaged files cannot be made again.

    >>> autointerp.open_run("run")
    Run('run', complete)
    """
    from autointerp.runs.opening import open_folder

    return Run(open_folder(path))
