"""The command line `sae` as a user meets it: tables, files, mistakes, and what its help does not load."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from sae import formats
from sae.cli import main
from sae.measuring import tables
from tests.sae.command_line import invoked, refused, saved

HEAVY = {"torch", "numpy", "pydantic", "transformers", "transformer_lens", "scipy", "pandas"}


def test_eval_prints_a_table_and_writes_it(planted: Path, here: Path) -> None:
    order = torch.tensor([3, 1, 0, 7, 2, 5, 6, 4])
    eye = torch.eye(16)[:, order].contiguous()
    permuted = saved(planted, here / "p", name="permuted", W_enc_DF=eye, W_dec_FD=eye.T.contiguous())
    corpus = planted / "corpus.jsonl"
    options = ["--corpus", corpus, "--tokens", 6000, "--against", permuted]
    done = invoked("eval", planted / "dictionary", permuted, *options)
    assert done.exit_code == 0, done.stderr
    written = json.loads((here / "words.metrics.json").read_text())
    assert (written["path"], written["model"]) == (str(planted / "dictionary"), str(planted / "model"))
    assert (written["corpus"], written["context"], written["tokens"]) == (str(corpus), 32, 6016)
    assert (written["prepend_bos"], written["hook_point"], written["processing"]) == (False, "hook_embed", {})
    assert 0.1 < written["l0"] < 0.2
    assert (written["corpus_part"], written["notes"]) == ("whole corpus", [])
    assert (written["dead"], written["ultralow"]) == (0, None)
    assert sum(written["density_histogram_log10"]["counts"]) == written["n_features"] == 8
    assert written["cross_entropy"]["blocks"] == 188
    assert written["decoder_norms"] == {"min": 1, "median": 1, "max": 1}
    assert written["comparison"]["mmcs"]["a_to_b"]["mean"] == 1
    assert written["comparison"]["universality"]["b_to_a"]["mean"] == pytest.approx(1)
    other = json.loads((here / "permuted.metrics.json").read_text())
    assert {name for name in written if written[name] != other[name]} <= {"path", "name", "comparison"}
    shown = {line[:49].strip(): line[49:].split() for line in done.stdout.splitlines() if "  " in line}
    assert shown["L0"] == [tables.number(written["l0"])] * 2
    assert shown["FVU"] == [tables.number(written["fvu"])] * 2
    assert "hook_embed, no BOS token" in done.stdout
    assert f"corpus {corpus}, whole corpus: 6,016 tokens in blocks of 32; cross-entropy on 188 of them" in done.stdout
    assert (
        "all metrics of words are in words.metrics.json, one row per feature in words.features.parquet" in done.stdout
    )
    assert done.stdout.splitlines()[-1] == f"next: sae info {shlex.quote(str(planted / 'dictionary'))}"


def test_eval_of_what_names_nothing(planted: Path, here: Path) -> None:
    """Model, hook point and file are then the user's to give."""
    unnamed = saved(planted, here / "unnamed", model=None, reads=(), writes=())
    assert "names no model; give --model" in refused("eval", unnamed)
    assert "names no hook point; give --hook" in refused("eval", unnamed, "--model", planted / "model")
    given = ["--model", planted / "model", "--hook", "hook_embed", "--corpus", planted / "corpus.jsonl"]
    done = invoked("eval", unnamed, *given, "--tokens", 500, "--context", 16, "--out", "a/b.json")
    assert done.exit_code == 0, done.output
    written = json.loads(Path("a/b.json").read_text())
    assert (written["tokens"], written["context"], written["comparison"]) == (512, 16, None)
    assert done.stdout.splitlines()[-1] == f"next: sae info {shlex.quote(str(unnamed))}"
    other = saved(planted, here / "other", name="other", model=None, reads=(), writes=())
    both = invoked("eval", unnamed, other, *given, "--tokens", 500)
    words = shlex.join(map(str, (unnamed, "--against", other, *given)))
    assert both.stdout.splitlines()[-1] == f"next: sae eval {words}"


def test_mistakes_are_one_line(planted: Path, here: Path) -> None:
    dictionary, corpus = planted / "dictionary", planted / "corpus.jsonl"
    assert "no such file or folder" in refused("eval", here / "nothing")
    assert refused("info", here / "nothing").endswith("(sae find WORDS searches these)")
    assert "there are 2 dictionaries" in refused("eval", dictionary, dictionary, "--out", "x.json")
    assert "would be written to words.metrics.json" in refused("eval", dictionary, dictionary)
    assert "cannot load model" in refused("eval", dictionary, "--model", here / "nothing")
    assert "has no hook point" in refused("eval", dictionary, "--hook", "blocks.0.nothing", "--corpus", corpus)
    assert "64 wide" in refused("eval", dictionary, "--hook", "blocks.0.mlp.hook_post", "--corpus", corpus)
    assert "sees at most 32" in refused("eval", dictionary, "--context", 33, "--corpus", corpus)
    assert "no such file or folder" in refused("eval", dictionary, "--corpus", here / "nothing")
    assert "there is no device 'tpu9' here" in refused("eval", dictionary, "--device", "tpu9")
    if not torch.cuda.is_available():
        assert "there is no device 'cuda' here" in refused("eval", dictionary, "--device", "cuda")
    (here / "blank.txt").write_text("\n\n")
    assert "has no text" in refused("eval", dictionary, "--corpus", here / "blank.txt")
    assert not list(here.glob("*.json"))
    own = saved(planted, here / "own") / "dictionary.json"
    before = own.read_bytes()
    assert "is there and holds no metrics" in refused("eval", own.parent, "--corpus", corpus, "--out", own)
    assert own.read_bytes() == before
    assert invoked("eval").exit_code == 2


def test_info_says_what_it_is(planted: Path, here: Path) -> None:
    made = saved(planted, here / "made", metadata={"recipe": {"k": 32, "note": "x" * 200}, "metrics": {"fvu": 0.25}})
    done = invoked("info", made, "--cosines")
    assert done.exit_code == 0, done.output
    message = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    message = {name.strip(): value.strip() for name, value in message.items()}
    assert message["format"] == f"own, {made}"
    assert (message["features"], message["width"], message["hook point"]) == ("8", "16", "hook_embed")
    assert (message["model"], message["BOS token before each block"]) == (str(planted / "model"), "unknown")
    assert (message["kind"], message["activation"], message["weights on disk"]) == ("sae", "relu", "F32")
    assert message["decoder norm: smallest, median, largest"] == "1.000  1.000  1.000"
    assert message["cosine with the nearest other: 5%, median, 95%"] == "0.000  0.000  0.000"
    assert (message["recipe.k"], message["metrics.fvu"]) == ("32", "0.25")
    assert len(message["recipe.note"]) == tables.LONGEST
    assert done.stdout.splitlines()[-1] == f"next: sae eval {shlex.quote(str(made))}"


def test_info_refuses_weights_that_are_not_finite(planted: Path, here: Path) -> None:
    broken = saved(planted, here / "broken", W_dec_FD=torch.full((8, 16), torch.nan))
    assert "weights that are not finite" in refused("info", broken)


@pytest.mark.parametrize("name", ["own", "saelens"])
def test_convert_writes_what_loads_the_same(planted: Path, here: Path, name: str) -> None:
    done = invoked("convert", planted / "dictionary", "out", "--format", name)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "next: sae info out"
    x_BD = torch.randn(5, 16)
    before, after = formats.load(planted / "dictionary"), formats.load("out")
    torch.testing.assert_close(after.reconstruct(x_BD), before.reconstruct(x_BD))
    assert (after.hook_point, after.model) == (before.hook_point, before.model)
    assert "already there" in refused("convert", planted / "dictionary", "out", "--format", name)
    assert "did you mean saelens" in refused("convert", planted / "dictionary", "new", "--format", "saelen")


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    for words in (["--help"], *([name, "--help"] for name in ("train", "eval", "info", "convert")), ["--version"]):
        code = f"import sys\nfrom sae.cli import main\nmain({words}, standalone_mode=False)\n"
        code += f"print(sorted({HEAVY} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert invoked("--version").stdout == f"sae, version {version('autointerp')}\n"


def test_every_command_has_help() -> None:
    for command in main.commands.values():
        assert command.help
        assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    code = (
        "from sae import cli\nfrom sae.measuring import info\n"
        "def struck(*_):\n    raise KeyboardInterrupt\n"
        "info.account = struck\ncli.main(['info', 'x'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "\nsae: stopped\n"  # `sae info` has nothing to continue from


def test_a_full_or_closed_disk_leaves_no_part(planted: Path, here: Path) -> None:
    if os.geteuid() == 0:
        blocked = here / "file"
        blocked.write_text("")  # root may write anywhere, but not below a file
    else:
        blocked = here / "closed"
        blocked.mkdir(mode=0o500)
    given = ["--corpus", planted / "corpus.jsonl", "--tokens", 100, "--out", blocked / "x" / "y.json"]
    done = invoked("eval", planted / "dictionary", *given)
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert not done.stdout  # refused before anything is measured
