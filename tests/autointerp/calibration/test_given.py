"""Records of given activations: the harness's own selection, with activations that are known exactly."""

import numpy as np

from autointerp import config as configs
from autointerp.calibration.concepts import Concept, single
from autointerp.calibration.language import LENGTH, category_ids, generate, vocabulary
from autointerp.sampling.given import GivenText, sample_given, score_side
from sae.common.progress import Silent

TEXT = generate(60_000, 0)
CONFIG = configs.load(
    "dictionary",
    {
        "sampling.fragment": LENGTH,
        "sampling.explain": {"top": 4, "quantile": 2, "random": 3},
        "sampling.score": {"top": 2, "random": 3, "inactive": 2},
    },
)


def given_text() -> GivenText:
    return GivenText([vocabulary()[i] for i in TEXT.ids_ML.ravel()], TEXT.document_M)


def test_records_hold_the_given_activations_and_no_document_twice() -> None:
    ids = [category_ids("noun")[0], category_ids("codon")[1]]
    held = np.stack([Concept("token", "t", ((single("token", i),),)).holds(TEXT) for i in ids], axis=-1)
    rare = np.zeros_like(held[..., :1])
    rare[5, 3] = True
    values = np.concatenate([2 * held, rare], axis=-1).astype(np.float32)
    features = sample_given(given_text(), values, CONFIG, Silent)
    assert features[2] is None
    side = score_side(given_text(), CONFIG)
    documents = [set(TEXT.document_M[side == here].tolist()) for here in (False, True)]
    assert not documents[0] & documents[1]
    for index, feature in zip(ids, features[:2], strict=True):
        assert feature is not None
        assert {record.source for record in feature.score} == {"top", "random", "inactive"}
        for record in (*feature.explain, *feature.score):
            assert record.activations == tuple(2.0 * (token == vocabulary()[index]) for token in record.tokens)
            assert len(record.tokens) == LENGTH
        for records, here in ((feature.explain, documents[0]), (feature.score, documents[1])):
            assert {record.document for record in records} <= here
        assert feature.density == float(held[..., ids.index(index)].mean())
