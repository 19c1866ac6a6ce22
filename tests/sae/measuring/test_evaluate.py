"""Evaluations and comparisons against numpy, scipy and Hugging Face's own model, on all activations at once."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr
from torch import Tensor

from sae import formats
from sae.baselines import pca, random
from sae.common.errors import UserError
from sae.common.progress import Silent
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary, JumpReLU
from sae.measuring import compare, evaluate, metrics
from sae.measuring.compare import Comparison, Studied
from sae.measuring.correlation import Correlation
from sae.measuring.eval_text import read_blocks
from sae.models.subject import Subject, boot

HOOK, LATER = "hook_embed", "blocks.0.hook_resid_post"
CONTEXT = 20
"""Documents of 96 tokens then end in a padded block."""


@dataclass(frozen=True)
class World:
    """The planted model, by TransformerLens and by Hugging Face; its text; the words dictionary."""

    root: Path
    subject: Subject
    direct: Any
    blocks: Blocks
    words: Dictionary

    @property
    def x(self) -> NDArray[np.float64]:
        """All activations at hook_embed, straight from the embedding."""
        real_NC = np.arange(CONTEXT) < self.blocks.length_N[:, None]
        table: Tensor = self.direct.transformer.wte.weight.detach().double()
        return np.asarray(table.numpy()[self.blocks.ids_NC[real_NC]])


@pytest.fixture(scope="module")
def world(planted: Path) -> World:
    from transformers import GPT2LMHeadModel

    subject = boot(str(planted / "model"))
    blocks = read_blocks(subject, str(planted / "corpus.jsonl"), 6000, CONTEXT)
    direct = GPT2LMHeadModel.from_pretrained(planted / "model").eval()
    return World(planted, subject, direct, blocks, formats.load(planted / "dictionary"))


def measured(world: World, dictionary: Dictionary, hook_point: str = HOOK, **options: Any) -> evaluate.Evaluation:
    return evaluate.evaluate_all([dictionary], world.subject, hook_point, world.blocks, Silent, **options)[0]


def repeating(world: World) -> World:
    """Every block's first word again and again: an untrained model that shares its embeddings predicts that."""
    ids_NC = np.repeat(world.blocks.ids_NC[:, :1], CONTEXT, 1)
    return replace(world, blocks=replace(world.blocks, ids_NC=ids_NC))


def loss_of(world: World, embedded: Tensor) -> float:
    """Cross-entropy by Hugging Face on all blocks, with these vectors instead of the tokens' embeddings."""
    ids = torch.from_numpy(world.blocks.ids_NC).long()
    with torch.no_grad():
        logits = world.direct(inputs_embeds=embedded).logits
    flat = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    counted = torch.arange(1, CONTEXT) < torch.from_numpy(world.blocks.length_N)[:, None]
    return float(flat[counted].mean())


def test_the_planted_dictionary_by_hand(world: World) -> None:
    result, x = measured(world, world.words), world.x
    features = x[:, :8].clip(0)
    x_hat = np.concatenate([features, np.zeros_like(features)], 1)
    assert result.tokens == len(x) == world.blocks.n_tokens
    assert 5980 < result.tokens <= 6019
    assert result.l0 == pytest.approx((features > 0).sum(1).mean())
    assert result.fvu == pytest.approx(((x - x_hat) ** 2).sum() / ((x - x.mean(0)) ** 2).sum(), rel=1e-6)
    assert result.density.density_F.numpy() == pytest.approx((features > 0).mean(0))
    assert (result.density.dead, result.density.ultralow) == (0, None)
    assert result.density_median == pytest.approx(np.median((features > 0).mean(0)))
    norms = result.squared_norms
    expected = [(y**2).sum(1).mean() for y in (x, x_hat, x - x_hat)]
    assert [norms.activations, norms.reconstructions, norms.errors] == pytest.approx(expected, rel=1e-6)
    assert sum(result.histogram().counts) == 8


def test_losses_are_hugging_faces(world: World) -> None:
    world = repeating(world)
    losses = measured(world, world.words, loss_blocks=10**6).losses
    x = world.direct.transformer.wte.weight.detach()[torch.from_numpy(world.blocks.ids_NC).long()]
    x_hat = torch.cat([x[..., :8].relu(), torch.zeros_like(x[..., 8:])], -1)
    mean = torch.from_numpy(world.x.mean(0)).float().expand_as(x)
    expected = [loss_of(world, each) for each in (x, x_hat, torch.zeros_like(x), mean)]
    result = [losses.clean, losses.reconstructed, losses.zeroed, losses.averaged]
    assert result == pytest.approx(expected, rel=1e-5)
    assert min(expected[2:]) > expected[0]
    recovered = [1 - (expected[1] - expected[0]) / (ablated - expected[0]) for ablated in expected[2:]]
    assert [losses.recovered, losses.recovered_from_mean] == pytest.approx(recovered, rel=1e-3)


def test_loss_blocks_are_drawn_by_the_seed_and_told(world: World) -> None:
    some = [measured(world, world.words, seed=seed, loss_blocks=5) for seed in (0, 0, 1)]
    assert some[0].losses == some[1].losses != some[2].losses
    assert some[0].loss_blocks == 5
    assert measured(world, world.words, loss_blocks=10**6).loss_blocks == len(world.blocks.ids_NC)


def test_an_identity_recovers_everything(world: World) -> None:
    world = repeating(world)
    result = measured(world, pca.pca(torch.from_numpy(world.x).float()))
    assert result.fvu == pytest.approx(0, abs=1e-9)
    assert result.losses.recovered == pytest.approx(1, abs=1e-4)
    assert result.losses.recovered_from_mean == pytest.approx(1, abs=1e-4)


def test_directions_by_hand(world: World) -> None:
    doubled = replace(world.words, W_dec_FD=2 * world.words.W_dec_FD[torch.tensor([0, 0, 2, 3, 4, 5, 6, 7])])
    result = evaluate.directions(doubled)
    assert result.decoder_norms == (2, 2, 2)
    assert result.nearest is not None
    assert result.nearest.similarity_F.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert result.paired.similarity_F.tolist() == [1, 0, 1, 1, 1, 1, 1, 1]
    assert evaluate.directions(doubled, cosines=False).nearest is None


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each call of the language model for activations had."""
    sizes: list[int] = []
    original = Subject.activations_at

    def counting(self: Subject, ids_NC: Tensor, hook_points: Sequence[str]) -> dict[str, Tensor]:
        sizes.append(len(ids_NC))
        return original(self, ids_NC, hook_points)

    monkeypatch.setattr(Subject, "activations_at", counting)
    return sizes


def test_several_dictionaries_share_one_pass(world: World, read: list[int]) -> None:
    pair = [world.words, pca.pca(torch.from_numpy(world.x).float())]
    both = evaluate.evaluate_all(pair, world.subject, HOOK, world.blocks, Silent)
    assert sum(read) == len(world.blocks.ids_NC) + 3  # and one probe of the width for each, and for the ablations
    assert max(read) <= 32
    assert [each.to_json() for each in both] == [measured(world, each).to_json() for each in pair]


@pytest.mark.slow
def test_long_blocks_are_read_a_few_at_a_time(world: World, read: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(world, world.words)
    read.clear()
    monkeypatch.setattr(metrics, "TOKENS", 5 * CONTEXT + 3)
    result = measured(world, world.words)
    assert max(read) == 5
    assert torch.equal(result.density.density_F, whole.density.density_F)
    assert [result.fvu, result.losses.reconstructed] == pytest.approx([whole.fvu, whole.losses.reconstructed], rel=1e-6)


def test_cosines_are_left_out_where_they_are_not_wanted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "max_cosine_within", None)
    result = measured(world, world.words, cosines=False)
    assert result.directions.nearest is None
    assert result.to_json()["decoder_max_cosine"] is None


def test_what_cannot_be_measured_is_refused(world: World) -> None:
    with pytest.raises(UserError, match="does not hold one vector per token"):
        measured(world, world.words, "blocks.0.attn.hook_pattern")
    with pytest.raises(UserError, match=r"reads vectors of width 16, but .* 64 wide"):
        measured(world, world.words, "blocks.0.mlp.hook_post")
    huge = replace(world.words, W_enc_DF=world.words.W_enc_DF * 3e38)
    with pytest.raises(UserError, match="words: its reconstructions are not all finite"):
        measured(world, huge)
    with pytest.raises(UserError, match="words holds weights that are not finite"):
        measured(world, replace(world.words, W_enc_DF=world.words.W_enc_DF * torch.nan))
    with pytest.raises(UserError, match=r"words holds weights that are not finite \(threshold_F\)"):
        measured(world, replace(world.words, activation=JumpReLU(torch.full((8,), torch.nan))))
    single = Blocks(np.zeros((3, 4), np.int32), np.ones(3, np.int32), *[np.arange(3, dtype=np.int32)] * 2)
    with pytest.raises(UserError, match="no two tokens in a row"):
        evaluate.evaluate_all([world.words], world.subject, HOOK, single, Silent)


def compared(world: World, a: Dictionary, b: Dictionary, at: tuple[str, str] = (HOOK, HOOK)) -> Comparison:
    sides = (Studied(each, world.subject, hook) for each, hook in zip((a, b), at, strict=True))
    return compare.compare(*sides, world.blocks, Silent)


def test_a_permuted_copy_is_the_same(world: World) -> None:
    order = torch.tensor([3, 1, 0, 7, 2, 5, 6, 4])
    words = world.words
    copy = replace(words, W_enc_DF=words.W_enc_DF[:, order], b_enc_F=words.b_enc_F, W_dec_FD=words.W_dec_FD[order])
    result = compared(world, words, copy)
    assert result.mmcs is not None
    for each in (result.mmcs, result.universality):
        assert (each.a_to_b.mean, each.b_to_a.mean) == (pytest.approx(1), pytest.approx(1))
        assert each.b_to_a.match_F.tolist() == order.tolist()


def test_scales_beside_the_weights_do_not_change_cosines(world: World) -> None:
    """Every dimension has another one, as a crosscoder's layers may."""
    scale_D, words = torch.linspace(0.1, 3, 16), world.words
    scaled = replace(words, W_dec_FD=words.W_dec_FD.roll(1, 1) * scale_D, write_scale_E=scale_D)
    result = compared(world, replace(words, W_dec_FD=words.W_dec_FD.roll(1, 1)), scaled)
    assert result.mmcs is not None
    assert result.mmcs.a_to_b.similarity_F.tolist() == pytest.approx([1.0] * 8)


@pytest.mark.parametrize("pairs", [1, 40, 10**9])
def test_universality_is_scipys_in_however_many_passes(
    world: World, read: list[int], monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    monkeypatch.setattr(compare, "PAIRS", pairs)
    directions = random.random_directions(torch.from_numpy(world.x).float(), 1)
    result = compared(world, world.words, directions)
    passes = -(-8 // max(1, pairs // 32))
    assert sum(read) == passes * len(world.blocks.ids_NC) + 2
    x_BD = torch.from_numpy(world.x).float()
    a, b = (each.encode(x_BD).double().numpy() for each in (world.words, directions))  # scipy keeps single precision
    expected = np.array([[pearsonr(one, other).statistic for other in b.T] for one in a.T])
    assert result.universality.a_to_b.similarity_F.numpy() == pytest.approx(expected.max(1), abs=1e-6)
    assert result.universality.b_to_a.similarity_F.numpy() == pytest.approx(expected.max(0), abs=1e-6)
    assert result.universality.b_to_a.match_F.tolist() == expected.argmax(0).tolist()
    assert result.tokens == len(x_BD)


def test_several_passes_are_announced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []

    class Told(Silent):
        def say(self, line: str) -> None:
            reported.append(line)

    side = Studied(world.words, world.subject, HOOK)
    compare.compare(side, side, world.blocks, Told)
    assert not reported
    monkeypatch.setattr(compare, "PAIRS", 24)
    compare.compare(side, side, world.blocks, Told)
    assert [line.split(":")[0] for line in reported] == ["3 passes of the text"]


def test_the_sums_of_one_pass_are_gone_before_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []

    class Counted(Correlation):
        def __init__(self, *sizes: Any) -> None:
            alive.append(len([one for one in made if one() is not None]))
            made.append(weakref.ref(self))
            super().__init__(*sizes)

    made: list[weakref.ref[Counted]] = []
    monkeypatch.setattr(compare, "Correlation", Counted)
    monkeypatch.setattr(compare, "PAIRS", 24)
    compared(world, world.words, world.words)
    assert alive == [0, 0, 0]


def test_activations_of_the_other_side_that_are_not_finite(world: World) -> None:
    huge = replace(world.words, name="huge", W_enc_DF=world.words.W_enc_DF * 3e38)
    with pytest.raises(UserError, match="dictionary huge: the activations of its features are not all finite"):
        compared(world, world.words, huge)


def test_hook_points_without_a_basis_in_common_have_no_mmcs(world: World) -> None:
    """The heads' outputs are as wide as the residual stream, and nothing else."""
    assert compared(world, world.words, world.words, (HOOK, LATER)).mmcs is not None
    result = compared(world, world.words, world.words, (HOOK, "blocks.0.attn.hook_z"))
    assert result.mmcs is None
    assert result.to_json()["mmcs"] is None
    assert result.universality.a_to_b.mean is not None
    assert compared(world, world.words, world.words, ("blocks.0.attn.hook_z",) * 2).mmcs is not None


def test_two_hook_points_of_one_model(world: World) -> None:
    """After the block the words are still there, but not alone."""
    result = compared(world, world.words, world.words, (HOOK, LATER)).universality.a_to_b
    x_NCD = world.subject.activations(torch.from_numpy(world.blocks.ids_NC).long(), LATER)
    later_BD = x_NCD[torch.arange(CONTEXT) < torch.from_numpy(world.blocks.length_N)[:, None]]
    b = world.words.encode(later_BD).numpy()
    expected = [max(pearsonr(one, other).statistic for other in b.T) for one in world.x[:, :8].T]
    assert result.similarity_F.numpy() == pytest.approx(np.array(expected), abs=1e-5)


@pytest.fixture(scope="module")
def other(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wider model with the same tokenizer, whose first dimensions are the same words times ten."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("other")
    for file in (world.root / "model").glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    model = GPT2LMHeadModel(GPT2Config(vocab_size=25, n_positions=32, n_embd=24, n_layer=1, n_head=2))
    with torch.no_grad():
        model.transformer.wte.weight[:, :8] = 10 * world.direct.transformer.wte.weight[:, :8]
    model.save_pretrained(folder)
    return folder


def test_two_models_have_universality_but_no_mmcs(world: World, other: Path) -> None:
    eye = torch.eye(24)[:, :8].contiguous()
    wide = Dictionary("wide", "sae", eye, torch.zeros(8), eye.T.contiguous(), torch.zeros(24))
    sides = Studied(world.words, world.subject, HOOK), Studied(wide, boot(str(other)), HOOK)
    result = compare.compare(*sides, world.blocks, Silent)
    assert result.mmcs is None
    assert result.universality.a_to_b.mean == pytest.approx(1)
    assert result.universality.a_to_b.match_F.tolist() == list(range(8))
    reported = result.to_json()
    assert (reported["mmcs"], reported["b"]["model"]) == (None, str(other))


def test_two_models_must_share_their_tokenizer(world: World, other: Path) -> None:
    subject = boot(str(other))
    subject.tokenizer.add_tokens(["purple"])
    with pytest.raises(UserError, match="have different tokenizers"):
        compare.compare(
            Studied(world.words, world.subject, HOOK), Studied(world.words, subject, HOOK), world.blocks, Silent
        )
