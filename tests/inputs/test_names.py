"""Names that hold more than letters: printed harmlessly wherever they are printed."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from autointerp import api
from autointerp.records import FeatureId
from autointerp.reporting import leaderboard, plots
from autointerp.reporting.dependence import INDEPENDENT
from autointerp.reporting.tables import all_tables
from autointerp.store import RunFolder
from sae import formats
from sae.common.progress import Silent
from sae.common.tables import to_markdown
from tests.inputs.harness import copied, invoke, refused
from tests.sae.test_dictionary import random_dictionary

NAMES: dict[str, str] = {
    "colours": "\x1b[31mred\x1b[0m", "a cleared screen": "\x1b[2J\x1b[H", "a title": "\x1b]0;title\x07",
    "eight-bit controls": "\x9b31m", "a bell": "\x07", "carriage return": "good\rbad", "a line": "one\ntwo",
    "backspaces": "bad\b\b\bgood", "bidi override": "a\u202egpj.exe", "bidi isolate": "a\u2066b\u2069",
    "a direction mark": "a\u200fb", "zero width": "a\u200bb", "a line separator": "a\u2028b",
    "half a character": "a\udcffb",
    "a formula": "=cmd|' /C calc'!A0", "plus": "+1+1", "minus": "-1+1", "at": "@SUM(1)", "a tab": "\t=1",
    "a tag": "<script>alert(1)</script>", "a picture": "![x](http://example.org/x.png)", "a link": "[x](http://example.org)",
    "an address": "https://example.org/x", "pipes": "a|b|c", "mathematics": "$x^{", "a dollar": "a$b",
    "underscore": "_a_$_$",
    "long": "x" * 5000, "rich markup": "[bold red]x[/]", "a percent": "%s %(x)d {0}",
}  # fmt: skip


def harmless(text: str, *allowed: str) -> None:
    """Nothing but lines of printable characters."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line)


@pytest.mark.parametrize("kind", NAMES)
def test_a_dictionarys_name_in_info(kind: str, tmp_path: Path) -> None:
    dictionary = replace(random_dictionary(), name=NAMES[kind], model=NAMES[kind], reads=(NAMES[kind],))
    dictionary = replace(dictionary, writes=dictionary.reads, metadata={NAMES[kind]: NAMES[kind]})
    formats.save(dictionary, tmp_path / "d")
    done = invoke("sae", "info", "d", cwd=tmp_path)
    assert done.exit_code == 0, done.output
    harmless(done.stdout)


@pytest.mark.parametrize("kind", NAMES)
def test_a_dictionarys_name_in_errors(kind: str, planted: Path, tmp_path: Path) -> None:
    formats.save(replace(formats.load(planted / "dictionary"), name=NAMES[kind]), tmp_path / "d")
    refused(
        "autointerp", "run", "--dictionary", "d", "--dictionary", planted / "dictionary", "--dictionary", "d",
        "--corpus", planted / "corpus.jsonl", "--baselines", "none", cwd=tmp_path, names="dictionar",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {
        "corpus.context": 32, "sampling.fragment": 16, "corpus.held_out": 0.5, "subject.prepend_bos": False,
        "dictionaries.baselines": [], "explainers": ["rules-1"], "sampling.features": 2, "sampling.population": 0,
        "sampling.score": {"top": 5, "random": 5}, "control_kinds": ["mismatched"],
        "dictionaries.load": [str(planted / "dictionary")], "corpus.source": str(planted / "corpus.jsonl"),
    }  # fmt: skip
    return api.run("dictionary", changes, tmp_path_factory.mktemp("n") / "run", Silent).path


def renamed(finished: Path, folder: Path, name: str) -> RunFolder:
    """The run as if its dictionary, model, corpus and explainer were called so."""
    run = RunFolder(copied(finished, folder / "run"))
    features = [replace(one, id=FeatureId(name, one.id.index)) for one in run.read_features()]
    results = [replace(one, feature=FeatureId(name, one.feature.index), explainer=name) for one in run.results()]
    about = {key: value for key, value in run.about.items() if key not in ("files", "checksum")}
    about["config"]["subject"]["model"] = about["config"]["corpus"]["source"] = name
    about["notes"] = [name]
    about["dictionaries"][0]["name"] = name
    (run.path / "run.json").write_text(json.dumps(about | {"status": "scoring"}))
    run.write_features(features)
    run.write_results(results)
    chances = dict.fromkeys(results[0].scores, 0.0)
    leaderboard.write(run, results, chances, INDEPENDENT, ["png"])
    run.seal(status="complete")
    return run


PRINTED = [name for name in NAMES if name not in ("half a character", "long")]
"""A dictionary's name that is not Unicode, or too long, is refused before a run."""


@pytest.mark.parametrize("kind", PRINTED)
def test_names_in_a_runs_pages(kind: str, finished: Path, tmp_path: Path) -> None:
    name = NAMES[kind]
    run = renamed(finished, tmp_path, name)
    feature = str(run.read_features()[0].id)
    for words in (["show", "run"], ["show", "run", "--", feature], ["leaderboard", "run"]):
        done = invoke("autointerp", *words, cwd=tmp_path)
        assert done.exit_code == 0, done.output
        harmless(done.stdout)
    from autointerp.reporting import terminal

    harmless("\n".join(terminal.account(run.about)))
    for row in csv.reader(io.StringIO((run.path / "leaderboard.csv").read_bytes().decode())):
        assert not [cell for cell in row if cell[:1] in "=+@\t\r" and cell]
        assert not [cell for cell in row if cell.startswith("-") and not cell[1:2].isdigit()]
    harmless((run.path / "leaderboard.md").read_text())


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("<b>", "\\<b>"), ("![x](http://a.b)", "!\\[x]\\(http\\://a.b)"), ("a|b", "a\\|b"), ("www.a.b", "www\\.a.b"),
        ("random_matched[topk_2x]", "random_matched[topk_2x]"), ("0.71 [0.66, 0.76]", "0.71 [0.66, 0.76]"),
    ],
)  # fmt: skip
def test_markdown_holds_no_markup_of_names(name: str, written: str) -> None:
    from sae.common.tables import Table

    text = to_markdown([Table(["dictionary", name], [[name, "1"]], "A title.")])
    assert text.count(f" {written} ") == 2, text


@pytest.mark.parametrize("kind", PRINTED)
def test_names_in_pictures(kind: str, finished: Path, tmp_path: Path) -> None:
    row = RunFolder(finished).read_leaderboard()[0] | dict.fromkeys(
        ("dictionary", "explainer", "simulator"), NAMES[kind]
    )
    figure = plots.scores_by_dictionary([row])
    with (tmp_path / "x.png").open("wb") as stream:
        figure.savefig(stream, format="png", dpi=20)
    assert all_tables([row], [])


@pytest.mark.parametrize("kind", [*NAMES, "nothing"])
@pytest.mark.parametrize("command", ["run", "train"])
def test_a_name_that_leaves_its_folder_or_cannot_be_printed(command: str, kind: str, tmp_path: Path) -> None:
    """A config's name begins the name of the folder; what a file system or a terminal takes as more is refused."""
    if kind in ("a formula", "plus", "minus", "at", "pipes", "mathematics", "a dollar", "underscore", "rich markup",
                "a percent"):  # fmt: skip
        pytest.skip("a folder can be called so")
    (tmp_path / "x.yaml").write_text(json.dumps({"name": NAMES.get(kind, "")}))
    program = "autointerp" if command == "run" else "sae"
    refused(program, command, "x.yaml", cwd=tmp_path, names="name")
