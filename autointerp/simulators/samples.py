"""Joins several samples of the prediction for one fragment into one."""

from collections.abc import Sequence

from autointerp.records import AnswerError
from autointerp.simulators import Predicted


def averaged(samples: Sequence[Predicted | AnswerError]) -> Predicted | AnswerError:
    """Average token by token, None where a sample has no number; the first AnswerError if there is one."""
    readable = [sample for sample in samples if not isinstance(sample, AnswerError)]
    if len(readable) < len(samples):
        return next(sample for sample in samples if isinstance(sample, AnswerError))
    return tuple(
        None if None in values else sum(value for value in values if value is not None) / len(values)
        for values in zip(*readable, strict=True)
    )
