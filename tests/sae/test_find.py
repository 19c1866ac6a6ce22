"""SAELens' registry: what is searched in it, what is printed, and what no reader of ours would read as SAELens does."""

import json

import pytest

from sae.common.errors import UserError
from sae.hub import saelens
from sae.hub.address import Address, parse
from tests.sae.command_line import invoked, refused


def test_the_copy_says_its_version_and_date_and_is_whole() -> None:
    assert saelens.source().startswith("sae_lens/pretrained_saes.yaml of sae_lens-6.54.12")
    assert saelens.source().endswith("taken on 2026-11-22")
    entries = list(saelens.entries())
    assert (len({entry.release for entry in entries}), len({entry.spec for entry in entries})) == (170, 13_857)
    assert all(entry.path and entry.repo.count("/") == 1 for entry in entries)


def test_rows_are_what_saelens_says() -> None:
    """From pretrained_saes.yaml and pretrained_sae_loaders.py of 6.54.12, by hand."""
    canonical = saelens.lookup("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")
    assert canonical.path == "layer_20/width_16k/average_l0_71"
    assert (canonical.hook_point, canonical.width, canonical.l0) == ("blocks.20.hook_resid_post", 16_384, None)
    scope = saelens.lookup("gemma-scope-2-4b-pt-transcoders-all/layer_10_width_262k_l0_big")
    assert (scope.repo, scope.path) == ("google/gemma-scope-2-4b-pt", "transcoder_all/layer_10_width_262k_l0_big")
    assert (scope.hook_point, scope.width, scope.l0) == ("blocks.10.hook_mlp_in", 262_144, 112)
    attention = saelens.lookup("gpt2-small-hook-z-kk/blocks.2.hook_z")
    assert (attention.hook_point, attention.l0) == ("blocks.2.attn.hook_z", 16)
    assert parse("saelens:qwen-scope-3-8b-base-w64k-l50/layer2") == Address(
        "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50", "layer2.sae.pt"
    )


def test_words_and_numbers_narrow_the_search() -> None:
    matching = saelens.find(["Gemma-2-2B", "resid_post", "layer=12", "width=16k", "l0=40-90"])
    assert matching
    for entry in matching:
        assert (entry.model, entry.layer, entry.width) == ("gemma-2-2b", 12, 16_384)
        assert entry.l0 is not None
        assert 40 <= entry.l0 <= 90
    assert {entry.width for entry in saelens.find(["width=1m"])} == {2**20}


def test_it_prints_a_table_and_the_next_command() -> None:
    done = invoked("find", "qwen-scope", "layer=3", "--limit", "2")
    lines = done.stdout.splitlines()
    assert "taken on 2026-11-22" in lines[0]
    assert sum("saelens:qwen-scope" in line and "blocks.3.hook_resid_post" in line for line in lines) == 2
    assert lines[-1] == "next: sae info saelens:qwen-scope-3-1.7b-base-w32k-l50/layer3"
    rows = [json.loads(line) for line in invoked("find", "qwen-scope", "layer=3", "--json").stdout.splitlines()]
    assert len(rows) == 14
    assert rows[0]["dictionary"] == "saelens:qwen-scope-3-1.7b-base-w32k-l50/layer3"
    assert (rows[0]["width"], rows[0]["l0"]) == (32_768, 50)


def test_what_is_not_there_is_one_line_with_near_names() -> None:
    assert "did you mean gemma-2-9b" in refused("find", "gemma-2-9c")
    assert "give fewer words" in refused("find", "gpt2", "layer=99")
    assert "numbers are layer=N" in refused("find", "depth=3")
    assert "write a number or a range" in refused("find", "l0=many")
    assert "did you mean gemma-scope-2b-pt-res" in refused("info", "saelens:gemma-scope-2b-pt-re/x")
    assert "did you mean layer2" in refused("info", "saelens:qwen-scope-3-8b-base-w64k-l50/layer_2")
    with pytest.raises(UserError, match=r"constant_norm_rescale .* is not supported"):
        parse("saelens:mistral-7b-res-wg/blocks.8.hook_resid_pre")
