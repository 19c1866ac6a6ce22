"""Near-duplicate documents: grouped as a direct count of shared 16-grams says, and never separated by a split."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae.data import deduplication
from sae.data.blocks import to_blocks
from sae.data.deduplication import GRAM, Known, group_near_duplicates, shared_with
from sae.data.split import split_blocks

Texts = list[list[int]]


def grams(ids: list[int]) -> set[tuple[int, ...]]:
    """Straight from the definition: a document shorter than a 16-gram is one gram by itself."""
    if 0 < len(ids) < GRAM:
        return {tuple(ids)}
    return {tuple(ids[start : start + GRAM]) for start in range(len(ids) - GRAM + 1)}


def expected_groups(texts: Texts) -> list[int]:
    """The smallest document number of each connected family, by comparing every pair."""
    group = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        shared = len(grams(texts[a]) & grams(texts[b]))
        if shared and shared > 0.25 * min(len(grams(texts[a])), len(grams(texts[b]))):
            low, high = sorted((group[a], group[b]))
            group = [low if each == high else each for each in group]
    return group


def groups(texts: Texts, context: int = 8) -> list[int]:
    blocks = group_near_duplicates(to_blocks(texts, context))
    by_document = dict(zip(blocks.document_N.tolist(), blocks.group_N.tolist(), strict=True))
    return [by_document.get(document, document) for document in range(len(texts))]


def random_texts(seed: int, n: int = 20) -> Texts:
    """Documents of random tokens, half of them with pieces copied from others."""
    rng = np.random.default_rng(seed)
    texts: Texts = []
    for _ in range(n):
        ids = rng.integers(0, 1000, rng.integers(1, 90)).tolist()
        for source in rng.choice(len(texts), min(2, len(texts)), replace=False) if texts and rng.random() < 0.5 else []:
            start = int(rng.integers(0, len(texts[source])))
            ids += texts[source][start : start + int(rng.integers(5, 60))]
        texts.append(ids)
    return texts


@given(st.integers(0, 10_000), st.sampled_from([(2**23, 2**20), (100, 2**20), (37, 8), (500, 100)]))
def test_groups_equal_those_of_a_direct_count(seed: int, at_once: tuple[int, int]) -> None:
    """Also where the grams are compared in parts, and hashed a few documents at a time."""
    texts = random_texts(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deduplication, "GRAMS_AT_ONCE", at_once[0])
        patch.setattr(deduplication, "TOKENS_AT_ONCE", at_once[1])
        assert groups(texts) == expected_groups(texts)


def test_the_threshold_is_a_quarter_of_the_smaller_document() -> None:
    """19 + 15 tokens copied are 19 of the 16-grams: of 75 more than a quarter, of 77 less."""
    copied = list(range(34))
    for n_grams, is_together in ((75, True), (77, False)):
        a = copied + list(range(1000, 1000 + n_grams + 15 - 34))
        b = list(range(5000, 5200)) + copied
        assert (groups([a, b])[1] == 0) == is_together


def test_a_large_family_of_copies_is_one_group() -> None:
    """More copies than are counted pair by pair."""
    licence = list(range(100))
    texts = [licence + list(range(1000 * i, 1000 * i + 50)) for i in range(1, 201)] + [list(range(900, 950))]
    assert groups(texts) == [0] * 200 + [200]


@given(st.integers(0, 10_000), st.integers(1, 19))
def test_documents_of_a_stream_are_told_by_a_direct_count(seed: int, n_known: int) -> None:
    texts = random_texts(seed)
    known = Known.of(to_blocks(texts[:n_known], 8))
    for ids in texts[n_known:]:
        shares = [
            (len(grams(ids) & grams(other)), min(len(grams(ids)), len(grams(other)))) for other in texts[:n_known]
        ]
        assert known.has_near_duplicate_of(ids) == any(shared > 0.25 * least for shared, least in shares)
    assert not Known.of(to_blocks([], 8)).has_near_duplicate_of(texts[0])


@pytest.mark.parametrize("seed", range(5))
def test_no_split_separates_copies(seed: int) -> None:
    texts = random_texts(seed, 60)
    blocks = group_near_duplicates(to_blocks(texts, 8))
    split = split_blocks(blocks, 0.4, seed)
    sides = [set(side.document_N.tolist()) for side in (split.train, split.held_out)]
    assert not sides[0] & sides[1]
    family = dict(enumerate(expected_groups(texts)))
    assert not {family[d] for d in sides[0]} & {family[d] for d in sides[1]}


def test_the_share_of_copied_tokens_equals_a_direct_count() -> None:
    texts, others = random_texts(1, 20), random_texts(2, 20) + random_texts(1, 20)[5:9]
    known = set().union(*(grams(ids) for ids in others if len(ids) >= GRAM))
    copied = total = 0
    for ids in texts:
        total += len(ids)
        marked = set()
        for start in range(len(ids) - GRAM + 1):
            if tuple(ids[start : start + GRAM]) in known:
                marked |= set(range(start, start + GRAM))
        copied += len(marked)
    assert 0 < copied < total
    assert shared_with(to_blocks(texts, 8), to_blocks(others, 8)) == pytest.approx(copied / total)
