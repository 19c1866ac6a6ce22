"""Measures how well predictions of a class agree with the truth; None where a measure does not exist.

scikit-learn, for the AUROC, is imported when the first one is computed, not before.
"""

from collections.abc import Sequence


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Return the probability that a positive ranks above a negative, ties counting half; None if a class is empty."""
    from sklearn.metrics import roc_auc_score

    if not positive or not negative:
        return None
    return float(roc_auc_score([1] * len(positive) + [0] * len(negative), [*positive, *negative]))


def confusion_scores(
    active: Sequence[int], silent: Sequence[int], weights: Sequence[float] | None = None
) -> tuple[float, float | None, float, float]:
    """Return balanced accuracy, precision, recall and F1 of the class `active`.

    Precision is None where nothing was called active. Counted here, since scikit-learn takes 10 ms for it.

    Args:
        active: for each truly active fragment, 1 if it was called active, else 0; not empty.
        silent: the same for each truly silent fragment; not empty.
        weights: how much each of the active and then of the silent ones counts; None: all alike.
    """
    counts = [1.0] * (len(active) + len(silent)) if weights is None else weights
    positives, negatives = sum(counts[: len(active)]), sum(counts[len(active) :])
    hits = sum(count for count, called in zip(counts, active, strict=False) if called)
    false_alarms = sum(count for count, called in zip(counts[len(active) :], silent, strict=True) if called)
    recall, called_active = hits / positives, hits + false_alarms
    balanced = (recall + 1 - false_alarms / negatives) / 2
    precision = hits / called_active if called_active else None
    return balanced, precision, recall, 2 * hits / (positives + called_active)
