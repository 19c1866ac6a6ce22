"""Dictionaries whose weights have fewer bits compute what their weights in fp32 do, in pieces of any size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sae import formats, products
from sae.dictionary import Dictionary, JumpReLU, TopK
from sae.measuring.evaluate import directions
from sae.products import row_norms

F, D = 50, 12


def made(stored: torch.dtype) -> tuple[Dictionary, Dictionary]:
    """A dictionary of stored numbers of few bits, and the same in fp32."""
    g = torch.Generator().manual_seed(0)
    W_enc_DF, W_dec_FD = (torch.randn(shape, generator=g).to(stored) for shape in ((D, F), (F, D)))
    b_enc_F, b_dec_D, threshold_F = (torch.randn(n, generator=g) for n in (F, D, F))
    small = Dictionary("d", "sae", W_enc_DF, b_enc_F, W_dec_FD, b_dec_D, JumpReLU(threshold_F.abs()))
    return small, replace(small, W_enc_DF=W_enc_DF.float(), W_dec_FD=W_dec_FD.float())


@pytest.mark.parametrize("piece", [1, 100, 10**6])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_weights_of_fewer_bits_are_computed_with_in_fp32(
    stored: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "PIECE", piece)
    for activation in (None, TopK(5)):
        small, whole = (replace(one, activation=activation or one.activation) for one in made(stored))
        x_BD = torch.randn((7, D), generator=torch.Generator().manual_seed(1))
        acts_BF = whole.encode(x_BD)
        assert 0 < int((acts_BF > 0).sum()) < acts_BF.numel()
        torch.testing.assert_close(small.encode(x_BD), acts_BF)
        features_S = torch.tensor([3, 49, 0])
        torch.testing.assert_close(small.encoder(features_S)(x_BD), acts_BF[:, features_S])
        torch.testing.assert_close(small.decode(acts_BF), whole.decode(acts_BF))
        row_N, features_N = acts_BF.nonzero(as_tuple=True)
        offsets_B = torch.searchsorted(row_N, torch.arange(7))
        active_BD = small.decode_active(acts_BF[row_N, features_N], features_N, offsets_B, x_BD)
        torch.testing.assert_close(active_BD, whole.decode(acts_BF))
    torch.testing.assert_close(row_norms(small.W_dec_FD), whole.W_dec_FD.norm(dim=1))
    torch.testing.assert_close(directions(small).decoder_norms, directions(whole).decoder_norms)


def test_a_files_bf16_stays_and_is_written_as_fp32(tmp_path: Path) -> None:
    small, whole = made(torch.bfloat16)
    formats.save(whole, tmp_path / "d")
    weights = tmp_path / "d" / "dictionary.safetensors"
    tensors = load_file(weights)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, weights)
    read = formats.load(tmp_path / "d")
    assert (read.W_enc_DF.dtype, read.W_dec_FD.dtype) == (torch.bfloat16, torch.bfloat16)
    assert (read.b_enc_F.dtype, read.b_dec_D.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(read.W_enc_DF, small.W_enc_DF)
    formats.save(read, tmp_path / "again")
    assert {tensor.dtype for tensor in load_file(tmp_path / "again" / "dictionary.safetensors").values()} == {
        torch.float32
    }
    assert json.loads((tmp_path / "again" / "dictionary.json").read_text())["n_features"] == F
