"""Measures how well predictions of a class agree with the truth, by scikit-learn; None where a measure does not exist.

scikit-learn is imported when the first score is computed, not before.
"""

import math
from collections.abc import Sequence


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Return the probability that a positive ranks above a negative, ties counting half; None if a class is empty."""
    from sklearn.metrics import roc_auc_score

    if not positive or not negative:
        return None
    return float(roc_auc_score([1] * len(positive) + [0] * len(negative), [*positive, *negative]))


def confusion_scores(
    active: Sequence[int], silent: Sequence[int], weights: Sequence[float] | None = None
) -> tuple[float | None, ...]:
    """Return balanced accuracy, precision, recall and F1 of the class `active`.

    Precision is None where nothing was called active.

    Args:
        active: for each truly active fragment, 1 if it was called active, else 0; not empty.
        silent: the same for each truly silent fragment; not empty.
        weights: how much each of the active and then of the silent ones counts; None: all alike.
    """
    from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

    true, predicted = [1] * len(active) + [0] * len(silent), [*active, *silent]
    balanced = balanced_accuracy_score(true, predicted, sample_weight=weights)
    others = precision_recall_fscore_support(
        true, predicted, average="binary", zero_division=math.nan, sample_weight=weights
    )
    return tuple(None if math.isnan(value) else float(value) for value in (balanced, *others[:3]))
