"""The streamed selection against a brute-force one; splits; records against the model's own activations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from autointerp.config import Config, build
from autointerp.records import HISTOGRAM_FLOOR, ActivationRecord, FeatureId, Source
from autointerp.sampling import fragments, priorities, select, tally
from autointerp.sampling.engines.local import LocalEngine
from autointerp.sampling.output_tokens import Vocabulary
from autointerp.sections import Records
from autointerp.store import RunFolder
from sae.dictionary import Dictionary

N_FRAGMENTS, LENGTH, FEATURES = 400, 4, 7
COUNTS: dict[str, int] = {"top": 5, "quantile": 6, "importance": 4, "random": 5, "inactive": 3}


def activations() -> torch.Tensor:
    """[fragments, length, features]: sparse, with many exact ties, one feature rare and one dead."""
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(N_FRAGMENTS, LENGTH, FEATURES, generator=generator) * 20).round() / 4
    values *= torch.rand(N_FRAGMENTS, LENGTH, FEATURES, generator=generator) < 0.1
    values[3:, :, 5] = 0
    values[:, :, 6] = 0
    return values


SIDE = torch.randint(0, 2, (N_FRAGMENTS,), generator=torch.Generator().manual_seed(1))
HASH = priorities.fragment_hash(3, torch.arange(N_FRAGMENTS) // 9, torch.arange(N_FRAGMENTS) % 9 * LENGTH)
RANK = HASH.argsort().argsort()
FRAGMENTS = fragments.Fragments(LENGTH, 1, torch.ones(N_FRAGMENTS).bool(), SIDE, SIDE, HASH, RANK)
FEATURE = torch.tensor([0, 1, 2, 3, 4, 5, 90])


def config() -> Config:
    return build({"sampling": {"explain": COUNTS, "score": COUNTS, "fragment": LENGTH}}, {}, "test")


def streamed(batches: list[torch.Tensor]) -> tally.Tallied:
    """Run the tally over the fragments in these batches."""
    made = tally.Tally(FEATURE.numpy(), config(), "cpu")
    values = activations()
    for rows in batches:
        made.add(values[rows], rows, FRAGMENTS)
    return made.tallied()


@cache
def brute_force(side: int, row: int) -> list[tuple[int, Source]]:
    """Everything in memory, plain sorting, straight from the definitions."""
    maxima = activations().amax(1)[:, row].tolist()
    numbers = [f for f in range(N_FRAGMENTS) if int(SIDE[f]) == side]
    salts = {source: salt for salt, source in enumerate(priorities.KEYS)}

    def chance(f: int, source: Source) -> float:
        return float(priorities.uniform(HASH[f : f + 1], FEATURE[row : row + 1], salts[source]))

    taken: list[tuple[int, Source]] = []

    def best(pool: list[int], key: dict[int, float], n: int) -> list[int]:
        return sorted(pool, key=lambda f: (-key[f], int(RANK[f])))[:n]

    active = [f for f in numbers if maxima[f] > 0]
    ranked = best(active, {f: maxima[f] for f in active}, 2 * COUNTS["top"])
    taken += [(f, "top") for f in ranked[side::2]]
    size = tally.kept_per_source(config().sampling.explain)["quantile"]
    reservoir = best(active, {f: chance(f, "quantile") for f in active}, size)
    rest = sorted((f for f in reservoir if f not in dict(taken)), key=lambda f: (maxima[f], f))
    if len(rest) >= COUNTS["quantile"]:
        taken += [(rest[int((i + 0.5) * len(rest) / 6)], "quantile") for i in range(6)]
    weights = {f: np.float32(maxima[f] ** 2 / max(1e-9, -np.log(np.float64(chance(f, "importance"))))) for f in active}
    taken += [(f, "importance") for f in best([f for f in active if f not in dict(taken)], weights, 4)]
    everything = {f: chance(f, "random") for f in numbers}
    taken += [(f, "random") for f in best([f for f in numbers if f not in dict(taken)], everything, 5)]
    silent = {f: chance(f, "inactive") for f in numbers if maxima[f] == 0}
    taken += [(f, "inactive") for f in best([f for f in silent if f not in dict(taken)], silent, 3)]
    return taken


ORDERS = {
    "at once": [torch.arange(N_FRAGMENTS)],
    "one by one": list(torch.arange(N_FRAGMENTS).split(1)),
    "uneven": list(torch.arange(N_FRAGMENTS).split(37)),
    "backwards": list(reversed(torch.arange(N_FRAGMENTS).split(50))),
    "shuffled": list(torch.randperm(N_FRAGMENTS, generator=torch.Generator().manual_seed(5)).split(64)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_streaming_equals_brute_force(order: str) -> None:
    seen = streamed(ORDERS[order])
    for side in range(2):
        for row in range(FEATURES):
            picked = tally.pick(seen, row, side, getattr(config().sampling, fragments.SIDES[side]))
            assert list(zip(picked.fragment_P, picked.sources, strict=True)) == brute_force(side, row), (side, row)
            assert np.array_equal(picked.values_PL, activations()[picked.fragment_P, :, row])
            assert np.array_equal(picked.start_P, picked.fragment_P * LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize(("entries", "fragments_seen"), [(1, 1), (50, 9999), (9999, 30)])
def test_streaming_equals_brute_force_whenever_it_merges(
    entries: int, fragments_seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priorities, "WAITING_ENTRIES", entries)
    monkeypatch.setattr(priorities, "WAITING_FRAGMENTS", fragments_seen)
    test_streaming_equals_brute_force("uneven")


def test_statistics_equal_brute_force() -> None:
    seen, values = streamed(ORDERS["uneven"]), activations()
    assert np.array_equal(seen.active_tokens_S, (values > 0).sum((0, 1)))
    assert np.array_equal(seen.max_S, values.amax((0, 1)))
    assert seen.n_tokens == N_FRAGMENTS * LENGTH
    maxima = values.amax(1)
    for row in range(FEATURES):
        expected = [0] * 64
        for value in maxima[:, row][maxima[:, row] > 0].tolist():
            expected[int(np.floor(2 * np.log2(value / HISTOGRAM_FLOOR)))] += 1
        assert seen.histogram_SH[row].tolist() == expected


def test_sides_take_alternate_ranks_of_the_top() -> None:
    """Explain gets ranks 0, 2, 4, ...; score 1, 3, 5, ... of its own half."""
    seen = streamed(ORDERS["at once"])
    for side, offset in ((0, 0), (1, 1)):
        ranked = seen.tops[side, "top"].kept(0).fragment_K.tolist()[:10]
        picks = tally.pick(seen, 0, side, config().sampling.explain)
        assert picks.fragment_P[: COUNTS["top"]].tolist() == ranked[offset::2]
        assert picks.sources.count("top") == COUNTS["top"]


@pytest.mark.parametrize("stride", [1, 3])
def test_every_so_manieth_of_the_top_is_taken(stride: int) -> None:
    """Feature 0 is active on far more than the fragments that are needed, with many equal maxima."""
    records = Records(top=5, top_stride=stride)
    sides = {"explain": records.model_dump(), "score": records.model_dump()}
    made = tally.Tally(FEATURE.numpy(), build({"sampling": sides | {"fragment": LENGTH}}, {}, "test"), "cpu")
    made.add(activations(), torch.arange(N_FRAGMENTS), FRAGMENTS)
    seen = made.tallied()
    maxima = activations().amax(1)[:, 0].tolist()
    for side in range(2):
        mine = [f for f in range(N_FRAGMENTS) if int(SIDE[f]) == side]
        ranked = sorted(mine, key=lambda f: (-maxima[f], int(RANK[f])))[: 5 * stride]
        assert tally.pick(seen, 0, side, records).fragment_P.tolist() == ranked[side * stride // 2 :: stride]
    assert tally.active_needed(records) == 5 * stride


def test_uniform_is_uniform_and_independent_between_features_and_salts() -> None:
    from scipy import stats

    hashes = priorities.fragment_hash(0, torch.arange(20_000) // 50, torch.arange(20_000) % 50)
    drawn = priorities.uniform(hashes, torch.tensor([0, 1, 2]), 0)
    other = priorities.uniform(hashes, torch.tensor([0, 1, 2]), 1)
    assert float(drawn.min()) > 0
    assert float(drawn.max()) <= 1
    for row in range(3):
        assert stats.kstest(drawn[row].double().numpy(), "uniform").pvalue > 1e-3
    pairs = torch.corrcoef(torch.cat([drawn, other])).fill_diagonal_(0)
    assert float(pairs.abs().max()) < 0.03


def test_importance_picks_in_proportion_to_the_square() -> None:
    hashes = priorities.mix(torch.arange(39_999))
    maxima = torch.tensor([1.0, 2.0, 3.0])
    u = priorities.uniform(hashes, torch.tensor([0]), 2)[0].view(-1, 3)
    experiment = priorities.key_importance(maxima.expand(len(u), 3), u).argmax(1)
    wins = np.bincount(experiment.numpy(), minlength=3) / len(experiment)
    assert wins == pytest.approx([1 / 14, 4 / 14, 9 / 14], abs=0.015)


class _CountingSubject:
    """A stand-in subject whose activations at a token are a fixed function of its id."""

    device = "cpu"
    name = "counting"

    def __init__(self) -> None:
        self.blocks_read = 0

    def activations_at(self, ids_NC: torch.Tensor, hook_points: Sequence[str]) -> dict[str, torch.Tensor]:
        self.blocks_read += len(ids_NC)
        values = torch.stack([(ids_NC == v).float() * (v + 1) for v in range(6)], -1)
        return dict.fromkeys(hook_points, values)

    def token_strings(self) -> list[str]:
        return ["a", "b", "c", "d", "e", "�"]

    def logits_of(self, hook_point: str, directions_FD: torch.Tensor) -> torch.Tensor:
        """Dimension v promotes token v + 1, and all later ones less and less."""
        decay_DV = torch.tensor([[0.5 ** (t - v - 1) if t > v else 0.0 for t in range(6)] for v in range(6)])
        return directions_FD @ decay_DV


def prepared(n_documents: int, seed: int = 0) -> Any:
    from sae.data.blocks import to_blocks

    rng = np.random.default_rng(seed)
    ids = [rng.choice(5, int(rng.integers(6, 60)), p=[0.1, 0.3, 0.3, 0.2, 0.1]).tolist() for _ in range(n_documents)]
    ids[0][3] = 5  # undecodable
    eye = torch.eye(6)
    dictionary = Dictionary("eye", "neurons", eye, torch.zeros(6), eye, torch.zeros(6), reads=("h",), writes=("h",))
    metrics = {"l0": 1.0, "fvu": 0.0, "dead": 0.0, "ce_recovered": 1.0}
    measured = (SimpleNamespace(dictionary=dictionary, metrics=metrics, key="eye"),)
    return SimpleNamespace(subject=_CountingSubject(), text=to_blocks(ids, 16), dictionaries=measured, facts={})


def sample_all(batch: int, n_documents: int = 120, **changes: object) -> Any:
    from autointerp.sampling.build import build as build_records
    from sae.common.progress import Silent

    settings = {"sampling.fragment": 8, "runtime.batch_blocks": batch, "sampling.features": 6}
    counts = {"top": 3, "quantile": 2, "random": 3, "inactive": 2}
    experiment = build({"sampling": {"explain": counts, "score": counts}}, settings | changes, "test")
    ready = prepared(n_documents)
    return build_records(ready, select.select(ready, experiment, LocalEngine(), Silent), experiment), ready


@pytest.mark.parametrize("batch", [1, 64])
def test_centred_records_have_their_peak_in_the_middle(batch: int) -> None:
    """The counting subject gives token v the activation v + 1 in feature v, so each record's tokens are the truth.

    Blocks are two fragments of 8 tokens; a record may move into the other one if that is whole and decodable.
    """
    plain, ready = sample_all(batch)
    centred, _ = sample_all(batch, **{"sampling.centred": True})
    strings = ready.subject.token_strings()
    blocks = [
        (document, "".join(strings[index] for index in row), length)
        for row, document, length in zip(ready.text.ids_NC, ready.text.document_N, ready.text.length_N, strict=True)
    ]

    def windows(record: ActivationRecord, shift: int) -> set[str]:
        found = set()
        for document, block, length in blocks:
            usable = [end <= length and "�" not in block[end - 8 : end] for end in (8, 16)]
            for half in (0, 1):
                if document == record.document and block[8 * half : 8 * half + 8] == "".join(record.tokens):
                    low, high = sorted((8 * half, 8 * (1 - half) if usable[1 - half] else 8 * half))
                    start = min(max(8 * half + shift, low), high)
                    found.add(block[start : start + 8])
        return found

    moved = 0
    for old, new in zip(plain.features, centred.features, strict=True):
        letter = "abcde"[new.id.index]
        for before, after in zip((*old.explain, *old.score), (*new.explain, *new.score), strict=True):
            assert after.activations == tuple((new.id.index + 1.0) * (token == letter) for token in after.tokens)
            assert (after.document, after.source) == (before.document, before.source)
            if before.source in ("top", "quantile"):
                assert "".join(after.tokens) in windows(before, before.tokens.index(letter) - 4)
                moved += after.tokens != before.tokens
            else:
                assert after == before
    assert moved > 10


def test_the_population_holds_every_activation_of_the_score_half() -> None:
    sample, _ = sample_all(batch=7)
    for feature in sample.features:
        text = feature.population.text
        letter_id = text.vocabulary.index("abcde"[feature.id.index])
        assert np.array_equal(feature.population.acts_ML, (text.ids_ML == letter_id) * (feature.id.index + 1.0))
        assert {record.document for record in feature.score} <= set(text.document_M.tolist())


def test_promoted_tokens_are_those_the_decoder_direction_raises_most() -> None:
    sample, _ = sample_all(4)
    assert {feature.id.index: feature.promoted[:2] for feature in sample.features}[1] == ("c", "d")
    assert {len(feature.promoted) for feature in sample.features} == {5}, "all but the one that cannot be shown"
    assert {feature.unpromoted for feature in sample.features} == {()}, "no other token is left"


def test_unpromoted_tokens_are_a_seeded_uniform_draw_from_the_rest() -> None:
    tokens = ["�", "", " t1", *(f" t{number}" for number in range(30))]
    promoted = tuple(f" t{number}" for number in range(5))
    drawn = [Vocabulary(tokens, 0).others(promoted, FeatureId("d", index)) for index in range(400)]
    assert drawn[3] == Vocabulary(tokens, 0).others(promoted, FeatureId("d", 3))
    assert drawn[3] != Vocabulary(tokens, 1).others(promoted, FeatureId("d", 3))
    assert {len(set(others)) for others in drawn} == {5}
    counts = Counter(token for others in drawn for token in others)
    assert set(counts) == {f" t{number}" for number in range(5, 30)}
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_records_are_true_disjoint_and_verified() -> None:
    sample, _ready = sample_all(batch=7)
    assert {f.id.index for f in sample.features} == {0, 1, 2, 3, 4}
    for feature in sample.features:
        token = "abcde"[feature.id.index]
        explain, score = ({r.document for r in side} for side in (feature.explain, feature.score))
        assert explain
        assert score
        assert not explain & score
        for record in (*feature.explain, *feature.score):
            expected = tuple(float(feature.id.index + 1) if t == token else 0.0 for t in record.tokens)
            assert record.activations == expected
            assert "�" not in record.tokens
            if record.source == "inactive":
                assert max(record.activations) == 0
        for side in (feature.explain, feature.score):
            assert [r.source for r in side].count("top") == 3
            assert [r.source for r in side].count("random") == 3
    summary = sample.dictionaries[0]
    assert (summary.n_sampled, summary.n_candidates, summary.n_dead, summary.n_rare) == (5, 6, 1, 0)
    density = {f.id.index: f.density for f in sample.features}
    assert density[1] == pytest.approx(0.3, abs=0.03)


def test_sampling_does_not_depend_on_batch_size() -> None:
    reference, _ = sample_all(batch=1000)
    for batch in (1, 5):
        assert sample_all(batch=batch)[0].features == reference.features


def test_random_records_can_be_drawn_among_active_fragments_only() -> None:
    counts = {"top": 3, "random": 5}
    everywhere, _ = sample_all(50, **{"sampling.score": counts})
    active, _ = sample_all(50, **{"sampling.score": counts | {"random_active": True}})
    tops, randoms = 0, []
    for old, new in zip(everywhere.features, active.features, strict=True):
        assert new.explain == old.explain
        assert [r.source for r in new.score] == ["top"] * 3 + ["random"] * 5
        assert len({(r.document, r.tokens) for r in new.score}) > 3
        assert new.score[:3] == old.score[:3]
        assert min(max(record.activations) for record in new.score) > 0
        tops += sum(max(record.activations) for record in new.score[:3])
        randoms += [max(record.activations) for record in old.score[3:]]
    assert min(randoms) == 0
    assert tally.active_needed(Records(**counts, random_active=True)) == 2 * 3 + 5


def test_a_side_may_have_weighted_records_only() -> None:
    sample, _ = sample_all(50, **{"sampling.score": {"weighted": 4}})
    assert [f.id.index for f in sample.features] == [0, 1, 2, 3, 4]
    assert all(len(f.explain) > 0 and {r.source for r in f.score} == {"weighted"} for f in sample.features)


def test_the_first_features_are_taken_and_not_replaced() -> None:
    """Feature 5 is dead; with 4 asked for, 0 to 3 are taken, and 4 and 5 are not looked at."""
    first, _ = sample_all(50, **{"sampling.draw": "first", "sampling.features": 4})
    assert [f.id.index for f in first.features] == [0, 1, 2, 3]
    assert first.dictionaries[0].n_candidates == 4
    listed = {"": [5, 4, 2]}
    dead, _ = sample_all(50, **{"sampling.draw": "first", "sampling.features": 2, "sampling.feature_ids": listed})
    assert [f.id.index for f in dead.features] == [2, 4]
    last, _ = sample_all(50, **{"sampling.draw": "first", "sampling.feature_ids": {"": [4, 5]}})
    assert [f.id.index for f in last.features] == [4]
    assert (last.dictionaries[0].n_candidates, last.dictionaries[0].n_dead) == (2, 1)


def test_features_that_are_active_on_too_few_fragments_are_rare() -> None:
    """The letters' fragments are counted in the text itself, whole and decodable ones only."""
    _, ready = sample_all(50)
    strings = ready.subject.token_strings()
    texts = [
        "".join(strings[index] for index in row[start : start + 8])
        for row, length in zip(ready.text.ids_NC, ready.text.length_N, strict=True)
        for start in (0, 8)
        if start + 8 <= length
    ]
    counts = [sum(letter in text for text in texts if "�" not in text) for letter in "abcde"]
    limit = sorted(counts)[2]
    for least in (limit, limit + 1):
        sample, _ = sample_all(50, **{"sampling.min_active": least})
        assert [f.id.index for f in sample.features] == [i for i, count in enumerate(counts) if count >= least]
        assert sample.dictionaries[0].n_rare == sum(count < least for count in counts)


@pytest.mark.parametrize("most", [60, 110, 200])
def test_fragments_are_of_as_many_documents_as_possible(most: int) -> None:
    ready = prepared(120)
    everything, some = (
        fragments.make_fragments(ready, build({"sampling": {"fragment": 8, "most_fragments": n}}, {}, "test"))
        for n in (None, most)
    )
    assert not bool((some.usable_M & ~everything.usable_M).any())
    assert int(some.usable_M.sum()) == most
    whole, used = (Counter(one.document_M[one.usable_M].tolist()) for one in (everything, some))
    turns = max(used.values())  # whoever has fewer than the most has none left
    assert all(n >= min(turns - 1, whole[document]) for document, n in used.items())
    if most < len(whole):
        assert turns == 1
    else:
        assert set(used) == set(whole)
    for document, n in used.items():
        mine = (everything.usable_M & (everything.document_M == document)).nonzero().flatten()
        first = mine[everything.rank_M[mine].argsort()[:n]].tolist()
        assert sorted(first) == (some.usable_M & (some.document_M == document)).nonzero().flatten().tolist()


def test_other_seed_other_records() -> None:
    assert sample_all(50)[0].features != sample_all(50, seed=1)[0].features


def test_too_little_text_is_told() -> None:
    from sae.common.errors import UserError

    with pytest.raises(UserError, match="activates no feature often enough"):
        sample_all(batch=8, n_documents=3)


def test_enough_live_features_are_found_behind_many_dead_ones() -> None:
    """5 live features of 200: far more than the first pass follows must be looked at until all are found."""
    from autointerp.sampling.build import build as build_records
    from sae.common.progress import Silent

    ready = prepared(120)
    wide = torch.zeros(6, 200)
    live = [3, 50, 99, 150, 199]
    for position, column in enumerate(live):
        wide[position, column] = 1.0
    hooks = {"reads": ("h",), "writes": ("h",)}
    zeros = torch.zeros(200), torch.zeros(6)
    ready.dictionaries[0].dictionary = Dictionary("wide", "sae", wide, zeros[0], wide.T, zeros[1], **hooks)
    counts = {"top": 3, "random": 3}
    experiment = build({"sampling": {"explain": counts, "score": counts, "features": 5, "fragment": 8}}, {}, "test")
    sample = build_records(ready, select.select(ready, experiment, LocalEngine(), Silent), experiment)
    assert [f.id.index for f in sample.features] == live
    summary = sample.dictionaries[0]
    assert summary.n_dead == summary.n_candidates - 5
    assert summary.n_candidates > 2 * select.OVERSAMPLE * 5


def test_memory_does_not_grow_with_the_text() -> None:
    short, long = streamed([torch.arange(10)]), streamed(ORDERS["uneven"])
    for position in short.tops:
        assert short.tops[position].values_SKL.shape == long.tops[position].values_SKL.shape


def wide_dictionary(n: int) -> Dictionary:
    """Features of all rarities: each is active where a sum of some of the six tokens is above a threshold."""
    generator = torch.Generator().manual_seed(2)
    w_DF = torch.randn(6, n, generator=generator) * (torch.rand(6, n, generator=generator) < 0.2)
    b_F = -3 * torch.rand(n, generator=generator)
    return Dictionary("wide", "sae", w_DF, b_F, w_DF.T.contiguous(), torch.zeros(6), reads=("h",), writes=("h",))


def many_passes(ready: Any, dictionary: Dictionary, experiment: Config) -> tuple[list[int], int, int, int]:
    """The rule straight from its words: look at one feature after the other, each in a pass of its own."""
    cut = fragments.make_fragments(ready, experiment)
    ids_ML = torch.from_numpy(ready.text.ids_NC).long().reshape(-1, 8)
    values = torch.stack([(ids_ML == v).float() * (v + 1) for v in range(6)], -1)
    taken, looked, dead, rare = [], 0, 0, 0
    for index in select._order(ready.dictionaries[0], experiment, True).tolist():
        if len(taken) == experiment.sampling.features:
            break
        looked += 1
        active_M = dictionary.encode(values.flatten(0, 1))[:, index].reshape(-1, 8).amax(1) > 0
        sides = [int((active_M & cut.usable_M & (cut.side_M == side)).sum()) for side in (0, 1)]
        if sides[0] >= 8 and sides[1] >= 4:  # twice the top records, and the quantile ones
            taken.append(index)
        elif sum(sides):
            rare += 1
        else:
            dead += 1
    return sorted(taken), looked, dead, rare


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [3, 12, 60, 500])
def test_two_passes_select_what_many_passes_would(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting all features first, following all the others, and following all at once give the same records."""
    from autointerp.sampling.build import build as build_records
    from sae.common.progress import Silent

    sides = {"explain": {"top": 3, "quantile": 2, "random": 2}, "score": {"top": 2, "inactive": 2}}
    experiment = build({"sampling": {"features": wanted, "fragment": 8, "population": 200, **sides}}, {}, "test")
    ready = prepared(120)
    dictionary = wide_dictionary(300)
    ready.dictionaries[0].dictionary = dictionary
    expected = many_passes(ready, dictionary, experiment)
    samples = []
    for followed, oversample in ((0, 2), (10**9, 2), (0, 300)):
        monkeypatch.setattr(select, "FOLLOWED", followed)
        monkeypatch.setattr(select, "OVERSAMPLE", oversample)
        ready.subject.blocks_read = 0
        samples.append(build_records(ready, select.select(ready, experiment, LocalEngine(), Silent), experiment))
        assert ready.subject.blocks_read <= 2 * len(ready.text.ids_NC)
        summary = samples[-1].dictionaries[0]
        counts = (summary.n_candidates, summary.n_dead, summary.n_rare)
        assert ([one.id.index for one in samples[-1].features], *counts) == expected
    assert samples[0].features == samples[1].features == samples[2].features
    for one, other in zip(samples[0].features, samples[2].features, strict=True):
        assert np.array_equal(one.population.acts_ML, other.population.acts_ML)


def test_records_in_arrays_are_written_as_if_they_were_spelt_out(tmp_path: Path) -> None:
    sample, _ = sample_all(batch=7)
    spelt_out = [replace(one, explain=tuple(one.explain), score=tuple(one.score)) for one in sample.features]
    for name, features in (("arrays", sample.features), ("spelt_out", spelt_out)):
        (tmp_path / name).mkdir()
        RunFolder(tmp_path / name).write_features(features)
    one, other = ((tmp_path / name / "records.parquet").read_bytes() for name in ("arrays", "spelt_out"))
    assert one == other
    assert RunFolder(tmp_path / "arrays").read_features() == spelt_out == list(sample.features)
