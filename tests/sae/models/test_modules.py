"""Hook points named by modules (`hf:...`): activations, replacing, mistakes, and the commands on such a model.

The model is of a family that TransformerLens does not boot.
"""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from sae import formats
from sae.cli import main
from sae.common.errors import UserError
from sae.models.hook_names import names_modules
from sae.models.subject import Subject, boot
from tests.conftest import autointerp, make_once
from tests.sae.models.families import reference, write_model

MLP = "hf:model.layers.1.mlp"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_once(tmp_path_factory, "helium", lambda folder: write_model("helium", folder))


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    return boot(str(model), prepend_bos=True, hook_points=(MLP,))


@pytest.fixture(scope="module")
def ids_NC() -> Tensor:
    return torch.randint(2, 42, (3, 12), generator=torch.Generator().manual_seed(0))


def with_bos(ids_NC: Tensor) -> Tensor:
    return torch.cat([torch.ones((len(ids_NC), 1), dtype=torch.long), ids_NC], 1)


def test_activations_are_what_a_module_returns_and_is_called_with(
    model: Path, subject: Subject, ids_NC: Tensor
) -> None:
    plain, seen = reference(model), dict[str, Tensor]()
    layer = plain.model.layers[1]
    layer.mlp.register_forward_hook(lambda _m, args, out: seen.update({MLP: out, f"{MLP}:in": args[0]}))
    attention = "hf:model.layers.1.self_attn"  # called with keywords, returns its weights too
    layer.self_attn.register_forward_hook(lambda _m, _a, out: seen.update({attention: out[0]}))
    layer.input_layernorm.register_forward_hook(lambda _m, _a, out: seen.update({f"{attention}:in": out}))
    with torch.no_grad():
        logits_NCV = plain(with_bos(ids_NC)).logits[:, 1:]
    acts = subject.activations_at(ids_NC, [MLP, f"{MLP}:in", attention, f"{attention}:in"])
    for name, value in seen.items():
        torch.testing.assert_close(acts[name], value[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(subject.logits(ids_NC), logits_NCV, atol=1e-5, rtol=1e-5)
    assert (subject.width(MLP), subject.width("hf:model.layers.0.mlp.down_proj:in"), subject.vocabulary) == (16, 24, 64)


@pytest.mark.parametrize(("name", "attribute"), [(MLP, "mlp"), ("hf:model.layers.1.self_attn", "self_attn")])
def test_replacing_a_modules_output_gives_the_losses_of_a_model_that_returns_that(
    model: Path, subject: Subject, ids_NC: Tensor, name: str, attribute: str
) -> None:
    plain = reference(model)

    def doubled(_m: object, _a: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        acts_NCD = output if isinstance(output, Tensor) else output[0]
        changed = torch.cat([acts_NCD[:, :1], 2 * acts_NCD[:, 1:]], 1)  # the BOS token's stays
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    getattr(plain.model.layers[1], attribute).register_forward_hook(doubled)
    with torch.no_grad():
        logits_NCV = plain(with_bos(ids_NC)).logits[:, 1:]
    replaced = subject.logits(ids_NC, {name: lambda x_NCD: 2 * x_NCD})
    torch.testing.assert_close(replaced, logits_NCV, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(replaced, subject.logits(ids_NC), atol=1e-2)
    unchanged = subject.losses(ids_NC, {name: lambda x_NCD: x_NCD})
    torch.testing.assert_close(unchanged, subject.losses(ids_NC), atol=1e-6, rtol=1e-6)


def test_replacing_what_a_module_is_called_with(subject: Subject, ids_NC: Tensor) -> None:
    """Nothing else reads an MLP's input: without it the MLP, which has no bias, writes nothing."""
    by_input = subject.logits(ids_NC, {f"{MLP}:in": torch.zeros_like})
    torch.testing.assert_close(by_input, subject.logits(ids_NC, {MLP: torch.zeros_like}))
    attention = "hf:model.layers.1.self_attn"
    by_input = subject.logits(ids_NC, {f"{attention}:in": lambda x_NCD: 0.5 * x_NCD})
    assert not torch.allclose(by_input, subject.logits(ids_NC), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:model.layers.1.mpl", r"no hook point 'hf:model.layers.1.mpl'; did you mean .*hf:model.layers.1.mlp"),
        ("model.layers.1.mlp", r"did you mean .*hf:model.layers.1.mlp"),
        ("blocks.1.hook_mlp_out", r"no hook point 'blocks.1.hook_mlp_out'.*hf:"),
        ("hf:model.rotary_emb", r"hf:model.rotary_emb is no hook point: the module returns not one vector per token"),
        ("hf:model", r"the module returns no tensor of numbers \(BaseModelOutputWithPast\); choose another$"),
        ("hf:model.layers", r"the module does not run by itself in a pass"),
    ],
)
def test_a_wrong_module_is_one_line(subject: Subject, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        subject.width(name)
    assert "\n" not in str(caught.value)


def test_a_mixture_of_names_is_refused() -> None:
    assert names_modules([MLP, f"{MLP}:in"])
    assert not names_modules(["hook_embed"])
    assert not names_modules([])
    with pytest.raises(UserError, match=r"run them apart"):
        names_modules([MLP, "hook_embed"])
    with pytest.raises(UserError, match=r"hf::in names no module; write hf:MODULE"):
        names_modules([MLP, "hf::in"])


def test_processed_weights_need_transformer_lens(model: Path) -> None:
    with pytest.raises(UserError, match=r"processed by TransformerLens \(fold_ln\)"):
        boot(str(model), processing={"fold_ln": True}, hook_points=(MLP,))


def test_modules_of_a_model_that_transformer_lens_boots_give_the_same_numbers(planted: Path, ids_NC: Tensor) -> None:
    by_modules = boot(str(planted / "model"), prepend_bos=False, hook_points=("hf:transformer.h.0.mlp",))
    by_lens = boot(str(planted / "model"), prepend_bos=False)
    ids_NC = ids_NC % 20
    acts = by_modules.activations(ids_NC, "hf:transformer.h.0.mlp")
    torch.testing.assert_close(acts, by_lens.activations(ids_NC, "blocks.0.hook_mlp_out"), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_train_eval_and_run_on_a_model_that_transformer_lens_does_not_boot(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(f"w{i}" for i in torch.randint(40, (200,), generator=generator).tolist()) for _ in range(150)]
    Path("corpus.txt").write_text("\n\n".join(texts))
    text = "--corpus corpus.txt --steps 20 --set corpus.context=32 --set batch=128 --set buffer=4096 "
    words = f"train --model {model} --hook {MLP}:in --writes {MLP} {text} --set corpus.held_out_tokens=4000 --out made"
    done = CliRunner().invoke(main, words.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    path = next(Path("made").glob("*/dictionary.json")).parent
    dictionary = formats.load(path)
    assert (dictionary.reads, dictionary.writes) == ((f"{MLP}:in",), (MLP,))
    done = CliRunner().invoke(main, ["eval", str(path), "--tokens", "2000"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "CE recovered" in done.output
    ran = autointerp(
        "run", "--dictionary", path, "--baselines", "neurons", "--features", 4, "--corpus", "corpus.txt",
        "--set", "corpus.context=32", "--set", "sampling.fragment=16", "--set", "runtime.pictures=[]",
        "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
