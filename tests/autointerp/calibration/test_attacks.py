"""Wrong labels, texts written from explanations, purity: against what is counted by hand."""

import numpy as np
import pytest

from autointerp.calibration import attacks
from autointerp.calibration.attacks import Attacked, orderings, texts
from autointerp.calibration.catalogue import Catalogue
from autointerp.calibration.cells import correlation
from autointerp.calibration.concepts import Concept, single, unrelated
from autointerp.calibration.generation import generated
from autointerp.calibration.language import category_ids, generate, vocabulary
from autointerp.calibration.purity import matthews
from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_text
from autointerp.prompting.rules import Rule
from autointerp.records import AnswerError

TEXT = generate(120_000, 0)
CATALOGUE = Catalogue(TEXT, 0)
CARRIERS = generate(20_000, 0, "carriers")


@pytest.mark.parametrize("family", ["token", "set", "pair", "near", "mixture of 2", "mixture of 3", "mixture of 5"])
@pytest.mark.parametrize("density", [1e-3, 1e-2])
def test_concepts_have_the_density_that_is_asked_for_and_each_wrong_text_is_wrong(family: str, density: float) -> None:
    chosen = CATALOGUE.choose(family, density, 3)  # type: ignore[arg-type]
    assert len({concept.name for concept in chosen}) == len(chosen) >= 2
    for concept, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True):
        held = concept.holds(TEXT)
        assert density / 2 < held.mean() < density * 2
        written = texts(concept, other, CATALOGUE, 0)
        readable = {name: rules.from_text(text) for name, text in written.items() if name != attacks.THOUGHT}
        holds = {name: predict_text(rule_list, TEXT.population) > 0 for name, rule_list in readable.items()}
        assert np.array_equal(holds["truth"], held)
        assert np.array_equal(holds["paraphrase"], held)
        assert written["paraphrase"] != written["truth"]
        assert (holds["too broad"] >= held).all()
        assert holds["too broad"].mean() > 2 * held.mean()
        assert np.array_equal(holds["one added"], held | holds["shuffled"])
        for name in {"too narrow", "one missing"} & set(holds):
            assert (holds[name] <= held).all()
            assert 0 < holds[name].sum() < held.sum()
        assert ("one missing" in holds) == family.startswith("mixture")
        assert ("too narrow" in holds) == (family in ("token", "set", "near"))
        exact = {name: correlation(where, held) for name, where in holds.items()}
        assert all(exact["truth"] > value for name, value in exact.items() if name not in ("truth", "paraphrase"))
        with pytest.raises(AnswerError):
            rules.from_text(written[attacks.THOUGHT])


def test_orderings_are_counted() -> None:
    right = {"truth": 1.0, "shuffled": 0.0, "too broad": 0.4, "paraphrase": 0.99}
    wrong = {"truth": 0.5, "shuffled": 0.5, "too broad": 0.7, "paraphrase": 0.6, attacks.THOUGHT: 0.3}
    undefined = {"truth": None, "shuffled": 0.0, "too broad": 0.1, "paraphrase": None}
    attacked = [
        Attacked("set", "a", 0.01, 0.0, {"s": right}, {"s": (attacks.THOUGHT,)}),
        Attacked("set", "b", 0.01, 0.0, {"s": wrong}, {"s": ()}),
        Attacked("set", "c", 0.01, 0.0, {"s": undefined}, {"s": (attacks.THOUGHT,)}),
    ]
    counted = orderings(attacked, "s")
    assert (counted["truth > shuffled"].compared, counted["truth > shuffled"].tied) == (2, 1)
    assert (counted["truth > too broad"].wrong, counted["too broad > shuffled"].wrong) == (1, 0)
    assert counted["paraphrase = truth"].failure_rate == 0.5
    assert counted[f"{attacks.THOUGHT} is an error"].wrong == 1
    assert counted["all"].compared == 2 + 2 + 3 + 2 + 2
    assert counted["all"].failure_rate == pytest.approx(4 / 11)


def test_text_from_the_truth_fires_and_other_text_does_not() -> None:
    a, b = category_ids("team")[0], category_ids("play")[1]
    concepts = [
        Concept("token", "t", ((single("token", a),),)),
        Concept("pair", "p", ((single("pair", a, b),),)),
        Concept("near", "n", ((single("near", a),),)),
    ]
    for concept in concepts:
        made = generated(concept.rules, concept, CARRIERS, 0)
        assert (made.sensitivity, made.specificity) == (1.0, 1.0)
    token, pair, _ = concepts
    too_narrow = generated(pair.rules, token, CARRIERS, 0)
    assert too_narrow.sensitivity == 0, "the pair is written for its second token"
    assert too_narrow.specificity is not None
    assert too_narrow.specificity < 1, "the token also stands elsewhere"
    half = generated((single("token", a), single("token", b)), token, CARRIERS, 0)
    assert half.sensitivity is not None
    assert 0.25 < half.sensitivity < 0.75
    assert generated((Rule("token", ("nowhere",), 1.0),), token, CARRIERS, 0).sensitivity is None
    legal = Concept("domain", "d", domain="legal")
    assert generated(legal.rules, legal, CARRIERS, 0).sensitivity == 1


def test_purity_is_the_correlation_of_two_indicators() -> None:
    rng = np.random.default_rng(0)
    fires = rng.random((500, 3)) < 0.2
    holds = np.concatenate([fires[:, :1], rng.random((500, 2)) < 0.3, np.zeros((500, 1), bool)], axis=1)
    expected = np.corrcoef(np.concatenate([fires, holds[:, :3]], axis=1).T)[:3, 3:]
    assert matthews(fires, holds)[:, :3] == pytest.approx(expected, abs=1e-6)
    assert (matthews(fires, holds)[:, 3] == 0).all()


def test_an_unrelated_concept_shares_no_word() -> None:
    parts = [tuple(Rule("token", (word,), 1.0) for word in words) for words in ("ab", "bc", "c", "", "abc")]
    concepts = [Concept("set", str(number), (part,)) for number, part in enumerate(parts)]
    for seed in range(20):
        others = unrelated(concepts, np.random.default_rng(seed))
        assert all(j is not None and j != i and not concepts[i].words & concepts[j].words for i, j in enumerate(others))
        assert others[4] == 3
    assert unrelated(concepts[:1] * 2, np.random.default_rng(0)) == [None, None]


def test_no_word_of_the_vocabulary_is_the_unknown_token() -> None:
    assert all(token == "\n" or token.startswith(" ") for token in vocabulary())
