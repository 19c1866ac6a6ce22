"""Every release's files against its forward pass in numpy, and each way in which a file can be wrong: one line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from sae import formats
from sae.cli import main
from sae.common.errors import UserError
from tests.sae.release_files import CASES as BY_VECTOR
from tests.sae.release_files import LLAMA, B, Case, Tensors
from tests.sae.temporal_files import TEMPORAL
from tests.sae.test_formats import library

CASES = BY_VECTOR | TEMPORAL


@pytest.mark.parametrize("name", CASES)
def test_by_its_formula(name: str, tmp_path: Path) -> None:
    """Encode and decode a block to 1e-5; hook points and model; the same again from our own format."""
    case = CASES[name]
    path = case.write(tmp_path)
    assert formats.recognise(path).format.name == name.split()[0].rstrip(",")
    loaded, header = formats.load(path), formats.peek(path)
    assert (loaded.reads, loaded.writes, loaded.model) == (case.reads, case.writes, case.model)
    assert (header.reads, header.writes, header.model) == (case.reads, case.writes, case.model)
    assert (loaded.d_in, loaded.n_features, loaded.is_part) == (header.d_in, header.n_features, case.is_part)
    x = np.random.default_rng(9).normal(size=(B, loaded.d_in)).astype(np.float32)
    features, written = case.forward(x, case.files)
    assert 0 < (features > 0).mean() < 0.9
    formats.save(loaded, tmp_path / "own")
    for each in (loaded, formats.load(tmp_path / "own")):
        given_BD = each.in_context(torch.from_numpy(x)[None])[0]
        encoded = each.encode(given_BD)
        np.testing.assert_allclose(encoded.numpy(), features, atol=1e-5, rtol=1e-5)
        decoded = each.decode(torch.from_numpy(features).float(), given_BD)
        np.testing.assert_allclose(decoded.numpy(), written, atol=2e-5, rtol=1e-5)
        assert (each.reads, each.writes, each.is_part) == (case.reads, case.writes, case.is_part)


def mutations(case: Case) -> Iterator[tuple[str, str, Mapping[str, Tensors]]]:
    """Yield what each wrong set of files must be refused for, with the file's name."""
    for file, tensors in case.files.items():
        for name, array in tensors.items():
            rest = {key: value for key, value in tensors.items() if key != name}
            if name not in case.optional:
                yield name, file, {**case.files, file: rest}
            if array.shape:
                with np.errstate(invalid="ignore"):  # NaN as a whole number
                    yield name, file, {**case.files, file: {**tensors, name: array.astype(np.int64)}}
            turned = array.swapaxes(-1, -2) if array.ndim > 1 else array
            if turned.shape != array.shape:
                yield name, file, {**case.files, file: {**tensors, name: turned}}


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        formats.load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", CASES)
def test_every_wrong_tensor_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    read = [file for file in case.files if not case.is_part or "_1." in file]
    for number, (tensor, file, files) in enumerate(mutations(case)):
        if file in read:
            message = refused(case.write(tmp_path / str(number), files))
            assert Path(file).name in message, (tensor, file, message)
            assert tensor in message or tensor.replace("W_", "w_") in message, (tensor, file, message)


@pytest.mark.parametrize("name", CASES)
def test_every_truncated_or_missing_file_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for number, file in enumerate(file for file in case.files if not case.is_part or "_1." in file):
        path = case.write(tmp_path / str(number))
        damaged = tmp_path / str(number) / file
        damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        assert Path(file).name in refused(path)
        damaged.unlink()
        assert refused(path)


def test_a_crosscoder_of_dictionary_learning_gets_its_hook_points_when_it_is_converted(tmp_path: Path) -> None:
    path, names = (
        CASES["dictionary_learning crosscoder"].write(tmp_path),
        [f"blocks.{i}.hook_resid_post" for i in (1, 4, 6)],
    )
    assert "sae convert ... --hook NAME --hook NAME --hook NAME" in formats.peek(path).notes[0]
    flags = [word for name in names for word in ("--hook", name)]
    done = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "own"), *flags])
    assert done.exit_code == 0, done.stderr
    assert formats.load(tmp_path / "own").reads == formats.peek(tmp_path / "own").writes == tuple(names)
    done = CliRunner().invoke(main, ["convert", str(tmp_path / "own"), str(tmp_path / "again"), *flags])
    assert "names its hook points itself" in done.stderr


@pytest.mark.parametrize(
    ("name", "file", "changes", "message"),
    [
        ("sparsify skip", "layers.5.mlp/cfg.json", {"signed": True}, "signed is on"),
        ("saelens transcoder", "t/cfg.json", {"apply_b_dec_to_input": True}, "apply_b_dec_to_input is on"),
        ("saelens transcoder", "t/cfg.json", {"normalize_activations": "layer_norm"}, "of transcoders only none"),
        (
            "saelens transcoder",
            "t/cfg.json",
            {"metadata": {"hook_name": "blocks.0.hook_mlp_in"}},
            "metadata.hook_name_out",
        ),
        ("saelens transcoder", "t/cfg.json", {"d_out": None}, "'d_out' is None"),
        ("saelens temporal", "t/cfg.json", {"n_heads": 5}, "24 features are not a multiple of n_heads 5 times"),
        ("saelens temporal", "t/cfg.json", {"kval_topk": 25}, "k is 25, expected 1 to 24"),
        ("saelens temporal", "t/cfg.json", {"sae_diff_type": "jumprelu"}, "sae_diff_type is 'jumprelu'"),
        ("temporal", None, {"sae": {}}, "lacks 'scaling_factor'"),
        ("saelens transcoder", "t/cfg.json", {"architecture": ["gated"]}, "architecture a list is not supported"),
        ("llama_scope", f"{LLAMA}/hyperparams.json", {"act_fn": "topk"}, "act_fn is 'topk'"),
        ("llama_scope", f"{LLAMA}/hyperparams.json", {"jump_relu_threshold": "1"}, "jump_relu_threshold is '1'"),
        ("llama_scope", f"{LLAMA}/hyperparams.json", {"dataset_average_activation_norm": {"in": 0}}, "in is 0"),
        ("circuit_tracer relu", "set/config.yaml", {"feature_input_hook": None}, "'feature_input_hook' is None"),
        ("circuit_tracer relu", "set/config.yaml", {"feature_input_hook": "mlp.hook_out"}, "are both mlp.hook_out"),
        (
            "dictionary_learning crosscoder",
            "c/config.json",
            {"trainer": {"dict_class": "AutoEncoderX"}},
            "CrossCoder are",
        ),
        ("gemma_scope_2 affine", None, {"architecture": "topk"}, "architecture 'topk' is not supported"),
        ("gemma_scope_2 affine", None, {"hf_hook_point_in": "model.norm"}, "hook point 'model.norm' is not known"),
        (
            "gemma_scope_2_layers crosscoder",
            None,
            {"hf_hook_point_in": "model.layers.{1,2}.output"},
            "there are 3 files",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(
    name: str, file: str | None, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = CASES[name].write(tmp_path)
    about = tmp_path / (file or next(iter(CASES[name].texts)))
    about.write_text(json.dumps(yaml.safe_load(about.read_text()) | changes))
    assert message in refused(path)


def test_what_lies_beside_a_file_is_part_of_its_hash(tmp_path: Path) -> None:
    """A layer's decoder is in another file than its encoder, which is what is named."""
    path = CASES["circuit_tracer_layers one"].write(tmp_path)
    before = formats.recognise(path).content
    decoder = tmp_path / "clt/W_dec_1.safetensors"
    decoder.write_bytes(decoder.read_bytes() + b" ")
    assert formats.recognise(path).content != before


def test_sets_and_unnamed_modules_say_what_to_do(tmp_path: Path) -> None:
    folder = CASES["circuit_tracer relu"].write(tmp_path).parent
    (folder / "layer_7.safetensors").rename(folder / "layer_0.safetensors")
    assert "is a set of 1 transcoders; give one of them" in refused(folder)
    folder = CASES["sparsify transcoder"].write(tmp_path).rename(tmp_path / "encoder.5")
    assert "layers.N.mlp or h.N.mlp" in refused(folder)
    path = CASES["qwen_scope"].write(tmp_path).rename(tmp_path / "layer5.sae.pt")
    assert "k is in the release's config.json and in its name" in refused(path)
    clt = CASES["circuit_tracer_layers relu"].write(tmp_path)
    (clt / "W_enc_1.safetensors").unlink()
    assert "of some layers only" in refused(clt)
    clt = CASES["circuit_tracer_layers relu"].write(tmp_path / "joint")
    (clt / "config.yaml").rename(clt / "config.json")
    assert "whose layers share one top-k (ByteDance's), is not supported" in refused(clt)
    temporal = CASES["temporal"].write(tmp_path)
    (temporal / "conf.yaml").unlink()
    assert "conf.yaml, which a temporal autoencoder has" in refused(temporal)


def test_saelens_gets_transcoders_that_it_has(tmp_path: Path) -> None:
    """Written as version 6 has them and read back, with their skip and their hook points."""
    for name in ("jumprelu_skip_transcoder", "transcoder"):
        source = formats.load(CASES[f"saelens {name}"].write(tmp_path / name))
        formats.save(source, tmp_path / name / "again", "saelens")
        again = formats.load(tmp_path / name / "again")
        x_BD = torch.randn(B, source.d_in)
        assert torch.equal(again.reconstruct(x_BD), source.reconstruct(x_BD))
        assert (again.reads, again.writes) == (source.reads, source.writes)
        assert json.loads((tmp_path / name / "again/cfg.json").read_text())["architecture"] == name
    sparse = formats.load(CASES["sparsify skip"].write(tmp_path))
    with pytest.raises(UserError, match="SAELens' transcoders have ReLU or JumpReLU"):
        formats.save(sparse, tmp_path / "no", "saelens")


@pytest.mark.parametrize("name", ["Transcoder", "SkipTranscoder", "JumpReLUTranscoder", "JumpReLUSkipTranscoder"])
def test_saelens_itself(name: str, tmp_path: Path) -> None:
    """Saved by SAELens with random weights, read here; and ours, read by SAELens: outputs agree to 1e-5."""
    saes = library("sae_lens.saes.transcoder", "sae-lens")
    config = getattr(saes, f"{name}Config")(d_in=6, d_sae=20, d_out=4, apply_b_dec_to_input=False)
    config.metadata.hook_name, config.metadata.hook_name_out = "blocks.0.mlp.hook_in", "blocks.0.hook_mlp_out"
    theirs, generator = getattr(saes, name)(config), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs.save_model(tmp_path / "theirs")
    ours = formats.load(tmp_path / "theirs")
    formats.save(ours, tmp_path / "ours", "saelens")
    again, x_BD = library("sae_lens.saes", "sae-lens").SAE.load_from_disk(tmp_path / "ours"), torch.randn(B, 6)
    with torch.no_grad():
        for each in (theirs, again):
            torch.testing.assert_close(ours.encode(x_BD), each.encode(x_BD), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours.reconstruct(x_BD), each(x_BD), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"max_iterations": 2}, {"residual_threshold": 0.7}, {"residual_threshold": 0.0, "max_iterations": 9},
     {"stop_on_duplicate_support": False}, {"apply_b_dec_to_input": False}, {"normalize_activations": "layer_norm"}],
    ids=str,
)  # fmt: skip
def test_saelens_matching_pursuit_itself(options: dict[str, Any], tmp_path: Path) -> None:
    """Saved by SAELens with random rows, read here; and ours, read by SAELens: outputs agree to 1e-5."""
    saes = library("sae_lens.saes.matching_pursuit_sae", "sae-lens")
    theirs = saes.MatchingPursuitSAE(saes.MatchingPursuitSAEConfig(d_in=6, d_sae=20, **options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        theirs.W_dec.copy_(torch.nn.functional.normalize(torch.randn(20, 6, generator=generator)))
        theirs.b_dec.copy_(0.3 * torch.randn(6, generator=generator))
    theirs.save_model(tmp_path / "theirs")
    ours, x_BD = formats.load(tmp_path / "theirs"), torch.randn(B, 6, generator=generator)
    formats.save(ours, tmp_path / "ours", "saelens")
    again = library("sae_lens.saes", "sae-lens").SAE.load_from_disk(tmp_path / "ours")
    with torch.no_grad():
        for each in (theirs, again):
            torch.testing.assert_close(ours.encode(x_BD), each.encode(x_BD), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours.reconstruct(x_BD), each(x_BD), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"tied_weights": False, "n_attn_layers": 2}, {"sae_diff_type": "relu"},
     {"normalize_activations": "layer_norm"},
     {"normalize_activations": "constant_scalar_rescale", "activation_normalization_factor": 0.2},
     {"apply_b_dec_to_input": False}, {"apply_b_dec_to_input": False, "tied_weights": False}],
    ids=str,
)  # fmt: skip
def test_saelens_temporal_itself(options: dict[str, Any], tmp_path: Path) -> None:
    """Saved by SAELens with random weights, read here: outputs of three blocks agree to 1e-5."""
    saes = library("sae_lens.saes.temporal_sae", "sae-lens")
    sizes = {"d_in": 6, "d_sae": 24, "n_heads": 2, "bottleneck_factor": 3, "kval_topk": 5}
    theirs, generator = saes.TemporalSAE(saes.TemporalSAEConfig(**sizes | options)), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    theirs.save_model(tmp_path / "theirs")
    ours, x_NCD = formats.load(tmp_path / "theirs"), torch.randn(3, 9, 6, generator=generator)
    given_BD = ours.in_context(x_NCD).flatten(0, 1)
    with torch.no_grad():
        acts_NCF, written_NCD = theirs.encode(x_NCD), theirs(x_NCD)
    assert 0 < (acts_NCF > 0).float().mean() < 0.9
    torch.testing.assert_close(ours.encode(given_BD), acts_NCF.flatten(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.reconstruct(given_BD), written_NCD.flatten(0, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"transcode": True}, {"transcode": True, "skip_connection": True}], ids=str)
def test_sparsify_itself(options: dict[str, bool], tmp_path: Path) -> None:
    """Saved by sparsify with random weights, read here: outputs agree to 1e-5."""
    sparse_coder = library("sparsify.sparse_coder", "eai-sparsify")
    theirs = sparse_coder.SparseCoder(6, sparse_coder.SparseCoderConfig(num_latents=20, k=4, **options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs.save_to_disk(tmp_path / "layers.1.mlp")
    ours, x_BD = formats.load(tmp_path / "layers.1.mlp"), torch.randn(B, 6)
    with torch.no_grad():
        torch.testing.assert_close(ours.reconstruct(x_BD), theirs(x_BD).sae_out, atol=1e-5, rtol=1e-5)


RELEASES = {
    "gemma_scope_2 affine": ("gemma_3", "google/gemma-scope-2-4b-pt"),
    "gemma_scope_2 transcoder": ("gemma_3", "google/gemma-scope-2-4b-pt"),
    "gemma_scope_2 residual": ("gemma_3", "google/gemma-scope-2-4b-pt"),
    "gemma_scope transcoder": ("gemma_2_transcoder", "google/gemma-scope-2b-pt-transcoders"),
    "qwen_scope": ("qwen_scope", "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5"),
}


@pytest.mark.parametrize("name", RELEASES)
def test_releases_by_saelens_own_loaders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAELens' loader of a release, given the same local files instead of the hub's: outputs agree to 1e-5."""
    loaders = library("sae_lens.loading.pretrained_sae_loaders", "sae-lens")
    case, (kind, repository) = CASES[name], RELEASES[name]
    path = case.write(tmp_path)
    folder = tmp_path / repository.split("/")[1]

    def local(repo_id: str, filename: str, subfolder: str | None = None, **others: Any) -> str:
        wanted = folder / (subfolder or "") / filename
        if not wanted.is_file():
            raise loaders.EntryNotFoundError("not in this release")
        return str(wanted)

    monkeypatch.setattr(loaders, "hf_hub_download", local)
    monkeypatch.setattr(
        loaders, "get_safetensors_tensor_shapes",
        lambda repo_id, filename: {key: list(array.shape) for key, array in next(iter(case.files.values())).items()},
    )  # fmt: skip
    given = str(path.relative_to(folder))
    about, state, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS[kind](repository, given)
    ours = formats.load(path)
    assert (about["hook_name"].split(".")[1], about["model_name"]) == (ours.reads[0].split(".")[1], about["model_name"])
    saes = library("sae_lens.saes", "sae-lens")
    about |= {"d_in": 6, "d_sae": 20, "device": "cpu", "dtype": "float32"} | ({"d_out": 6} if "d_out" in about else {})
    theirs = saes.SAE.from_dict(loaders.handle_config_defaulting(about))
    theirs.load_state_dict(state)
    x_BD = torch.randn(B, 6)
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(x_BD), theirs.encode(x_BD), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.reconstruct(x_BD), theirs(x_BD), atol=1e-5, rtol=1e-5)
