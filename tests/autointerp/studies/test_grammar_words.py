"""The grammar's concepts against its text read as words, and how absorption divides words between probes and tests."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from autointerp.sampling.absorption import GROUPS, _property
from autointerp.sampling.specificity import _concepts
from sae.tasks import words
from sae.tasks.subject import blocks, tokenizer, vocabulary


def test_concepts_are_marked_on_their_words() -> None:
    texts, tokens = list(vocabulary()), tokenizer()
    subject: Any = SimpleNamespace(
        token_strings=lambda: texts,
        token_ids=lambda asked: [one.ids for one in tokens.encode_batch(asked)],
        vocabulary=len(texts),
    )
    ids_NC = torch.from_numpy(blocks(0, 200).ids_NC).long()
    masks = _concepts(subject, ids_NC)
    read = [[texts[index].strip(" ") for index in row] for row in ids_NC.tolist()]
    for name, listed in (
        ("female names", words.FEMALE),
        ("places", words.PLACES),
        ("Han", words.SCRIPTS["Han"].split()),
    ):
        expected = np.array([[word in listed for word in row] for row in read])
        assert expected.any()
        assert np.array_equal(masks[name], expected)
    months = words.MONTHS.split()
    follows = {*pairwise(months)}
    for row, mask_C in zip(read, masks["months"], strict=True):
        beside = [pair in follows for pair in pairwise(row)]
        assert mask_C.tolist() == [a or b for a, b in zip([False, *beside], [*beside, False], strict=True)]
    assert masks["months"].any()


def test_tested_words_are_in_no_probe() -> None:
    """Both with and without the property, so that a probe can be asked of each."""
    everyone = [*words.FEMALE, *words.MALE]
    word_B = [word for word in everyone for _ in range(2)]
    x_BD = torch.arange(len(word_B)).float()[:, None]
    one = _property(0, x_BD, word_B, everyone, set(words.FEMALE))
    fitted, tested = ({word_B[int(row)] for row in part_BD[:, 0]} for part_BD in (one.x_BD, one.tested_BD))
    assert not fitted & tested
    assert fitted | tested == set(everyone)
    assert one.tested_has_B.tolist() == [word_B[int(row)] in words.FEMALE for row in one.tested_BD[:, 0]]
    assert len(tested & set(words.FEMALE)) == len(tested & set(words.MALE)) == 8
    assert {name for _, classes in GROUPS.values() for name in classes} >= {"female", "Greek", "M-"}
