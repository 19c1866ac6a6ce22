"""`sae eval`: what is written when, on which text, and what a mistake does not cost."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
import torch

from sae import formats
from sae.data.split import VERSION
from sae.measuring import eval_paths, feature_table
from sae.measuring.eval_request import Request, target_of
from tests.sae.command_line import invoked, refused, saved


def features(path: Path) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return result


def test_eval_writes_a_row_per_feature(planted: Path, here: Path) -> None:
    """Of the reversed words, feature 7 - i is i; the first of them has no direction to decode to."""
    turned = torch.eye(16)[:, torch.arange(7, -1, -1)].contiguous()
    W_dec_FD = turned.T.contiguous() * 3
    W_dec_FD[0] = 0
    other = saved(planted, here / "o", name="other", W_enc_DF=turned, W_dec_FD=W_dec_FD)
    given = ["--corpus", planted / "corpus.jsonl", "--tokens", 6000]
    assert invoked("eval", other, *given, "--against", planted / "dictionary", "--out", "x.json").exit_code == 0
    result, metrics = features(here / "x.features.parquet"), json.loads((here / "x.json").read_text())
    assert list(result) == list(feature_table.COLUMNS)
    assert result["feature"] == list(range(8))
    assert sum(result["density"]) == pytest.approx(metrics["l0"])
    assert result["decoder_norm"] == [0, 3, 3, 3, 3, 3, 3, 3]
    assert result["encoder_decoder_cosine"] == [None, 1, 1, 1, 1, 1, 1, 1]
    assert result["nearest_cosine"] == [None, 0, 0, 0, 0, 0, 0, 0]
    assert result["nearest_feature"][0] is None
    assert result["correlation"] == pytest.approx([1] * 8)
    assert result["correlation_feature"] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert result["against_cosine"] == [None, 1, 1, 1, 1, 1, 1, 1]
    assert result["against_cosine_feature"] == [None, 6, 5, 4, 3, 2, 1, 0]


def test_eval_without_cosines_and_with_a_bos_token(planted: Path, here: Path) -> None:
    given = ["eval", planted / "dictionary", "--corpus", planted / "corpus.jsonl", "--tokens", 500]
    done = invoked(*given, "--no-cosines", "--no-bos")
    assert done.exit_code == 0, done.output
    assert "cosine with the nearest other" not in done.stdout
    assert json.loads((here / "words.metrics.json").read_text())["decoder_max_cosine"] is None
    assert set(features(here / "words.features.parquet")) == {
        "feature", "density", "decoder_norm", "encoder_decoder_cosine"
    }  # fmt: skip
    assert "no BOS token, but it was asked for one" in refused(*given, "--bos")
    with_bos = saved(planted, here / "with_bos", metadata={"prepend_bos": True})
    assert "no BOS token, but it was asked for one" in refused("eval", with_bos, *given[2:])
    assert invoked("eval", with_bos, *given[2:], "--no-bos").exit_code == 0


def test_each_is_written_as_soon_as_it_is_measured(planted: Path, here: Path) -> None:
    """The second, at a hook point of its own, cannot be; what is known of the first is written and shown."""
    at = ("blocks.0.hook_resid_post",)
    later = {"reads": at, "writes": at, "name": "huge", "W_enc_DF": torch.full((16, 8), 3e38)}
    huge = saved(planted, here / "huge", **later)
    done = invoked("eval", planted / "dictionary", huge, "--corpus", planted / "corpus.jsonl", "--tokens", 500)
    assert done.exit_code == 2
    assert "its reconstructions are not all finite" in done.stderr
    assert json.loads((here / "words.metrics.json").read_text())["tokens"] >= 500
    assert len(features(here / "words.features.parquet")["density"]) == 8
    assert "L0" in done.stdout
    assert not (here / "huge.metrics.json").exists()


def test_what_is_measured_outlives_a_comparison_that_fails(planted: Path, here: Path) -> None:
    huge = saved(planted, here / "huge", name="huge", W_enc_DF=torch.eye(16)[:, :8].contiguous() * 3e38)
    given = ["--corpus", planted / "corpus.jsonl", "--tokens", 500, "--against", huge]
    done = invoked("eval", planted / "dictionary", *given)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "sae: dictionary huge: the activations of its features are not all finite"
    assert json.loads((here / "words.metrics.json").read_text())["comparison"] is None


@pytest.mark.parametrize("broken", ["weights", "shapes", "corpus"])
def test_what_the_model_is_not_needed_for_is_refused_before_it_is_loaded(
    planted: Path, here: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(eval_paths, "boot", None)
    good, corpus = planted / "dictionary", planted / "corpus.jsonl"
    bad = saved(planted, here / "bad", name="bad", b_enc_F=torch.full((8,), torch.nan))
    if broken == "weights":
        assert "bad holds weights that are not finite (b_enc_F)" in refused("eval", good, bad, "--corpus", corpus)
        assert "weights that are not finite" in refused("eval", good, "--against", bad, "--corpus", corpus)
    elif broken == "shapes":
        about = json.loads((bad / "dictionary.json").read_text())
        (bad / "dictionary.json").write_text(json.dumps(about | {"n_features": 9}))
        assert "expected [" in refused("eval", good, bad, "--corpus", corpus)
    else:
        assert "no such file or folder" in refused("eval", good, "--corpus", here / "nothing")


def test_two_names_of_one_model_load_it_once(planted: Path, here: Path) -> None:
    """GPT-2 as the hub and as SAELens call it; a folder by two paths."""
    for one, other in (("gpt2", "gpt2-small"), (str(planted / "model"), str(planted / "dictionary" / ".." / "model"))):
        targets = [
            target_of(str(saved(planted, here / str(len(name)), model=name)), Request(())) for name in (one, other)
        ]
        assert targets[0].subject_key == targets[1].subject_key


def test_a_pickle_is_to_be_converted_next(planted: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS._parts, "own", replace(formats.FORMATS.get("own"), pickled=True))
    expected = f"next: sae convert {shlex.quote(str(planted / 'dictionary'))} OUT --allow-pickle"
    given = ["--allow-pickle", "--corpus", planted / "corpus.jsonl", "--tokens", 200]
    assert invoked("info", planted / "dictionary", "--allow-pickle").stdout.splitlines()[-1] == expected
    assert invoked("eval", planted / "dictionary", *given).stdout.splitlines()[-1] == expected


def test_a_trained_dictionary_is_measured_on_what_was_held_out(planted: Path, here: Path) -> None:
    """By default on the corpus it names."""
    message = {"source": str(planted / "corpus.jsonl"), "context": 16, "max_tokens": 50_000, "held_out_tokens": 960}
    trained = saved(planted, here / "trained", metadata={"corpus": message, "seed": 3, "split_version": VERSION})
    done = invoked("eval", trained)
    assert done.exit_code == 0, done.output
    assert f"corpus {message['source']}, held out of its training: 960 tokens in blocks of 16" in done.stdout
    written = json.loads((here / "words.metrics.json").read_text())
    assert (written["corpus_part"], written["tokens"]) == ("held out of its training", 960)
    assert done.stdout.splitlines()[-1] == f"next: sae info {shlex.quote(str(trained))}"
    other = saved(planted, here / "other", name="other")
    both = invoked("eval", trained, other, "--corpus", message["source"], "--tokens", 3000)
    assert f"words: corpus {message['source']}, held out of its training: 960 tokens in blocks of 16" in both.stdout
    assert f"other: corpus {message['source']}, whole corpus: 3,008 tokens in blocks of 32" in both.stdout


def test_notes_and_what_is_not_said(planted: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reader that has something to say, and of a file that is silent on the model's processing."""
    peek = formats.peek

    def noted(path: str, allow_pickle: bool = False) -> formats.Header:
        return replace(peek(path, allow_pickle), notes=("read with care",), processing=None)

    monkeypatch.setattr(formats, "peek", noted)
    shown = invoked("info", planted / "dictionary").stdout
    assert "read with care" in shown
    assert [line.split()[-2:] for line in shown.splitlines() if line.startswith("processing")] == [["model", "unknown"]]
    done = invoked("eval", planted / "dictionary", "--corpus", planted / "corpus.jsonl", "--tokens", 200)
    assert "read with care" in done.stdout
    written = json.loads((here / "words.metrics.json").read_text())
    assert (written["notes"], written["processing"]) == (["read with care"], {})
