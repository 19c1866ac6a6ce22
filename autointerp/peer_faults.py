"""Names faults of the published protocols' own code, each of which a run can switch on to measure what it does.

A run does right what a fault does wrong. `peer_faults: [NAME]` in a config switches one on: it is then in the run's
identity, and every table, picture and page of the run says so. What a fault changes stands where the right thing is
done, behind `NAME in config.peer_faults`; those of means are here, since results.jsonl keeps what really happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from autointerp.records import Control, FeatureResult

SPLIT_LEAK = "delphi-split-leak"
FUZZ_CUE = "delphi-fuzz-cue"
LITERAL_FAILURE = "delphi-literal-failure"
UNCHECKED_NEGATIVES = "saebench-unchecked-negatives"
PLAIN_ACCURACY = "saebench-plain-accuracy"
PCA_TRANSPOSED = "saebench-pca-transposed"
DROP_FAILURES = "drop-failures"
ZERO_FAILURES = "failures-as-zeros"
ZERO_NUMBERS = "missing-numbers-as-zeros"
ZERO_UNDEFINED = "undefined-as-zero"


@dataclass(frozen=True)
class PeerFault:
    """Describes a fault."""

    does: str
    """What is done wrong while it is on."""
    source: str
    """Where it was read: repository and file."""
    of_records: bool = False
    """Whether it changes the records."""


FAULTS: Mapping[str, PeerFault] = {
    SPLIT_LEAK: PeerFault(
        "explain and score records are drawn from the same list with the same seed, so that some windows are both",
        "EleutherAI/delphi, delphi/latents/samplers.py",
        of_records=True,
    ),
    FUZZ_CUE: PeerFault(
        "fuzzing marks silent texts at positions that are the same in all of them, as many as active texts have active "
        "tokens, while of these only the strongly active ones are marked",
        "EleutherAI/delphi, delphi/scorers/classifier/sample.py",
    ),
    LITERAL_FAILURE: PeerFault(
        "an explanation that is missing or cannot be read is scored as a text that says so",
        "EleutherAI/delphi, delphi/explainers/explainer.py",
    ),
    UNCHECKED_NEGATIVES: PeerFault(
        "random windows stand for those on which the feature is silent, in detection and fuzzing, whatever it does "
        "there",
        "adamkarvonen/SAEBench, sae_bench/evals/autointerp/main.py",
        of_records=True,
    ),
    PLAIN_ACCURACY: PeerFault(
        "the main score of detection is the share of right answers, without its chance level",
        "adamkarvonen/SAEBench, sae_bench/evals/autointerp/main.py",
    ),
    PCA_TRANSPOSED: PeerFault(
        "PCA's activations are products with the transposed components, which are no principal components",
        "adamkarvonen/SAEBench, sae_bench/custom_saes/pca_sae.py",
        of_records=True,
    ),
    DROP_FAILURES: PeerFault(
        "features whose explanation predicts nothing leave the means, as those with errors do",
        "adamkarvonen/SAEBench, sae_bench/evals/autointerp/main.py",
    ),
    ZERO_FAILURES: PeerFault(
        "a text of which the simulator's answer cannot be read is predicted as zeros, and scored",
        "EleutherAI/delphi, delphi/scorers/simulator/simulation/simulator.py",
    ),
    ZERO_NUMBERS: PeerFault(
        "a token without a number among its log-probabilities is predicted as zero, and scored",
        "openai/automated-interpretability, neuron_explainer/explanations/simulator.py",
    ),
    ZERO_UNDEFINED: PeerFault(
        "a score that does not exist, since the truth is constant, counts as 0 in the means",
        "EleutherAI/delphi, delphi/scorers/simulator/simulation/types.py",
    ),
}
"""Every fault that can be switched on, by its name."""
OF_MEANS = frozenset({DROP_FAILURES, ZERO_UNDEFINED})
"""Those that change no result, only which results a mean is over."""
COLUMN = "peer_faults"
"""The column that only leaderboard rows of a run with faults have."""
LITERAL = "Explanation could not be parsed."
"""What delphi-literal-failure takes for the explanation."""
T = TypeVar("T", Control, FeatureResult)


def require(name: str) -> str:
    """Return the name of a fault. Raises ValueError, with the names that exist, if there is none of that name."""
    if name not in FAULTS:
        raise ValueError(f"unknown fault {name!r}; there are {', '.join(FAULTS)}")
    return name


def loudly(faults: Iterable[str]) -> str:
    """Say that faults are switched on."""
    return f"WITH THE PEERS' FAULTS {', '.join(faults)}"


def switched_on(about: Mapping[str, Any]) -> list[str]:
    """Return the faults that are switched on in a run, from its run.json."""
    return list(about["config"].get("peer_faults", ()))


def of_records(faults: Iterable[str]) -> list[str]:
    """Return those that change the records, sorted."""
    return sorted(name for name in faults if FAULTS[name].of_records)


def for_means(results: Sequence[FeatureResult], faults: Iterable[str]) -> Sequence[FeatureResult]:
    """Return results as means see them: failures without a value (drop-failures), undefined scores as failed, hence 0.

    A failed score keeps its name in `failed`, so that it is counted as before.
    """
    on = OF_MEANS & set(faults)
    if not on:
        return results
    return [
        replace(_seen(result, on), controls={kind: _seen(control, on) for kind, control in result.controls.items()})
        for result in results
    ]


def _seen(one: T, on: frozenset[str]) -> T:
    scores, failed = dict(one.scores), tuple(one.failed)
    if ZERO_UNDEFINED in on:
        failed += tuple(name for name, value in scores.items() if value is None)
        scores |= dict.fromkeys(failed, 0.0)
    if DROP_FAILURES in on:
        scores |= dict.fromkeys(one.failed)
    return replace(one, scores=scores, failed=failed)
