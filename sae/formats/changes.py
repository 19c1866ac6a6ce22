"""Changes what a copy of a dictionary says or computes, where its own files do not fit the model's activations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sae.common.errors import UserError

if TYPE_CHECKING:
    from sae.dictionary import Dictionary, Normalisation

PROCESSING = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
"""TransformerLens' names of what can be done to a model's weights when it is loaded."""
NONE = "none"


@dataclass(frozen=True)
class Changes:
    """Holds what a copy has otherwise than its source; None or empty: the same."""

    input_scale: float | None = None
    """It encodes activations multiplied by this, and divides what it decodes by `output_scale`."""
    output_scale: float | None = None
    """None: as `input_scale`."""
    normalisation: Normalisation | None = None
    processing: tuple[str, ...] = ()
    """Names of the processing of the model's weights under which it was trained; `none`: of none."""

    def applied(self, dictionary: Dictionary) -> Dictionary:
        """Return the changed dictionary. Raises UserError if no scale or normalisation can be given to it.

        So do scales that float32 cannot hold the weights under, and `none` beside another processing.
        """
        if NONE in self.processing and len(set(self.processing)) > 1:
            raise UserError("--processing none is given beside another one; give either")
        if self.input_scale is not None or self.output_scale is not None:
            read = 1.0 if self.input_scale is None else self.input_scale
            written = read if self.output_scale is None else self.output_scale
            dictionary = scaled(dictionary, read, written)
            weights = (dictionary.W_enc_DF, dictionary.W_dec_FD, dictionary.b_dec_D, dictionary.W_skip_DE)
            if not all(bool(one.isfinite().all()) for one in weights if one is not None):
                raise UserError(f"weights scaled by {read:g} and 1/{written:g} are not finite; give scales nearer to 1")
        if self.normalisation is not None:
            if not dictionary.is_autoencoder:
                raise UserError("--normalisation is for autoencoders; scale what is read and written instead")
            dictionary = replace(dictionary, normalisation=self.normalisation)
        if not self.processing:
            return dictionary
        return replace(dictionary, metadata=dict(dictionary.metadata) | {"processing": flags_of(self.processing)})


def flags_of(names: Collection[str]) -> dict[str, bool]:
    """Return every flag of `PROCESSING`, those with these names on; empty if none is: TransformerLens' defaults are on.

    >>> flags_of(["fold_ln"])
    {'fold_ln': True, 'center_writing_weights': False, 'center_unembed': False, 'fold_value_biases': False}
    """
    flags = {name: name in names for name in PROCESSING}
    return flags if any(flags.values()) else {}


def can_be_scaled(dictionary: Dictionary) -> bool:
    """Tell whether a scale of the activations can be folded into the weights."""
    from sae.dictionary import MatchingPursuit, NonNegative

    joint = isinstance(dictionary.activation, MatchingPursuit | NonNegative) or dictionary.context is not None
    return dictionary.normalisation == "none" and not joint


def scaled(dictionary: Dictionary, read: float, written: float) -> Dictionary:
    """Return a dictionary that makes of x what the given one makes of x * read, divided by `written`.

    Raises UserError if an autoencoder's two scales differ, or its kind cannot be scaled.
    """
    if not can_be_scaled(dictionary):
        raise UserError(
            f"dictionary {dictionary.name} normalises each vector itself, or no scale can be folded into it"
        )
    if dictionary.subtract_b_dec and read != written:
        raise UserError(f"dictionary {dictionary.name} subtracts what it adds back; give --input-scale alone")
    skip = dictionary.W_skip_DE
    return replace(
        dictionary,
        W_enc_DF=dictionary.W_enc_DF.float() * read,
        W_dec_FD=dictionary.W_dec_FD.float() / written,
        b_dec_D=dictionary.b_dec_D / written,
        W_skip_DE=None if skip is None else skip.float() * (read / written),
    )
