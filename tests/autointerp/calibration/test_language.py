"""The planted language: its labels against a parser that knows the grammar's data and nothing of the generator."""

import re
from collections import Counter

import numpy as np
import pytest

from autointerp.calibration import grammar
from autointerp.calibration.concepts import Concept, domain_rules, single
from autointerp.calibration.language import (
    DOMAIN_NAMES,
    LENGTH,
    PlantedText,
    category_ids,
    domain_ids,
    generate,
    vocabulary,
)
from autointerp.prompting import rules
from autointerp.prompting.predict_text import predict_text

TEXT = generate(40_000, 0)


def words_of_block(row: int) -> list[str]:
    return [vocabulary()[index] for index in TEXT.ids_ML[row]]


def parsed_domains(documents: list[str]) -> list[set[str]]:
    """The domains that could have written each document: those with a category or literal for each of its words."""
    owners: dict[str, set[str]] = {}
    for name, domain in grammar.DOMAINS.items():
        for item in domain.patterns.replace("|", " ").split():
            for word in grammar.CATEGORIES[item[1:]].split() if item.startswith("$") else [item]:
                owners.setdefault(word, set()).add(name)
    return [
        set.intersection(*(owners["¶" if word == "\n" else word] for word in re.findall(r"\n|[^\s]+", document)))
        for document in documents
    ]


def test_every_domain_is_written_and_can_be_told_from_its_words_alone() -> None:
    domains = [DOMAIN_NAMES[TEXT.domain_M[first]] for first in np.unique(TEXT.document_M, return_index=True)[1]]
    parsed = parsed_domains(TEXT.documents())
    assert [{name} for name in domains] == parsed
    assert len(DOMAIN_NAMES) >= 16
    assert set(domains) == set(DOMAIN_NAMES)


def test_a_word_is_of_one_category_and_falls_by_its_rank() -> None:
    words = [word for words in grammar.CATEGORIES.values() for word in words.split()]
    assert len(words) == len(set(words))
    counts = np.bincount(generate(200_000, 1).ids_ML.ravel(), minlength=len(vocabulary()))
    nouns = counts[list(category_ids("noun"))]
    assert nouns[1:4] / nouns[:3] == pytest.approx([grammar.FALL] * 3, rel=0.15)


def test_text_is_the_same_for_the_same_seed_only() -> None:
    assert np.array_equal(TEXT.ids_ML, generate(40_000, 0).ids_ML)
    assert not np.array_equal(TEXT.ids_ML[:100], generate(40_000, 1).ids_ML[:100])
    assert TEXT.ids_ML.shape[1] == LENGTH
    assert re.findall(r"\n| [^\s]+", TEXT.documents()[3]) == [
        vocabulary()[i] for i in TEXT.ids_ML[TEXT.document_M == 3].ravel()
    ]


def test_domain_ids_are_those_that_no_other_domain_writes() -> None:
    own = [set(domain_ids(name)) for name in DOMAIN_NAMES]
    assert all(own)
    assert max(Counter(index for ids in own for index in ids).values()) == 1
    for name, ids in zip(DOMAIN_NAMES, own, strict=True):
        others = TEXT.ids_ML[TEXT.domain_M != DOMAIN_NAMES.index(name)]
        assert not np.isin(others, list(ids)).any()


def test_labels_are_what_a_reader_of_the_words_would_write() -> None:
    a, b = category_ids("adjective")[0], category_ids("noun")[1]
    concepts = {
        "token": Concept("token", "t", ((single("token", a),),)),
        "pair": Concept("pair", "p", ((single("pair", a, b),),)),
        "near": Concept("near", "n", ((single("near", a),),)),
        "mixture": Concept("mixture of 2", "m", ((single("token", a),), (single("pair", a, b),))),
        "domain": Concept("domain", "d", domain="legal"),
        "position": Concept("position", "x", positions=(0, 7)),
    }
    labels = {name: concept.holds(TEXT) for name, concept in concepts.items()}
    for row in range(400):
        words = words_of_block(row)
        first, second = vocabulary()[a], vocabulary()[b]
        for i, word in enumerate(words):
            before = words[max(0, i - 8) : i]
            expected = {
                "token": word == first,
                "pair": word == second and before[-1:] == [first],
                "near": first in before,
                "mixture": word == first or (word == second and before[-1:] == [first]),
                "domain": DOMAIN_NAMES[TEXT.domain_M[row]] == "legal",
                "position": i in (0, 7),
            }
            assert {name: bool(labels[name][row, i]) for name in labels} == expected


def test_the_true_text_reads_back_as_the_concept() -> None:
    concept = Concept("pair", "p", ((single("pair", *category_ids("adjective")[:2]),),))
    assert rules.from_text(concept.truth) == concept.rules
    near = predict_text(domain_rules("dna"), TEXT.population) > 0
    held = Concept("domain", "d", domain="dna").holds(TEXT)
    assert not (near & ~held).any(), "a domain's own words are written nowhere else"
    assert (near & held).sum() / held.sum() > 0.95


def test_some_blocks_can_be_taken() -> None:
    part = TEXT.take(TEXT.domain_M == 2)
    assert isinstance(part, PlantedText)
    assert len(part.ids_ML) == (TEXT.domain_M == 2).sum() == len(part.document_M)
