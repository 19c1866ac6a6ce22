"""Specificity and sensitivity: against numpy on planted features, and rules against tokens marked by hand."""

import numpy as np
import pytest

from autointerp.population import PopulationText
from autointerp.studies.proxies import PARTS, Column, Labelled, measure_concepts
from autointerp.studies.specificity import _half
from autointerp.studies.text_rules import marked

M, L, V = 120, 20, 30


@pytest.fixture(scope="module")
def text() -> Labelled:
    """Tokens 0 to 4 are the concept."""
    ids_ML = np.random.default_rng(0).integers(0, V, (M, L)).astype(np.int32)
    rare = np.zeros((M, L), np.bool_)
    rare[0, 0] = True
    return Labelled(ids_ML, np.arange(M) % 2 == 0, {"low": ids_ML < 5, "rare": rare})


def column(index: int, acts_ML: np.ndarray) -> Column:
    position_A = np.flatnonzero(acts_ML).astype(np.int32)
    return Column(index, position_A, acts_ML.ravel()[position_A].astype(np.float32))


def features(text: Labelled) -> list[np.ndarray]:
    """A good one, one that is perfect on the measured half only, and noise."""
    rng, low = np.random.default_rng(1), text.concepts["low"]
    good = np.where(low, 1 + rng.random(low.shape), 0) * (rng.random(low.shape) < 0.8)
    good[(~low) & (rng.random(low.shape) < 0.02)] = 0.3
    later = np.where(text.searched_M[:, None], rng.random(low.shape) < 0.1, low)
    return [rng.random(low.shape) * (rng.random(low.shape) < 0.1), later * 1.0, good]


def test_the_best_feature_is_chosen_on_one_half_and_measured_on_the_other(text: Labelled) -> None:
    acts = features(text)
    neuron = np.where(text.ids_ML < 10, 1.0, 0.0)
    done = measure_concepts(text, [column(10 + row, one) for row, one in enumerate(acts)], [column(3, neuron)])
    assert (done["left_out"], done["blocks"]) == (["rare"], M // 2)
    (one,) = done["concepts"]
    assert (one["name"], one["feature"], one["neuron"]) == ("low", 12, 3)
    low, good = (values[~text.searched_M].ravel() for values in (text.concepts["low"], acts[2]))
    assert one["correlation"][0] == pytest.approx(np.corrcoef(low, good)[0, 1])
    other = np.corrcoef(low, neuron[~text.searched_M].ravel())[0, 1]
    assert one["above_neuron"][0] == pytest.approx(np.corrcoef(low, good)[0, 1] - other)
    assert one["sensitivity"][0] == pytest.approx((good[low] > 0).mean())
    assert one["specificity"][0] == pytest.approx(good[low].sum() / good.sum(), rel=1e-5)
    for key in ("correlation", "sensitivity", "specificity"):
        value, low_end, high_end = one[key]
        assert low_end < value < high_end
    assert abs(one["control"][0]) < 0.1


def test_the_log_likelihood_ratio_is_that_of_the_frequencies(text: Labelled) -> None:
    """Tokens of the concept are 1 in 6: strong activations stand on them alone, silence hardly ever."""
    (one,) = measure_concepts(text, [column(0, features(text)[2])], [])["concepts"]
    assert len(one["ratios"]) == len(one["counts"]) == PARTS + 1
    assert sum(one["counts"]) == text.ids_ML[~text.searched_M].size
    assert one["ratios"][PARTS] == pytest.approx(np.log(V / 5), abs=0.1)
    assert one["ratios"][0] < -3
    assert "neuron" not in one


def test_rules_mark_the_tokens_that_they_cover_by_half() -> None:
    tokens = [
        "\n",
        "   ",
        " def",
        " __",
        "init",
        "__",
        "(",
        "MAX_",
        "SIZE",
        "):",
        "  #",
        " five",
        "\n",
        "x",
        "=",
        " 0x",
        "1f",
    ]
    vocabulary = tuple(sorted(set(tokens)))
    ids_ML = np.array([[vocabulary.index(token) for token in tokens]], np.int32)
    masks = marked(PopulationText(vocabulary, ids_ML, np.zeros(1, np.int32)))
    shown = {name: [tokens[index] for index in np.flatnonzero(mask_ML[0])] for name, mask_ML in masks.items()}
    assert {name: listed for name, listed in shown.items() if listed} == {
        "dunder names": [" __", "init", "__"],
        "capitals": ["MAX_", "SIZE"],
        "indentation": ["   "],
        "comments": [" five"],
        "numbers": ["1f"],
        "hexadecimal": [" 0x", "1f"],
    }


def test_no_document_is_in_both_halves() -> None:
    document_M = np.repeat(np.arange(9), [1, 2, 3, 4, 5, 6, 7, 8, 9]).astype(np.int32)
    half_M = _half(PopulationText(("a",), np.zeros((len(document_M), 2), np.int32), document_M))
    assert not set(document_M[half_M]) & set(document_M[~half_M])
    assert 0.4 < half_M.mean() < 0.6
