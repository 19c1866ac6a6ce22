"""Says in one line that a dictionary does not fit the activations it was measured on. Imports nothing heavy."""

import shlex

CAUSES = "a BOS token, the scale of the activations, a layer off by one, or a folded layer norm"


def misfit(name: str, kind: str, fvu: float | None, path: str) -> str | None:
    """Return the line for a trained dictionary whose FVU is above 1, worse than predicting the mean; None otherwise.

    Args:
        kind: the dictionary's; baselines such as random directions may well be worse than the mean.
        path: where it is, for the command that tries the causes.
    """
    if kind != "sae" or fvu is None or fvu <= 1:
        return None
    return (
        f"{name} does not fit these activations: FVU {fvu:.3g} is worse than predicting the mean. Likely causes: "
        f"{CAUSES}; to try each: sae eval {shlex.quote(path)} --diagnose"
    )
