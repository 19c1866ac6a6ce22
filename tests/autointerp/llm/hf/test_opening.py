"""Opening and closing a model in this process: what cannot be loaded, fingerprints, no timeout, late imports."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    LlamaForCausalLM,
)

from autointerp.llm.providers.hf.provider import LocalProvider
from autointerp.llm.resolver import LiveResolver
from autointerp.llm.types import Completion
from autointerp.sections import Runtime
from sae.common.errors import UserError
from tests.autointerp.llm.hf.tiny import (
    ask,
    byte_level,
    chat,
)


def test_import_loads_no_torch() -> None:
    code = "import sys, autointerp.llm.providers.hf\nprint([m for m in ('torch', 'transformers') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_attempts_are_not_given_up_while_they_wait_in_this_process(folders: dict[str, Path], tmp_path: Path) -> None:
    spec, runtime = f"hf/{folders['gpt2']}", Runtime(device="cpu", tries=1, attempt_seconds=1e-6, call_seconds=1e-6)
    with LiveResolver([spec], runtime, tmp_path) as session:
        answer = session._runner.run(session.client.answer(replace(chat("Why?"), model=spec)))
    assert isinstance(answer, Completion)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "empty").mkdir()
    for model in ("no/such-model", str(tmp_path / "nowhere"), str(tmp_path / "empty")):
        with pytest.raises(UserError, match=f"cannot load hf/{model}") as caught:
            LocalProvider(model, device="cpu")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_told(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no CUDA device found; choose cpu"):
        LocalProvider(str(folders["gpt2"]), device="cuda")


def test_weights_that_lack_a_head_are_no_judge(folders: dict[str, Path], tmp_path: Path) -> None:
    LlamaForCausalLM.from_pretrained(folders["llama"]).base_model.save_pretrained(tmp_path)
    byte_level(bos=True).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"lacks weights \(lm_head.weight"):
        LocalProvider(str(tmp_path), device="cpu")


def test_fingerprint_tells_weights_apart(folders: dict[str, Path]) -> None:
    prints = {name: LocalProvider(str(folder), device="cpu").fingerprint for name, folder in folders.items()}
    assert len(set(prints.values())) == 3
    assert prints["gpt2"] == LocalProvider(str(folders["gpt2"]), device="cpu").fingerprint
    assert prints["gpt2"].endswith(" float32")


def test_closing_is_quick_and_final(one: LocalProvider) -> None:
    asyncio.run(one.close())
    with pytest.raises(RuntimeError):
        ask(one, chat("Why?"))
