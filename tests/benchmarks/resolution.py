"""Measures errors and savings of runs in rounds (`--until-resolved`) by simulation with a known answer.

`python tests/benchmarks/resolution.py RUN [PART ...]`, where RUN is a finished demo; parts: table, pair, null, margin,
leads, planted. The run's rules-5 stand for the judge, its rules-1 for the free scores. Features and documents are drawn
from the run's with replacement, as in `intervals.py`, so that each simulated run has its dependence, and the mean of
all features over all documents is the truth. A run is wrong if it separates two dictionaries with the wrong sign, or
calls equal what differs by the margin or more. The fixed design judges all features, has no free scores, and decides by
the same intervals, of one look. The first run of every line is decided by the package, too.

Shape suffixes: P features of the run, F features drawn, D documents.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from intervals import BOUNDS, OnText, true_mean
from resolution_engine import Asked, Drawn, Floats, agree, fast_resolve

from autointerp.evaluate import Method
from autointerp.records import FeatureResult
from autointerp.runs.opening import config_of
from autointerp.scorers.population import document_moments
from autointerp.statistics.comparisons import MARGIN
from autointerp.statistics.resolution import Design
from autointerp.store import RunFolder

JUDGE, FREE = "rules-5", "rules-1"
FIRST, FUTILITY, N_FREE, MOST = 8, 0.5, 400, 100
NOISE = 0.08
"""Standard deviation of the error of a population score that is estimated from ten excerpts."""
Draw = Callable[[int, np.random.Generator], dict[str, Drawn]]
"""Draws so many features of each dictionary."""


def moments_of(run: Path, explainer: str) -> dict[str, Floats]:
    """Sum up each feature's activations and predictions over each document, [P, 6, D], by dictionary."""
    folder = RunFolder(run)
    simulator = Method.of(config_of(folder)).scorers[0]._simulator  # type: ignore[attr-defined]
    features = {feature.id: feature for feature in folder.read_features()}
    made: dict[str, list[Floats]] = {}
    for result in folder.results():
        population = features[result.feature].population
        if result.explainer == explainer and population and result.explanation:
            predicted_ML = simulator.simulate_all(result.explanation, population.text)
            made.setdefault(result.feature.dictionary, []).append(document_moments(population, predicted_ML))
    return {name: np.array(each) for name, each in made.items()}


def demo(
    judged: Mapping[str, Floats], free: Mapping[str, Floats], noise: float = 0.0, shift: Sequence[float] = ()
) -> Draw:
    """Draw dictionaries whose features' moments by document these are."""

    def draw(n: int, rng: np.random.Generator) -> dict[str, Drawn]:
        n_documents = next(iter(judged.values())).shape[2]
        document_D = rng.integers(n_documents, size=n_documents)
        drawn = {}
        for number, name in enumerate(judged):
            feature_F = rng.integers(len(judged[name]), size=n)
            one, other = (OnText.of(each[name], document_D) for each in (judged, free))
            moved_F = noise * rng.standard_normal(n) + (shift[number] if shift else 0.0)
            drawn[name] = Drawn(
                number,
                one.known_P[feature_F],
                one.value_P[feature_F] + moved_F,
                other.value_P[feature_F],
                (one.value_P + one.correction_P)[feature_F] + moved_F,
                (other.value_P + other.correction_P)[feature_F],
                one.influence_PD[feature_F],
                other.influence_PD[feature_F],
            )
        return drawn

    return draw


def planted(means: Mapping[str, float], correlation: float, deviation: float = 0.2) -> Draw:
    """Draw dictionaries with independent Gaussian scores."""

    def draw(n: int, rng: np.random.Generator) -> dict[str, Drawn]:
        drawn, none = {}, np.zeros((n, 0))
        for number, (name, mean) in enumerate(means.items()):
            free_F, rest_F = rng.standard_normal((2, n))
            value_F = mean + deviation * (correlation * free_F + math.sqrt(1 - correlation**2) * rest_F)
            drawn[name] = Drawn(number, np.ones(n, np.bool_), value_F, free_F, value_F, free_F, none, none)
        return drawn

    return draw


def pairs_of(names: Sequence[str]) -> Asked:
    return {f"{a} - {b}": [(a, b)] for a, b in combinations(names, 2)}


def is_wrong(verdict: str, difference: float) -> bool:
    if verdict == "equal":
        return abs(difference) >= MARGIN - 1e-12
    return (verdict == "+" and difference <= 0) or (verdict == "-" and difference >= 0)


@dataclass(frozen=True)
class Way:
    """Holds how runs are decided."""

    first: int
    n_free: int
    futility: float


FIXED, NOW, BEFORE = Way(0, 0, 0.0), Way(FIRST, N_FREE, FUTILITY), Way(10, 0, 0.2)


def measure(
    label: str,
    draw: Draw,
    truth: Mapping[str, float],
    repeats: int,
    most: int = MOST,
    way: Way = NOW,
    fixed: bool = True,
) -> None:
    """Print a row: wrong runs, decided comparisons (in brackets those of the fixed design), judged features."""
    cells, asked = [], pairs_of(list(truth))
    true = {key: truth[pair[0][0]] - truth[pair[0][1]] for key, pair in asked.items()}
    for one in (way, FIXED) if fixed else (way,):
        rng = np.random.default_rng(0)
        design = Design(dict.fromkeys(truth, most), (), one.first or most, MARGIN, BOUNDS, one.futility)
        made = []
        for repeat in range(repeats):
            drawn = draw(max(most, one.n_free), rng)
            made.append(fast_resolve(design, drawn, asked, one.n_free))
            if repeat == 0:
                agree(design, drawn, one.n_free, *made[0])
        cells.append(summary(made, true))
    report(label, most, repeats, cells, most * len(truth))


def summary(made: Sequence[tuple[Mapping[str, str], int]], true: Mapping[str, float]) -> tuple[float, float, float]:
    """Return the share of wrong runs, the mean number of decided comparisons, and of features scored."""
    wrong = [any(is_wrong(verdict, true[key]) for key, verdict in verdicts.items()) for verdicts, _ in made]
    decided = [sum(verdict != "open" for verdict in verdicts.values()) for verdicts, _ in made]
    return float(np.mean(wrong)), float(np.mean(decided)), float(np.mean([n for _, n in made]))


def report(label: str, most: int, repeats: int, cells: Sequence[tuple[float, float, float]], whole: int) -> None:
    wrong, decided, n = cells[0]
    beside = "".join(f" ({cell[1]:.1f})" for cell in cells[1:])
    share = f"{n:,.0f} of {whole:,}: {n / whole:.2f}"
    print(f"| {label} | {most} | {repeats} | {wrong:.1%} | {decided:.1f}{beside} | {share} |", flush=True)


def leads(folder: Path, least: float, repeats: int) -> None:
    """Print a row for leads of all dictionaries, moved so that each least mean over kinds of controls is `least`.

    Features alone are drawn, because leads' intervals are over features only. The free leads are the free scores.
    """
    values = lead_values(folder)
    asked = {name: [(f"{name} over {kind}",) for kind in one] for name, one in values.items()}
    design = Design(dict.fromkeys(values, MOST), list(next(iter(values.values()))), FIRST, MARGIN, BOUNDS, FUTILITY)
    rng, made = np.random.default_rng(0), []
    for _ in range(repeats):
        drawn = {}
        for number, (name, one) in enumerate(values.items()):
            offset = least - min(float(own_P.mean()) for own_P, _ in one.values())
            feature_F, none = rng.integers(len(next(iter(one.values()))[0]), size=N_FREE), np.zeros((N_FREE, 0))
            for kind, (own_P, free_P) in one.items():
                pair = own_P[feature_F] + offset, free_P[feature_F]
                drawn[f"{name} over {kind}"] = Drawn(number, np.ones(N_FREE, np.bool_), *pair, *pair, none, none, kind)
        verdicts, n = fast_resolve(design, drawn, asked, N_FREE)
        made.append((verdicts, n // len(design.controls)))
    cell = summary(made, dict.fromkeys(values, least))
    report(f"leads of {least:g}", MOST, repeats, [cell], MOST * len(values))


def lead_values(folder: Path) -> dict[str, dict[str, tuple[Floats, Floats]]]:
    """Read the judge's leads over each kind of control, and the free scores, by dictionary."""
    results: dict[tuple[str, str], list[FeatureResult]] = {}
    for result in RunFolder(folder).results():
        results.setdefault((result.feature.dictionary, result.explainer), []).append(result)
    score, values = next(iter(next(iter(results.values()))[0].scores)), {}
    for (name, explainer), group in results.items():
        if explainer == JUDGE:
            own_P, free_P = (np.array([one.scores[score] for one in r], float) for r in (group, results[name, FREE]))
            controls = {
                kind: np.array([one.controls[kind].scores[score] for one in group], float) for kind in group[0].controls
            }
            values[name] = {kind: (own_P - control_P, free_P) for kind, control_P in controls.items()}
    return values


def main(folder: Path, parts: list[str]) -> None:
    judged, free = moments_of(folder, JUDGE), moments_of(folder, FREE)
    truth = {name: true_mean(one) for name, one in judged.items()}
    print("| runs | features each | simulated | wrong | comparisons decided | features judged |")
    print("|---|---|---|---|---|---|", flush=True)
    names = list(judged)
    if "pair" in parts:
        two = [{name: each[name] for name in (names[0], "pca")} for each in (judged, free)]
        measure("sparse against PCA", demo(*two), {name: truth[name] for name in two[0]}, 500)
    if "table" in parts:
        measure("the demo's table", demo(judged, free), truth, 500)
        measure("the same, no free scores, futility 0.2 (before)", demo(judged, free), truth, 200, way=BEFORE)
        measure("the same, no free scores", demo(judged, free), truth, 200, way=Way(FIRST, 0, FUTILITY))
        for futility in (0.0, 0.2, 0.3, 0.4):
            measure(
                f"the same, futility {futility:g}", demo(judged, free), truth, 200, way=Way(FIRST, N_FREE, futility)
            )
        measure("the same, 100 free features", demo(judged, free), truth, 200, way=Way(FIRST, 100, FUTILITY))
        measure(f"the same, judge with noise {NOISE:g}", demo(judged, free, NOISE), truth, 200)
    if "null" in parts:
        for source in ("pca", names[0], "neurons"):
            six = [{str(index): each[source] for index in range(6)} for each in (judged, free)]
            zero = dict.fromkeys(six[0], 0.0)
            measure(f"six from {source}", demo(*six), zero, 500, fixed=False)
            measure(f"six from {source}, judge with noise {NOISE:g}", demo(*six, NOISE), zero, 500, fixed=False)
            measure(f"six from {source}, no free scores", demo(*six), zero, 500, way=BEFORE, fixed=False)
        two = [{str(index): each["pca"] for index in range(2)} for each in (judged, free)]
        measure("two from pca", demo(*two), dict.fromkeys(two[0], 0.0), 500, fixed=False)
    if "margin" in parts:
        two = [{str(index): each["pca"] for index in range(2)} for each in (judged, free)]
        apart = demo(*two, shift=(MARGIN, 0.0))
        measure(f"two from pca, {MARGIN} apart", apart, {"0": MARGIN, "1": 0.0}, 500, fixed=False)
    if "leads" in parts:
        for least in (0.0, MARGIN):
            leads(folder, least, 500)
    if "planted" in parts:
        means = {"a": 0.4, "b": 0.25, "c": 0.06, "d": 0.2, "e": 0.2, "f": 0.2}
        equal = dict.fromkeys(means, 0.2)
        for r in (0.5, 0.8, 0.95):
            measure(f"planted, means as the demo's, correlation {r:g}", planted(means, r), means, 200)
            measure(f"planted, all equal, correlation {r:g}", planted(equal, r), equal, 500, fixed=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ["table", "pair", "null", "margin", "leads", "planted"])
