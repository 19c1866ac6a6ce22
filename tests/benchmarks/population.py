"""What the README says of the population score's error: bias, error and coverage of the estimate against k.

    autointerp run demo --out RUN
    python tests/benchmarks/population.py RUN [--draws 100] [--picture FILE]

The exact score of `rules-5` on every token stands beside estimates from k weighted records, drawn and computed by the
package's own functions. The rules that guide the draw and correct the estimate are others than those that are judged,
because a judge is not the rules that it is compared with: `half` learns five from every second explain record, as
another reader of the same feature would; `one` learns the first one alone, a poor guide. Features' intervals are
counted where they cover the exact score; the interval of a dictionary's mean over as many features, drawn anew 1,000
times with their records, where it covers the exact mean. Not a test: it asserts nothing.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.rules import learn
from autointerp.population import Floats as Floats32
from autointerp.population import Population
from autointerp.prompting.predict_text import predict_text
from autointerp.prompting.rules import Rule
from autointerp.records import ActivationRecord, FeatureRecord
from autointerp.sampling.weighted import draw, inclusion_probabilities, sizes
from autointerp.scorers.population import estimate, exact, sample_of
from autointerp.statistics.intervals import mean_interval
from autointerp.store import RunFolder

Floats = NDArray[np.float64]
Records = tuple[ActivationRecord, ...]
COUNTS = (5, 10, 20, 40, 80)
JUDGE_RULES = 5
GUIDES: dict[str, Callable[[Records], Sequence[Rule]]] = {
    "half": lambda records: learn(records[::2], 5),
    "one": lambda records: learn(records, 1),
}
PICTURED = "half"
REPEATS = 1000


@dataclass(frozen=True)
class Judged:
    """Holds one feature's population with what is judged and what guides, on every token, [M, L]."""

    population: Population
    judged_ML: Floats32
    control_ML: Floats32

    @staticmethod
    def of(feature: FeatureRecord, guide: str) -> "Judged":
        population = feature.population
        assert population is not None
        judged_ML = predict_text(learn(tuple(feature.explain), JUDGE_RULES), population.text)
        return Judged(population, judged_ML, predict_text(GUIDES[guide](feature.explain), population.text))


def draws_of(own: Judged, k: int, n: int, rng: np.random.Generator) -> Floats:
    """Draw k records n times: the estimates and both ends of their intervals, [n, 3]."""
    population, judged_ML, control_ML = own.population, own.judged_ML, own.control_ML
    probability_M, acts_ML = inclusion_probabilities(sizes(population, control_ML), k), population.acts_ML
    rows = []
    for _ in range(n):
        m = draw(probability_M, rng)
        sample = sample_of(acts_ML[m], judged_ML[m], control_ML[m], 1 / probability_M[m])  # type: ignore[arg-type]
        value, interval = estimate(population, sample, control_ML)
        number = value if isinstance(value, float) else 0.0
        rows.append((number, *(interval or (number, number))))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    features: dict[str, list[FeatureRecord]] = {}
    for feature in RunFolder(arguments.run).read_features():
        features.setdefault(feature.id.dictionary, []).append(feature)
    print("| dictionary | guide | k | exact | bias | rms error | feature's interval covers | mean's interval covers |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for name, guide in itertools.product(features, GUIDES):
        own = [Judged.of(feature, guide) for feature in features[name]]
        for k in COUNTS:
            row = measured(own, k, arguments.draws)
            if guide == PICTURED:
                lines.setdefault(name, []).append((k, row["bias"], row["error"]))
            cells = [f"{row['exact']:.3f}", f"{row['bias']:+.3f}", f"{row['error']:.3f}"]
            cells += [f"{row['covers']:.0%}", f"{row['mean covers']:.1%}"]
            print(f"| {name} | {guide} | {k} | {' | '.join(cells)} |", flush=True)
    if arguments.picture:
        draw_picture(lines, arguments.picture)


def measured(features: list[Judged], k: int, n: int) -> dict[str, float]:
    rng, truths, estimates = np.random.default_rng(k), [], []
    for own in features:
        truth = exact(own.population, own.judged_ML)
        truths.append(truth if isinstance(truth, float) else 0.0)
        estimates.append(draws_of(own, k, n, rng))
    exact_F, made_FN3 = np.array(truths), np.stack(estimates)
    error_FN = made_FN3[..., 0] - exact_F[:, None]
    covered_FN = (made_FN3[..., 1] <= exact_F[:, None]) & (exact_F[:, None] <= made_FN3[..., 2])
    return {
        "exact": float(exact_F.mean()),
        "bias": float(error_FN.mean()),
        "error": math.sqrt(float((error_FN**2).mean())),
        "covers": float(covered_FN.mean()),
        "mean covers": means_covered(made_FN3[..., 0], float(exact_F.mean()), rng),
    }


def means_covered(made_FN: Floats, truth: float, rng: np.random.Generator) -> float:
    covered = 0
    for _ in range(REPEATS):
        feature_S, draw_S = (rng.integers(size, size=len(made_FN)) for size in made_FN.shape)
        interval = mean_interval(made_FN[feature_S, draw_S].tolist(), (-1.0, 1.0))
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    return covered / REPEATS


def draw_picture(lines: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6))
    for panel, column, title in zip(figure.subplots(1, 2), (1, 2), ("bias", "root mean square error"), strict=True):
        for name, rows in lines.items():
            panel.plot([row[0] for row in rows], [row[column] for row in rows], "o-", label=name, markersize=3)
        panel.set(title=f"population score: {title}", xlabel="weighted records k", xscale="log")
        panel.set_xticks(COUNTS, [str(k) for k in COUNTS])
        panel.minorticks_off()
        panel.axhline(0, color="#cccccc", linewidth=0.8)
    panel.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
