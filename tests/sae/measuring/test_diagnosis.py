"""`sae eval --diagnose`: each cause planted in turn is named, and what it suggests makes the dictionary fit."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae import formats
from sae.common.errors import UserError
from sae.data.blocks import Blocks
from sae.dictionary import Dictionary, MatchingPursuit
from sae.formats.changes import Changes, flags_of
from sae.measuring.diagnosis import diagnose
from sae.measuring.eval_text import read_blocks
from sae.measuring.misfit import misfit
from sae.models.subject import Subject, boot
from tests.conftest import FILLER, WORDS
from tests.sae.command_line import invoked
from tests.sae.test_dictionary import random_dictionary

D, RANK = 16, 4
AT, LATER, INTO_MLP = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post", "blocks.1.mlp.hook_in"
FOLDED, CENTRED = flags_of(["fold_ln"]), flags_of(["center_writing_weights"])


@dataclass(frozen=True)
class World:
    """A model of three layers, whose tokenizer has a BOS token, and some text."""

    model: Path
    corpus: Path
    subject: Subject
    blocks: Blocks

    def boot(self, processing: Any, prepend_bos: bool = False) -> Subject:
        return boot(str(self.model), "cpu", prepend_bos, processing)

    def acts(self, hook_point: str, subject: Subject | None = None) -> Tensor:
        ids_NC = torch.from_numpy(self.blocks.ids_NC).long()
        real_NC = torch.arange(ids_NC.shape[1]) < torch.from_numpy(self.blocks.length_N)[:, None]
        return (subject or self.subject).activations(ids_NC, hook_point)[real_NC]


@pytest.fixture(scope="module")
def world(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The planted model's text; every layer's output has a mean far from zero, as large models' have."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("diagnosis") / "model"
    vocabulary = {word: index for index, word in enumerate(("<unk>", *WORDS, *FILLER, "<bos>"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<bos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=33, n_embd=D, n_layer=3, n_head=2)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wte.weight.normal_()
        for block in model.transformer.h:
            block.attn.c_attn.weight[:, D:].normal_(0, 0.6)
            block.attn.c_proj.weight.normal_()
            block.mlp.c_proj.bias.normal_(8, 16)
            for norm in (block.ln_1, block.ln_2):
                norm.weight.uniform_(0.5, 2)
            block.ln_2.bias.normal_(0, 3)
        first = model.transformer.h[0]
        key_D = first.ln_1(model.transformer.wte.weight[-1]) @ first.attn.c_attn.weight[:, D : 2 * D]
        first.attn.c_attn.bias[:D] = 8 * key_D / key_D.norm()  # every token looks at the BOS token, if there is one
    model.save_pretrained(folder)
    subject = boot(str(folder), prepend_bos=False)
    return World(
        folder, planted / "corpus.jsonl", subject, read_blocks(subject, str(planted / "corpus.jsonl"), 1500, 16)
    )


def fitted(x_BD: Tensor, hook_point: str = AT, **changes: Any) -> Dictionary:
    """The mean of some vectors, and the directions in which they vary most, both ways."""
    mean_D = x_BD.mean(0)
    axes_RD = torch.linalg.svd(x_BD - mean_D, full_matrices=False)[2][:RANK]
    W_FD = torch.cat([axes_RD, -axes_RD])
    made = Dictionary("planted", "sae", W_FD.T.contiguous(), torch.zeros(2 * RANK), W_FD, mean_D)
    return replace(made.at(hook_point), metadata={"prepend_bos": False, "processing": {}}, **changes)


def without_bos(world: World) -> Dictionary:
    """Its files say that it was trained with BOS tokens, which it was not."""
    made = fitted(world.acts(AT))
    return replace(made, metadata=dict(made.metadata) | {"prepend_bos": True})


def scaled(world: World) -> Dictionary:
    x_BD = world.acts(AT)
    return fitted(x_BD * D**0.5 / x_BD.norm(dim=1).mean())


def normed(world: World) -> Dictionary:
    x_BD = world.acts(AT)
    return fitted((x_BD - x_BD.mean(1, keepdim=True)) / (x_BD.std(1, keepdim=True) + 1e-5))


def folded(world: World) -> Dictionary:
    return fitted(world.acts(INTO_MLP, world.boot(FOLDED)), INTO_MLP)


def centred(world: World) -> Dictionary:
    return fitted(world.acts(AT, world.boot(CENTRED)))


PLANTED: dict[str, tuple[Callable[[World], Dictionary], str, str]] = {
    "bos": (without_bos, "BOS token", "--no-bos"),
    "scale": (scaled, "scale", "--input-scale"),
    "layer norm": (normed, "scale", "--normalisation layer_norm"),
    "layer": (lambda world: fitted(world.acts(LATER)), "layer", f"--hook {LATER}"),
    "folded": (folded, "processing", "--processing fold_ln"),
    "centred": (centred, "processing", "--processing center_writing_weights"),
}


@pytest.mark.slow  # each boots the model five times or more
@pytest.mark.parametrize("planted_cause", PLANTED)
def test_each_cause_is_named_and_its_remedy_helps(
    planted_cause: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, cause, options = PLANTED[planted_cause]
    dictionary = make(world)
    subject = replace(world.subject, prepend_bos=dictionary.metadata["prepend_bos"])
    made = diagnose(
        dictionary, subject, world.blocks, lambda flags: world.boot(flags, subject.prepend_bos), {}, has_bos=True
    )
    assert made.fvu > (0.8 if planted_cause == "bos" else 1), made  # a BOS token moves this model's mean least
    assert made.best is not None
    assert (made.best.cause, made.best.options.startswith(options)) == (cause, True), made
    command = made.command("planted")
    assert command is not None
    monkeypatch.chdir(tmp_path)
    formats.save(replace(dictionary, model=str(world.model)), "planted")
    words = shlex.split(command)[1:]
    if words[0] == "convert":
        assert invoked(*words).exit_code == 0
        words = ["eval", "OUT"]
    done = invoked(*words, "--corpus", world.corpus, "--tokens", 1500, "--context", 16, "--out", "again.json")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("again.json").read_text())["fvu"] == pytest.approx(made.best.fvu, rel=1e-3)


def misfitting(world: World, folder: Path) -> list[object]:
    """The command that measures a dictionary of scaled activations."""
    formats.save(replace(scaled(world), model=str(world.model)), folder / "d")
    text = ["--corpus", world.corpus, "--tokens", 1500, "--context", 16]
    return ["eval", folder / "d", *text, "--out", folder / "m.json"]


def test_eval_tries_why_it_does_not_fit(world: World, tmp_path: Path) -> None:
    shown = invoked(*misfitting(world, tmp_path), "--diagnose").stdout
    assert "does not fit" not in shown
    assert "probable cause: scale; activations scaled to norm sqrt(d) on average, FVU is" in shown
    diagnosis = json.loads((tmp_path / "m.json").read_text())["diagnosis"]
    assert [trial["cause"] for trial in diagnosis["trials"]] == (
        ["BOS token"] + ["scale"] * 5 + ["layer"] * 2 + ["processing"] * 3
    )
    assert diagnosis["best"]["fvu"] < 0.5 < 1 < diagnosis["fvu"]
    assert (
        shown.splitlines()[-1]
        == f"next: sae convert {shlex.quote(str(tmp_path / 'd'))} OUT {diagnosis['best']['options']}"
    )


@pytest.mark.slow
def test_eval_says_in_one_line_that_it_does_not_fit(world: World, tmp_path: Path) -> None:
    """And of one that fits, that it does."""
    given = misfitting(world, tmp_path)
    (line,) = (line for line in invoked(*given).stdout.splitlines() if "does not fit" in line)
    assert "is worse than predicting the mean. Likely causes: a BOS token, the scale of the activations, a" in line
    assert line.endswith(f"to try each: sae eval {tmp_path / 'd'} --diagnose")
    fits = tmp_path / "fits"
    formats.save(replace(fitted(world.acts(AT)), model=str(world.model)), fits)
    assert "planted fits\n" in invoked("eval", fits, *given[2:], "--diagnose").stdout


def test_modules_of_transformers_are_diagnosed_without_processing(world: World) -> None:
    subject = boot(str(world.model), "cpu", False, hook_points=("hf:transformer.h.1",))
    dictionary = fitted(world.acts(LATER)).at("hf:transformer.h.1")

    def never(processing: Any) -> Subject:
        raise AssertionError("TransformerLens is not asked for")

    made = diagnose(dictionary, subject, world.blocks, never, {}, has_bos=True)
    assert made.best is not None
    assert (made.best.cause, made.best.options) == ("layer", "--hook hf:transformer.h.2")
    assert [(trial.cause, trial.fvu) for trial in made.trials][-1] == ("processing", None)


def test_only_trained_dictionaries_worse_than_the_mean_are_named() -> None:
    assert misfit("a", "sae", 1.0, "p") is misfit("a", "sae", None, "p") is misfit("a", "random", 3.0, "p") is None
    line = misfit("a", "sae", 3.217, "p")
    assert line is not None
    assert line.startswith("a does not fit these activations: FVU 3.22 is worse than predicting the mean")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input-scale", 2, "--output-scale", 3], "subtracts what it adds back; give --input-scale alone"),
        (["--input-scale", "inf"], "weights scaled by inf and 1/inf are not finite; give scales nearer to 1"),
        (["--input-scale", 1e39], "weights scaled by 1e+39 and 1/1e+39 are not finite"),
        (["--processing", "none", "--processing", "fold_ln"], "--processing none is given beside another one"),
        (["--input-scale", 0], "'--input-scale': 0.0 is not in the range x>0"),
        (["--processing", "fold"], "'--processing': 'fold' is not one of"),
    ],
)
def test_changes_that_make_no_sense_are_refused(flags: list[object], message: str, tmp_path: Path) -> None:
    formats.save(random_dictionary(), tmp_path / "d")
    assert message in invoked("convert", tmp_path / "d", tmp_path / "e", *flags).stderr
    assert not (tmp_path / "e").exists()


def test_a_scale_is_folded_in_exactly_or_refused() -> None:
    x_BD = torch.randn(30, D, generator=torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(4)
    W_enc_DF, b_enc_F, W_dec_FE, b_dec_E, skip_DE = (
        torch.randn(shape, generator=g) for shape in ((D, 9), (9,), (9, 5), (5,), (D, 5))
    )
    transcoder = Dictionary(
        "t", "sae", W_enc_DF, b_enc_F, W_dec_FE, b_dec_E, subtract_b_dec=False, reads=("a",), writes=("b",),
        W_skip_DE=skip_DE,
    )  # fmt: skip
    changed = Changes(input_scale=0.5, output_scale=4.0).applied(transcoder)
    torch.testing.assert_close(changed.reconstruct(x_BD), transcoder.reconstruct(0.5 * x_BD) / 4)
    with pytest.raises(UserError, match="--normalisation is for autoencoders"):
        Changes(normalisation="layer_norm").applied(transcoder)
    for fixed in (
        random_dictionary(normalisation="layer_norm"),
        random_dictionary(MatchingPursuit(torch.eye(6), 3, 0.1, stop_on_repeat=True)),
    ):
        with pytest.raises(UserError, match="no scale can be folded in"):
            Changes(input_scale=2.0).applied(fixed)
    assert Changes(processing=("none",)).applied(random_dictionary()).metadata == {"processing": {}}
