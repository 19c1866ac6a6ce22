"""A transcoder, a crosscoder, a cross-layer transcoder and a temporal autoencoder on a small model, against Hugging
Face's own modules.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor

import autointerp
from sae import formats
from sae.cli import main
from sae.common.progress import Silent
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary, JumpReLU
from sae.measuring.eval_text import read_blocks
from sae.measuring.evaluate import evaluate_all
from sae.models.subject import Subject, boot
from tests.sae.release_files import CLT_ABOUT, cross_layer, drawn
from tests.sae.release_files import Case as Release
from tests.sae.temporal_files import saelens_case

D, M, CONTEXT = 16, 24, 16


@dataclass(frozen=True)
class World:
    """A model of two layers, by TransformerLens and by Hugging Face, some text, and paths of dictionaries."""

    model: Path
    subject: Subject
    direct: Any
    blocks: Blocks
    corpus: Path
    paths: dict[str, Path]


@pytest.fixture(scope="module")
def world(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    root = tmp_path_factory.mktemp("transcoders")
    tokenizer = AutoTokenizer.from_pretrained(planted / "model")
    tokenizer.save_pretrained(root / "model")
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=D, n_layer=2, n_head=2)
    direct = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in direct.parameters():
            parameter.mul_(4)  # so that the MLPs matter for the loss
    direct.save_pretrained(root / "model")
    subject = boot(str(root / "model"))
    blocks = read_blocks(subject, str(planted / "corpus.jsonl"), 3000, CONTEXT)
    paths = {each.name: root / each.name for each in (transcoder(), crosscoder())}
    for path, dictionary in zip(paths.values(), (transcoder(), crosscoder()), strict=True):
        formats.save(replace(dictionary, model=str(root / "model")), path)
    paths["clt"] = clt(root)
    temporal = formats.load(saelens_case(0.5, width=D, kval_topk=None).write(root)).at("blocks.0.hook_resid_post")
    paths["temporal"] = root / "temporal"
    formats.save(replace(temporal, name="temporal", model=str(root / "model")), paths["temporal"])
    return World(root / "model", subject, direct, blocks, planted / "corpus.jsonl", paths)


def random_weights(d_in: int, d_out: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = ((d_in, M), (M,), (M, d_out), (d_out,))
    W_enc_DF, b_enc_F, W_dec_FE, b_dec_E = (0.3 * torch.randn(shape, generator=g) for shape in shapes)
    return W_enc_DF, b_enc_F, W_dec_FE, b_dec_E


def transcoder() -> Dictionary:
    skip_DE = 0.2 * torch.randn(D, D, generator=torch.Generator().manual_seed(5))
    return Dictionary(
        "transcoder", "sae", *random_weights(D, D, 2), JumpReLU(torch.full((M,), 0.3)), subtract_b_dec=False,
        reads=("blocks.1.mlp.hook_in",), writes=("blocks.1.hook_mlp_out",), W_skip_DE=skip_DE,
    )  # fmt: skip


def crosscoder() -> Dictionary:
    at = ("blocks.0.hook_resid_pre", "blocks.0.hook_resid_post")
    return Dictionary("crosscoder", "sae", *random_weights(2 * D, 2 * D, 3), subtract_b_dec=False, reads=at, writes=at)


def clt(root: Path) -> Path:
    """Two layers in circuit-tracer's files."""
    files = {}
    for i in range(2):
        shapes = {f"W_enc_{i}": (M, D), f"b_enc_{i}": (M,), f"b_dec_{i}": (D,)}
        files[f"clt/W_enc_{i}.safetensors"] = drawn(20 + i, **shapes)
        files[f"clt/W_dec_{i}.safetensors"] = drawn(30 + i, **{f"W_dec_{i}": (M, 2 - i, D)})
    about = yaml.safe_load(CLT_ABOUT) | {"feature_input_hook": "mlp.hook_in", "model_name": str(root / "model")}
    texts = {"clt/config.yaml": yaml.safe_dump(about)}
    return Release("clt", files, cross_layer, (), (), texts).write(root)


Site = tuple[Callable[[Any], Any], bool]
"""A module of the model, and whether its input is meant, not its output."""
SITES: dict[str, Site] = {
    "blocks.0.mlp.hook_in": (lambda model: model.transformer.h[0].mlp, True),
    "blocks.1.mlp.hook_in": (lambda model: model.transformer.h[1].mlp, True),
    "blocks.0.hook_mlp_out": (lambda model: model.transformer.h[0].mlp, False),
    "blocks.1.hook_mlp_out": (lambda model: model.transformer.h[1].mlp, False),
    "blocks.0.hook_resid_pre": (lambda model: model.transformer.h[0], True),
    "blocks.0.hook_resid_post": (lambda model: model.transformer.h[0], False),
}


@contextmanager
def at_sites(model: Any, change: Callable[[str, Tensor], Tensor], names: tuple[str, ...]) -> Iterator[None]:
    """Let `change` see, and replace, what passes at the sites."""

    def before(name: str) -> Any:
        return lambda module, inputs: (change(name, inputs[0]), *inputs[1:])

    def after(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> Any:
            return (change(name, output[0]), *output[1:]) if isinstance(output, tuple) else change(name, output)

        return hook

    handles = []
    for name in names:
        module, is_input = SITES[name][0](model), SITES[name][1]
        handles.append(
            module.register_forward_pre_hook(before(name)) if is_input else module.register_forward_hook(after(name))
        )
    yield
    for handle in handles:
        handle.remove()


@torch.no_grad()
def passing(world: World, ids: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return what passes at the sites, side by side, [N, C, D]."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        return seen.setdefault(name, value.clone())

    with at_sites(world.direct, keep, names):
        world.direct(ids)
    return torch.cat([seen[name] for name in names], -1)


@torch.no_grad()
def loss(world: World, names: tuple[str, ...] = (), value: Tensor | None = None) -> float:
    """Return the loss of all real tokens with a value, side by side, at the sites."""
    ids = torch.from_numpy(world.blocks.ids_NC).long()
    parts = {} if value is None else dict(zip(names, value.split(D, -1), strict=True))
    with at_sites(world.direct, lambda name, old: parts[name].expand_as(old), names):
        logits = world.direct(ids).logits
    flat = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    counted = torch.arange(1, CONTEXT) < torch.from_numpy(world.blocks.length_N)[:, None]
    return float(flat[counted].mean())


@pytest.mark.parametrize("name", ["transcoder", "crosscoder", "clt", "temporal"])
def test_fvu_and_cross_entropy_are_of_what_is_written(name: str, world: World) -> None:
    dictionary = formats.load(world.paths[name])
    ids = torch.from_numpy(world.blocks.ids_NC).long()
    real_NC = torch.arange(CONTEXT) < torch.from_numpy(world.blocks.length_N)[:, None]
    x, y = passing(world, ids, dictionary.reads), passing(world, ids, dictionary.writes)
    given = dictionary.in_context(x)
    made = dictionary.reconstruct(given.flatten(0, 1)).view_as(y)
    spread = (y - y[real_NC].mean(0))[real_NC].square().sum()
    result = evaluate_all([dictionary], world.subject, dictionary.reads[0], world.blocks, Silent)[0]
    assert result.fvu == pytest.approx(float((y - made)[real_NC].square().sum() / spread), rel=1e-4)
    assert result.l0 == pytest.approx(float((dictionary.encode(given[real_NC]) > 0).sum(1).double().mean()), rel=1e-6)
    clean, zeroed = loss(world), loss(world, dictionary.writes, torch.zeros_like(y))
    averaged = loss(world, dictionary.writes, y[real_NC].mean(0).expand_as(y))
    reconstructed = loss(world, dictionary.writes, made)
    expected = [clean, reconstructed, zeroed, averaged]
    losses = result.losses
    assert [losses.clean, losses.reconstructed, losses.zeroed, losses.averaged] == pytest.approx(expected, rel=1e-4)
    assert abs(reconstructed - clean) > 1e-3
    assert (result.hook_point, result.writes) == ("+".join(dictionary.reads), "+".join(dictionary.writes))


def test_one_layer_of_a_cross_layer_transcoder_has_features_but_no_reconstruction(world: World) -> None:
    whole, part = formats.load(world.paths["clt"]), formats.load(world.paths["clt"] / "W_enc_1.safetensors")
    x_BD = torch.randn(30, 2 * D)
    assert torch.allclose(part.encode(x_BD[:, D:]), whole.encode(x_BD)[:, M:], atol=1e-6)
    result = evaluate_all([part], world.subject, "unused", world.blocks, Silent)[0].to_json()
    assert (result["fvu"], result["ce_recovered"]) == (None, None)
    assert result["l0"] > 0


def test_sae_eval_and_info(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [str(path) for path in world.paths.values()]
    given = ["--model", str(world.model), "--corpus", str(world.corpus), "--tokens", "500", "--context", str(CONTEXT)]
    done = CliRunner().invoke(main, ["eval", *paths, *given, "--against", paths[0]])
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in tmp_path.glob("*.json")} == {f"{name}.metrics.json" for name in world.paths}
    shown = CliRunner().invoke(main, ["info", paths[0]]).output
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert {"reads blocks.1.mlp.hook_in", "writes blocks.1.hook_mlp_out", "linear map past the features yes"} <= lines
    shown = CliRunner().invoke(main, ["info", str(world.paths["temporal"])]).output
    assert "predicted from the tokens before by 1 attention layers" in " ".join(shown.split())
    done = CliRunner().invoke(main, ["eval", paths[0], "--model", str(world.model), "--hook", "hook_embed", *given[2:]])
    assert done.exit_code == 0, done.stderr  # a transcoder names its own


@pytest.mark.slow
def test_a_run_on_all_of_them(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are Hugging Face's activations; the model is read in one pass; baselines stand at what is read.

    Fragments are halves of what the model reads at once, so that a temporal autoencoder's context is not theirs.
    """
    passes: list[set[str]] = []
    original = Subject.activations_at

    def noted(self: Subject, ids_NC: Tensor, hook_points: Any) -> dict[str, Tensor]:
        passes.append(set(hook_points))
        return original(self, ids_NC, hook_points)

    monkeypatch.setattr(Subject, "activations_at", noted)
    paths = [*world.paths.values(), world.paths["clt"] / "W_enc_1.safetensors"]
    settings = {
        "subject.model": str(world.model), "corpus.source": str(world.corpus), "corpus.context": CONTEXT,
        "sampling.fragment": CONTEXT // 2, "sampling.features": 3, "dictionaries.load": [str(path) for path in paths],
        "dictionaries.baselines": ["neurons"], "explainers": ["rules-2"], "corpus.max_tokens": 8000,
        "runtime.out": str(tmp_path / "run"), "runtime.pictures": [], "runtime.site": False,
    }  # fmt: skip
    run = autointerp.run("dictionary", settings, report=Silent)
    loaded = {each.name: each for each in map(formats.load, paths)}
    reads = {name for each in loaded.values() for name in each.reads}
    assert reads in passes
    rows = run.leaderboard().drop_duplicates("dictionary").set_index("dictionary")
    for name, dictionary in loaded.items():
        assert rows.loc[name, "hook_point"] == dictionary.hook_point
        assert rows.loc[name, "fvu"] > 0 or dictionary.is_part
        assert dictionary.is_part == bool(np.isnan(float(rows.loc[name, "fvu"] or np.nan)))
    assert set(rows.index) == {*loaded, *(f"neurons@{name}" for name in reads)}
    ids = torch.from_numpy(read_blocks(world.subject, str(world.corpus), 8000, CONTEXT).ids_NC).long()
    acts = {name: _by_fragment(world, ids, dictionary) for name, dictionary in loaded.items()}
    texts = world.subject.token_strings()
    tokens = [[texts[index] for index in half] for half in ids.reshape(-1, CONTEXT // 2).tolist()]
    for record in run.features:
        if record.id.dictionary in loaded:
            _check(tokens, acts[record.id.dictionary][..., record.id.index], record)


def _by_fragment(world: World, ids: Tensor, dictionary: Dictionary) -> Tensor:
    """Features of all halves of all blocks, [M, L, F]."""
    given = dictionary.in_context(passing(world, ids, dictionary.reads))
    return dictionary.encode(given.flatten(0, 1)).view(-1, CONTEXT // 2, dictionary.n_features)


def _check(tokens: list[list[str]], acts_ML: Tensor, record: Any) -> None:
    """A fragment's activations are those of a half block of the same tokens."""
    for fragment in (*record.explain, *record.score)[:4]:
        same = [row for row, each in enumerate(tokens) if each == list(fragment.tokens)]
        assert any(list(fragment.activations) == pytest.approx(acts_ML[row].tolist(), abs=1e-4) for row in same)
