"""Language models with damaged checkpoints, configs and tokenizers: none is loaded, and the line names the tensor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sae.models.subject import boot
from tests.inputs.harness import FOREIGN, JSONS, copied, refused, refuses, spoilers, zipped

TENSORS = (
    "transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias",
    "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias", "transformer.h.0.ln_2.weight",
    "transformer.h.0.ln_2.bias", "transformer.h.0.attn.c_attn.weight", "transformer.h.0.attn.c_attn.bias",
    "transformer.h.0.attn.c_proj.weight", "transformer.h.0.attn.c_proj.bias", "transformer.h.0.mlp.c_fc.weight",
    "transformer.h.0.mlp.c_fc.bias", "transformer.h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj.bias",
)  # fmt: skip
WEIGHTS = "model.safetensors"


@pytest.fixture
def model(planted: Path, tmp_path: Path) -> Path:
    return copied(planted / "model", tmp_path / "model")


def rewrite(model: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(model / WEIGHTS)
    change(tensors)
    save_file(tensors, model / WEIGHTS, {"format": "pt"})


def test_these_are_the_models_tensors(model: Path) -> None:
    assert set(load_file(model / WEIGHTS)) == set(TENSORS)


@pytest.mark.parametrize("name", TENSORS)
def test_a_missing_tensor_is_named(name: str, model: Path) -> None:
    rewrite(model, lambda tensors: tensors.pop(name))
    refuses(lambda: boot(str(model)), name)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_another_shape_is_named(name: str, model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({name: torch.ones(3)}))
    refuses(lambda: boot(str(model)), name)


@pytest.mark.parametrize("name", ["score.weight", "transformer.h.1.ln_1.weight", "model.layers.0.mlp.up_proj.weight"])
def test_a_tensor_too_many_is_named(name: str, model: Path) -> None:
    rewrite(model, lambda tensors: tensors.update({name: torch.ones(3)}))
    refuses(lambda: boot(str(model)), name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", TENSORS[::3])
def test_a_weight_that_is_no_number_is_named(name: str, value: float, model: Path) -> None:
    rewrite(model, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    refuses(lambda: boot(str(model)), name)


@pytest.mark.parametrize("name", ["/absent/model", "./absent", "../absent", "~/absent"])
def test_a_folder_that_is_not_there(name: str) -> None:
    refuses(lambda: boot(name), f"{name}: no such folder; give --model")


@pytest.mark.parametrize("damage", [*spoilers(FOREIGN), "a zip"])
def test_damaged_weights(damage: str, model: Path) -> None:
    (spoilers(FOREIGN) | {"a zip": zipped})[damage](model / WEIGHTS)
    refuses(lambda: boot(str(model)), "model")


@pytest.mark.parametrize("damage", spoilers(FOREIGN))
def test_damaged_weights_of_pytorch(damage: str, model: Path) -> None:
    torch.save(load_file(model / WEIGHTS), model / "pytorch_model.bin")
    (model / WEIGHTS).unlink()
    spoilers(FOREIGN)[damage](model / "pytorch_model.bin")
    refuses(lambda: boot(str(model)), "model")


@pytest.mark.parametrize("damage", spoilers(JSONS))
def test_a_damaged_config(damage: str, model: Path) -> None:
    spoilers(JSONS)[damage](model / "config.json")
    refuses(lambda: boot(str(model)), "model")


CONFIGS: dict[str, Any] = {
    "model_type": "no_such_type", "n_layer": 3, "n_embd": 17, "n_head": 3,
    "vocab_size": 7, "n_positions": 64, "activation_function": "no_such_function",
}  # fmt: skip


@pytest.mark.parametrize("field", CONFIGS)
def test_a_config_of_another_model(field: str, model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: CONFIGS[field]}))
    refuses(lambda: boot(str(model)), "model")


@pytest.mark.parametrize("field", ["n_layer", "n_embd", "n_head", "vocab_size", "n_positions"])
@pytest.mark.parametrize("value", ["two", None, -1, 0, [1], 10**30])
def test_a_config_with_a_value_of_another_kind(field: str, value: object, model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    refuses(lambda: boot(str(model)), "model")


@pytest.mark.parametrize("damage", [name for name in spoilers(JSONS) if name != "gone"])
def test_a_damaged_tokenizer(damage: str, model: Path) -> None:
    spoilers(JSONS)[damage](model / "tokenizer.json")
    refuses(lambda: boot(str(model)), "model")


def test_a_folder_without_a_tokenizer(model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()
    refuses(lambda: boot(str(model)), "tokenizer")


def test_a_tokenizer_with_more_tokens_than_the_model(model: Path) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {f"more{number}": number + 25 for number in range(40)}
    path.write_text(json.dumps(content))
    refuses(lambda: boot(str(model)), "tokenizer")


DEVICES = ("cuda:7", "cuda:-1", "gpu", "", " ", "tpu", "meta", "cpu:99999999999", "mps", "xpu", "cuda", "CPU ", "0")


@pytest.mark.parametrize("device", [device for device in DEVICES if device != "cuda" or not torch.cuda.is_available()])
@pytest.mark.parametrize("command", ["eval", "train", "run"])
def test_a_device_that_is_not_there(command: str, device: str, planted: Path, tmp_path: Path) -> None:
    arguments = {
        "eval": ("sae", "eval", planted / "dictionary", "--corpus", planted / "corpus.jsonl", "--device", device),
        "train": ("sae", "train", "--set", f"runtime.device={device!r}", "--corpus", planted / "corpus.jsonl"),
        "run": (
            "autointerp", "run", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl",
            "--set", f"runtime.device={device!r}",
        ),
    }[command]  # fmt: skip
    refused(*arguments, cwd=tmp_path, names="device")


@pytest.mark.parametrize("context", [33, 4096, 10**9])
@pytest.mark.parametrize("program", ["eval", "run", "train"])
def test_a_context_longer_than_the_models(
    program: str, context: int, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before the weights are read."""
    from transformer_lens.model_bridge import TransformerBridge

    monkeypatch.setattr(TransformerBridge, "boot_transformers", lambda *a, **k: pytest.fail("the model was loaded"))
    data, model = ("--corpus", planted / "corpus.jsonl"), ("--model", planted / "model")
    arguments = {
        "eval": ("sae", "eval", planted / "dictionary", *data, "--context", context),
        "run": (
            "autointerp",
            "run",
            "--dictionary",
            planted / "dictionary",
            *data,
            "--set",
            f"corpus.context={context}",
        ),
        "train": ("sae", "train", *model, "--hook", "hook_embed", *data, "--set", f"corpus.context={context}"),
    }[program]
    refused(*arguments, cwd=tmp_path, names="32")
