"""Dictionaries by their names on the hub: huggingface-hub's own client against a hub on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from sae import formats
from sae.common.errors import UserError
from sae.formats.remote import select
from sae.hub import fetch as hub_fetch
from sae.hub.address import Address, parse
from tests.fakes.hub import Hub, Repo
from tests.sae.command_line import invoked, refused
from tests.sae.temporal_files import TEMPORAL

RELEASE = "google/gemma-scope-2b-pt-res"
FOLDER = "layer_3/width_16k/average_l0_9"
SECRET = "hf_aSecretToken"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, planted: Path) -> Iterator[Hub]:
    """The planted dictionary in own/words of a repository, beside files that nobody may download."""
    files = {f"own/words/{file.name}": file.read_bytes() for file in (planted / "dictionary").iterdir()}
    files |= {"own/words/pytorch_model.bin": b"pickle", "own/words/setup.py": b"raise SystemExit", "README.md": b"#"}
    with Hub({"lab/saes": Repo(files)}) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("SAE_CACHE", str(tmp_path / "ours"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def moved(hub: Hub, commit: str) -> None:
    hub.repos["lab/saes"].commit = commit


def test_it_is_the_local_dictionary_and_only_its_files_are_fetched(hub: Hub, planted: Path) -> None:
    fetched, local = formats.load("hf:lab/saes/own/words"), formats.load(planted / "dictionary")
    assert torch.equal(fetched.W_enc_DF, local.W_enc_DF)
    assert (fetched.name, fetched.reads) == (local.name, local.reads)
    files = {line.split("/")[-1] for line in hub.log if "words/" in line}
    assert files == {"dictionary.json", "dictionary.safetensors"}
    location = formats.recognise("hf:lab/saes/own/words")
    assert location.path.parts[-4:] == ("lab", "saes", "own", "words")
    assert {file.name for file in location.path.iterdir()} == files
    assert not any(file.is_symlink() for file in location.path.iterdir())


def test_a_temporal_autoencoder_by_its_name_in_saelens_registry(hub: Hub, tmp_path: Path) -> None:
    folder = TEMPORAL["temporal"].write(tmp_path)
    files = {f"gemma-2-2B/layer_12/temporal/{file.name}": file.read_bytes() for file in folder.iterdir()}
    hub.repos["canrager/temporalSAEs"] = Repo(files | {"gemma-2-2B/layer_12/temporal/latest_ckpt.pt": b"pickle"})
    header = formats.peek("saelens:temporal-sae-gemma-2-2b/blocks.12.hook_resid_post")
    assert (header.model, header.reads) == ("google/gemma-2-2b", ("blocks.12.hook_resid_post",))
    assert {line.split("/")[-1] for line in hub.log if "temporal/" in line} == {file.name for file in folder.iterdir()}


def test_a_commit_needs_no_hub_and_a_branch_asks_which_commit_it_is(hub: Hub) -> None:
    pinned = formats.pin("hf:lab/saes/own/words")
    assert pinned == f"hf:lab/saes/own/words@{'a' * 40}"
    asked = len(hub.log)
    assert formats.peek(pinned) == formats.peek(formats.pin(pinned))
    assert len(hub.log) == asked
    assert formats.pin("hf:lab/saes/own/words@main") == pinned
    assert all(line.startswith("GET /api/") for line in hub.log[asked:])
    moved(hub, "b" * 40)
    assert formats.pin("hf:lab/saes/own/words").endswith("@" + "b" * 40)


def test_offline_uses_what_is_there(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pinned = formats.pin("hf:lab/saes/own/words")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.log)
    assert formats.pin("hf:lab/saes/own/words") == pinned
    assert "not downloaded, and HF_HUB_OFFLINE is set" in refused("info", "hf:lab/saes/own/others")
    assert "not downloaded, and HF_HUB_OFFLINE is set" in refused("info", "hf:lab/others/x")
    monkeypatch.setenv("SAE_CACHE", str(tmp_path / "empty"))  # another program's downloads do too
    assert formats.load("hf:lab/saes/own/words").n_features == 8
    assert len(hub.log) == asked
    # ... but what they left out stays missing only until there is a connection
    next((tmp_path / "hub").rglob("dictionary.safetensors")).unlink()
    monkeypatch.setenv("SAE_CACHE", str(tmp_path / "another"))
    assert "dictionary.safetensors" in refused("info", "hf:lab/saes/own/words")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert formats.load("hf:lab/saes/own/words").n_features == 8


def test_a_download_that_is_cut_off_goes_on(hub: Hub, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    weights = (planted / "dictionary" / "dictionary.safetensors").read_bytes()
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    hub.cut = 461
    path = formats.recognise("hf:lab/saes/own/words").path
    assert (path / "dictionary.safetensors").read_bytes() == weights
    assert [line.split()[-1] for line in hub.log if " bytes=" in line] == ["bytes=400-"]


def test_the_token_goes_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.repos["lab/saes"].token = SECRET
    assert "if it is private, set HF_TOKEN" in refused("info", "hf:lab/saes/own/words")
    monkeypatch.setenv("HF_TOKEN", "hf_aWrongToken")
    line = refused("info", "hf:lab/saes/own/words")
    assert "no repository lab/saes" in line
    assert "hf_a" not in line
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert formats.load("hf:lab/saes/own/words").n_features == 8
    assert hub.tokens_at_cdn == []
    assert not any(SECRET.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_mistakes_are_one_line(hub: Hub) -> None:
    hub.repos["lab/closed"] = Repo(hub.repos["lab/saes"].files, gated=True)
    hub.repos["lab/pickles"] = Repo({"a/learned_dicts.pt": b"x", "b/model.bin": b"x", "../../escaped/cfg.json": b"{}"})
    for address, expected in {
        "hf:google/gemma-scope-2b-pt-re": "did you mean google/gemma-scope-2b-pt-res",
        "hf:lab/saes/own/words@v2": "no revision 'v2'; leave out @v2",
        "hf:lab/saes/own/wrds": "no folder or file 'own/wrds'; did you mean own/words?",
        "hf:lab/saes": "there are: README.md, own",
        "hf:lab/closed/own/words": "gated; ask for access on https://huggingface.co/lab/closed, then set HF_TOKEN",
        "hf:lab/pickles/a": "a pickle of sparse_coding's objects, which is not fetched",
        "hf:lab/pickles/b": "there are: b/model.bin",
        "hf:lab/pickles/escaped": "no folder or file",
        "hf:lab": "write hf:OWNER/REPO",
        "hf:lab/saes/../x": "write hf:OWNER/REPO",
        "hf:lab/saes@": "is no revision",
        f"hf:lab/{'x' * 100}": "write hf:OWNER/REPO",
    }.items():
        assert expected in refused("info", address), address
    hub.busy = True
    assert "(429); run the same command in 77 s" in refused("info", "hf:lab/saes/own/words")


def test_no_connection_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        started = time.monotonic()
        assert "no answer from the hub" in refused("info", "hf:lab/saes/own/words")
        assert time.monotonic() - started < 10
        closed.listen()  # and never answers
        monkeypatch.setattr(hub_fetch, "TIMEOUT", 0.1)
        assert "no answer from the hub (ReadTimeout)" in refused("info", "hf:lab/saes/own/words")


def test_a_full_disk_is_not_the_hubs_fault(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot keep the download: Not a directory" in refused("info", "hf:lab/saes/own/words")


def test_names_of_releases_are_kept(hub: Hub, tmp_path: Path) -> None:
    """Gemma Scope's reader takes model and hook point from them; a whole repository is called like itself."""
    from tests.sae.test_formats_gemma_scope import write

    params = (write(tmp_path / "written") / "params.npz").read_bytes()
    hub.repos[RELEASE] = Repo({f"{FOLDER}/params.npz": params, "layer_3/width_16k/average_l0_8/params.npz": params})
    header = formats.peek(f"hf:{RELEASE}/{FOLDER}")
    assert (header.name, header.model, header.hook_point) == (
        "average_l0_9", "google/gemma-2-2b", "blocks.3.hook_resid_post",
    )  # fmt: skip
    files = hub.repos["lab/saes"].files
    hub.repos["lab/whole"] = Repo({name.removeprefix("own/words/"): body for name, body in files.items()})
    assert formats.recognise("hf:lab/whole").path.name == "whole"
    hub.repos["google/gemma-scope-2b-pt-res"].files["layer_20/width_16k/average_l0_71/params.npz"] = params
    hub.repos[RELEASE].commit = "c" * 40
    canonical = formats.pin("saelens:gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")
    assert canonical == f"hf:{RELEASE}/layer_20/width_16k/average_l0_71@{'c' * 40}"


def test_commands_name_the_commit(hub: Hub, tmp_path: Path) -> None:
    commit = "a" * 40
    assert f"hf:lab/saes/own/words@{commit}" in invoked("info", "hf:lab/saes/own/words").stdout
    assert invoked("convert", "hf:lab/saes/own/words", tmp_path / "copy").exit_code == 0
    about = json.loads((tmp_path / "copy" / "dictionary.json").read_text())
    assert about["metadata"]["converted_from"] == f"hf:lab/saes/own/words@{commit} (own)"


@pytest.mark.slow
def test_measuring_names_the_commit(hub: Hub, planted: Path, tmp_path: Path) -> None:
    out = tmp_path / "metrics.json"
    settings = ["--model", planted / "model", "--corpus", planted / "corpus.jsonl", "--tokens", 2000, "--out", out]
    done = invoked("eval", "hf:lab/saes/own/words", *settings, "--context", 32, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["path"] == f"hf:lab/saes/own/words@{'a' * 40}"


def test_a_run_is_of_one_commit(hub: Hub, tmp_path: Path) -> None:
    from tests.autointerp.test_plan import planned

    first = planned(tmp_path, "hf:lab/saes/own/words")
    assert first.about["config"]["dictionaries"]["load"] == [f"hf:lab/saes/own/words@{'a' * 40}"]
    assert "a" * 40 in str(first.about["inputs"]["dictionaries"])
    moved(hub, "b" * 40)
    other = planned(tmp_path, "hf:lab/saes/own/words")
    assert other.identity != first.identity
    assert other.records_identity != first.records_identity
    pinned = planned(tmp_path, f"hf:lab/saes/own/words@{'a' * 40}")
    assert pinned.identity == first.identity


def test_the_environment_decides(hub: Hub, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME as a user sets them, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "SAE_CACHE": str(tmp_path / "theirs")}
    command = [sys.executable, "-c", "from sae import formats; print(formats.pin('hf:lab/saes/own/words'))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"hf:lab/saes/own/words@{'a' * 40}"
    assert list((tmp_path / "home" / "hub").rglob("dictionary.safetensors"))


def test_what_a_format_reads_is_selected_by_names() -> None:
    learnt = ["run/config.json", "run/trainer_0/ae.pt", "run/trainer_0/config.json", "run/trainer_0/optimizer.pt"]
    assert sorted(select(learnt, "run/trainer_0")) == [learnt[0], learnt[1], learnt[2]]
    lens = ["a/cfg.json", "a/sae_weights.safetensors", "a/sparsity.safetensors", "b/cfg.json"]
    assert select(lens, "a") == lens[:2]
    assert select(["6.pt", "7.pt", "x.bin"], "6.pt") == ["6.pt"]
    llama = ["L0R/hyperparams.json", "L0R/checkpoints/final.safetensors", "L0R/checkpoints/older.safetensors"]
    assert select(llama, "L0R") == llama[:2]
    layers = ["config.yaml", "layer_0.safetensors", "layer_1.safetensors", "README.md"]
    assert select(layers, "layer_1.safetensors") == ["layer_1.safetensors", "config.yaml"]
    cross = ["config.yaml", *(f"W_{kind}_{i}.safetensors" for kind in ("enc", "dec") for i in (0, 1)), "features/x.npz"]
    assert sorted(select(cross, "W_enc_1.safetensors")) == sorted(select(cross, "")) == sorted(cross[:5])
    qwen = ["layer3.sae.pt", "config.json", "layer4.sae.pt"]
    assert select(qwen, "layer3.sae.pt") == qwen[:2]
    with pytest.raises(UserError, match=r"a set of dictionaries; give one of them: layer_0\.safetensors"):
        select(layers, "")
    with pytest.raises(UserError, match="no dictionary in a known format"):
        select(["model.bin", "modeling.py", "config.json"], "")


def test_addresses() -> None:
    assert parse("hf:a/b") == Address("a/b", "")
    assert parse("hf:a/b.c/d/e.pt@refs/pr/1") == Address("a/b.c", "d/e.pt", "refs/pr/1")
    assert str(parse("hf:a/b/c/@main")) == "hf:a/b/c@main"
    assert not parse("hf:a/b@abc").is_pinned
