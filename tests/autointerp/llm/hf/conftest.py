"""Tiny models, saved once, and opened for each test."""

from pathlib import Path

import pytest

from autointerp.llm.providers.hf.provider import LocalProvider
from tests.autointerp.llm.hf.tiny import byte_level, gpt2, llama, mistral, save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("judges")
    plain, begun = byte_level(bos=False), byte_level(bos=True)
    return {
        "gpt2": save(gpt2(len(plain)), plain, root / "gpt2"),
        "llama": save(llama(len(begun)), begun, root / "llama"),
        "mistral": save(mistral(len(plain)), plain, root / "mistral"),
    }


@pytest.fixture(params=["gpt2", "llama", "mistral"])
def judge(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LocalProvider:
    return LocalProvider(str(folders[request.param]), device="cpu")


@pytest.fixture
def one(folders: dict[str, Path]) -> LocalProvider:
    return LocalProvider(str(folders["gpt2"]), device="cpu")
