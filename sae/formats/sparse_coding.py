"""Reads HoagyC's `sparse_coding` (Cunningham et al. 2023): `learned_dicts.pt`, pickled (object, hyperparameters) pairs.

Read from the library's `autoencoders/learned_dict.py`, `topk_encoder.py` and `big_sweep.py`. The objects come back as
plain attributes: neither code of the library nor anything else that a pickle may ask for is imported. Here x is
translated, rotated and scaled within `encode` and back within `decode`, as the library does around them in `predict`.
The library's classes whose features are noisy or whose decoder is not affine are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae.common.errors import UserError
from sae.formats.header import Header, hook_points
from sae.formats.json_checks import positive_int, require, require_typed, short_repr
from sae.formats.registry import FORMATS, Format
from sae.formats.safe_load import in_fp32, require_dense, safe_torch_load
from sae.formats.tensor_checks import require_k, require_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from sae.dictionary import Activation, Dictionary

LISTED = 24
"""The number of a file's entries that an error message lists before "..."."""
HOOK_POINTS = {
    "residual": "hook_resid_post",
    "resid": "hook_resid_post",
    "mlp": "mlp.hook_post",
    "mlpout": "hook_mlp_out",
}
WIDEST = 2**15
"""The largest width of an identity, of which a file gives only the size: all its rows are made here, 8 GiB at this
width. The models that the library was written for are narrower."""
RELEASE = re.compile(rf"_({'|'.join(HOOK_POINTS)})_l(\d+)_r\d+(?:/|$)")
"""The release's folders, `tied_residual_l2_r6/_63`: hook point, layer, features per dimension; `_63` is the chunk."""


@dataclass(frozen=True)
class Layout:
    """Describes where one class of the library keeps its encoder."""

    kind: str
    """The kind of dictionary that it is here."""
    encoder: str | None
    """The attribute with the encoder's rows [m, d]; None: the coordinates themselves."""
    bias: str | None = None
    """The attribute with the encoder's bias [m]; None: it has none."""
    halves: bool = False
    """Its coordinates are signed (or already split): two features each, +v and -v."""
    module: str = "learned_dict"
    """The library's module of the class."""


LAYOUTS = {
    "TiedSAE": Layout("sae", "encoder", "encoder_bias"),
    "UntiedSAE": Layout("sae", "encoder", "encoder_bias"),
    "TopKLearnedDict": Layout("sae", "dict", module="topk_encoder"),
    "RandomDict": Layout("random", "encoder", "encoder_bias"),
    "IdentityReLU": Layout("neurons", None, "bias"),
    "IdentityPositive": Layout("neurons", None, halves=True),
    "Identity": Layout("neurons", None, halves=True),
    "Rotation": Layout("pca", "matrix", halves=True),  # made by the library's PCA only
}


class Saved:
    """Holds the attributes of an object in the file. Each class of the library gets a subclass of its own."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


STAND_INS = {f"autoencoders.{layout.module}.{name}": type(name, (Saved,), {}) for name, layout in LAYOUTS.items()}


@dataclass(frozen=True)
class Entry:
    """Holds one dictionary of the file: its number, class, attributes and hyperparameters."""

    path: Path
    item: int
    cls: str
    attributes: Mapping[str, Any]
    hyperparameters: Mapping[str, Any]

    @property
    def where(self) -> Path:
        """Return `FILE#N`, for error messages."""
        return Path(f"{self.path}#{self.item}")

    @property
    def summary(self) -> str:
        """Return `#3 TiedSAE l1_alpha=0.001 dict_size=2048`, on one line whatever the file contains."""
        words = [f"#{self.item}", self.cls, *(f"{name}={value}" for name, value in self.hyperparameters.items())]
        return " ".join(" ".join(words).split())


def peek(path: Path, item: int | None = None) -> Header:
    """Read the shapes of entry `item`, or of the only one there is; the numbers stay on disk."""
    return _header(_select(path, item))


def load(path: Path, item: int | None = None) -> Dictionary:
    """Read entry `item` of the file; without it, the only one there is. Raises UserError if a tensor does not fit."""
    import torch

    from sae.dictionary import Dictionary

    entry = _select(path, item)
    entry = replace(entry, attributes=in_fp32(entry.attributes, entry.where))
    header, layout = _header(entry), LAYOUTS[entry.cls]
    d, m = header.d_in, header.n_features
    b_enc_F = require_tensor(entry.attributes, layout.bias, (m,), entry.where) if layout.bias else torch.zeros(m)
    W_enc_FD = _encoder(entry)
    W_enc_DF, W_dec_FD, b_dec_D = _with_centring(entry, W_enc_FD, _decoder(entry, W_enc_FD), d)
    return Dictionary(
        name=header.name,
        kind=layout.kind,
        W_enc_DF=W_enc_DF,
        b_enc_F=b_enc_F.clone(),  # not a window of the file
        W_dec_FD=W_dec_FD,
        b_dec_D=b_dec_D,
        activation=_activation(entry, m),
        reads=header.reads,
        writes=header.writes,
        metadata={"sparse_coding": {"class": entry.cls, "item": entry.item, **entry.hyperparameters}},
    )


def _select(path: Path, item: int | None) -> Entry:
    """Read one entry. Raises UserError with a list of them if there are several and no number, or a wrong number."""
    values = safe_torch_load(path, STAND_INS, mmap=True)  # a sweep's file holds gigabytes, of which one entry is read
    entries = [_entry(path, i, value) for i, value in enumerate(values if isinstance(values, list) else [values])]
    number = 0 if item is None and len(entries) == 1 else item
    if number is not None and number < len(entries):
        entry = entries[number]
        return replace(entry, attributes=require_dense(entry.attributes, entry.where))
    listed = ", ".join(entry.summary for entry in entries[:LISTED]) + (", ..." if len(entries) > LISTED else "")
    if item is not None:
        raise UserError(f"{path}#{item}: there is no such entry; the file holds {len(entries)}: {listed}")
    raise UserError(f"{path} holds {len(entries)} dictionaries; choose one as {path.name}#N: {listed}")


def _entry(path: Path, item: int, value: Any) -> Entry:
    """Check a pair of the list, or an object that was saved by itself. Raises UserError if it is neither."""
    saved, about = value if isinstance(value, tuple) and len(value) == 2 else (value, {})
    if not isinstance(saved, Saved) or not isinstance(about, dict):
        raise UserError(f"{path}#{item} is a {type(saved).__name__}, not a dictionary of sparse_coding")
    checked = in_fp32(about, Path(f"{path}#{item}"))
    return Entry(path, item, type(saved).__name__, vars(saved), {str(_plain(k)): _plain(v) for k, v in checked.items()})


def _plain(value: Any) -> Any:
    """Return a hyperparameter as JSON can hold it; of anything but numbers, texts and the like only the type."""
    import torch

    if isinstance(value, torch.Tensor) and value.ndim == 0:
        return float(f"{value.item():.6g}")  # not the digits that fp32 adds
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value) if isinstance(value, torch.device | torch.dtype) else f"a {type(value).__name__}"


def _header(entry: Entry) -> Header:
    m, d = _sizes(entry)
    parts = entry.path.resolve().parent.parts
    chunk = parts[-1] if re.fullmatch(r"_\d+", parts[-1]) else ""
    folder = f"{parts[-2]}{chunk}" if chunk else parts[-1]
    release = RELEASE.search(f"/{entry.path.resolve().parent.as_posix()}")
    at = hook_points(f"blocks.{release[2]}.{HOOK_POINTS[release[1]]}" if release else None)
    return Header(
        name=f"{folder}-{entry.item}" if entry.path.name == "learned_dicts.pt" else f"{entry.path.stem}-{entry.item}",
        d_in=d,
        n_features=m,
        reads=at,
        writes=at,
        model=None,
    )


def _sizes(entry: Entry) -> tuple[int, int]:
    """Return the number of features and the width."""
    rows = _rows(entry)
    m, d = (rows, rows) if isinstance(rows, int) else rows.shape
    return (2 * m if LAYOUTS[entry.cls].halves else m), d


def _rows(entry: Entry) -> Tensor | int:
    """Return the encoder as the file has it, or the width of an identity."""
    import torch

    name = LAYOUTS[entry.cls].encoder
    if name is None:
        width = positive_int(entry.attributes, "activation_size", entry.where)
        if width > WIDEST:
            raise UserError(f"{entry.where}: activation_size is {short_repr(width)}, but at most {WIDEST} is read")
        return width
    rows = require(entry.attributes, name, entry.where)
    if not isinstance(rows, torch.Tensor) or rows.ndim != 2:
        raise UserError(f"{entry.where}: {name} is {_type_of(rows)}, expected a tensor of two dimensions")
    return rows


def _encoder(entry: Entry) -> Tensor:
    """Return the encoder's rows [m, d], before centring."""
    import torch

    rows = _rows(entry)
    rows_FD = torch.eye(rows) if isinstance(rows, int) else rows
    rows_FD = torch.cat([rows_FD, -rows_FD]) if LAYOUTS[entry.cls].halves else rows_FD
    unit = entry.cls == "TiedSAE" and require_typed(entry.attributes, "norm_encoder", bool, entry.where)
    return _unit(rows_FD) if unit else rows_FD


def _type_of(value: Any) -> str:
    """Describe a value by its shape or its type, for error messages."""
    from torch import Tensor

    return f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _decoder(entry: Entry, W_enc_FD: Tensor) -> Tensor:
    """Return the decoder's rows [m, d], before centring is undone; those of autoencoders have norm 1."""
    match entry.cls:
        case "UntiedSAE":
            return _unit(require_tensor(entry.attributes, "decoder", tuple(W_enc_FD.shape), entry.where))
        case "TiedSAE":
            return _unit(W_enc_FD)
        case _:
            return W_enc_FD.clone()


def _unit(rows_FD: Tensor) -> Tensor:
    """Scale rows to norm 1."""
    norms_F1: Tensor = rows_FD.norm(dim=1, keepdim=True)
    return rows_FD / norms_F1.clamp(1e-8)


def _with_centring(entry: Entry, W_enc_FD: Tensor, W_dec_FD: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fold TiedSAE's centring, z = (R (x - t)) * s, and its inverse into W_enc_DF, W_dec_FD and b_dec_D.

    Older files lack its attributes: then there is no centring. R is inverted by its transpose, as the library does.
    """
    values, where = entry.attributes, entry.where
    b_dec_D = W_enc_FD.new_zeros(d)
    if entry.cls == "TiedSAE":
        if "center_scale" in values:
            scale_D = require_tensor(values, "center_scale", (d,), where)
            W_enc_FD, W_dec_FD = W_enc_FD * scale_D, W_dec_FD / scale_D
        if "center_rot" in values:
            rotation_DD = require_tensor(values, "center_rot", (d, d), where)
            W_enc_FD, W_dec_FD = W_enc_FD @ rotation_DD, W_dec_FD @ rotation_DD
        if "center_trans" in values:
            b_dec_D = require_tensor(values, "center_trans", (d,), where).clone()
    return W_enc_FD.T.contiguous(), W_dec_FD, b_dec_D


def _activation(entry: Entry, m: int) -> Activation:
    from sae.dictionary import ReLU, TopK

    if entry.cls != "TopKLearnedDict":
        return ReLU()
    return TopK(require_k(require(entry.attributes, "sparsity", entry.where), m, entry.where))


FORMATS.register(
    "sparse_coding",
    Format(
        "sparse_coding",
        "an entry of a file, learned_dicts.pt#N",
        peek,
        load,
        marker="learned_dicts.pt",
        file_names=r"learned_dicts.*\.pt",
        numbered=r".*\.pt",
        pickled=True,
    ),
)
