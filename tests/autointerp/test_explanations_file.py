"""Explanations from files: an earlier run's score as they did there, other tools' columns are read, mistakes named."""

import gzip
import json
from pathlib import Path

import pandas
import pytest

import autointerp as package
from autointerp import explanation_files
from autointerp.prompting import templates
from autointerp.prompting.rules import PROMPT
from autointerp.records import ANY
from sae.common.tables import no_formula
from tests.conftest import PLANTED_SETTINGS, WORDS, autointerp

NOTHING = templates.load(PROMPT).values["nothing"]
PLAIN = [word for setting in PLANTED_SETTINGS for word in ("--set", setting)]


def run(planted: Path, folder: Path, *flags: object) -> tuple[int, str, package.Run | None]:
    """A run of the planted dictionary without baselines."""
    done = autointerp(
        "run", "dictionary", "--dictionary", planted / "dictionary", "--corpus", planted / "corpus.jsonl", *PLAIN,
        "--out", folder / "run", *flags, cwd=folder,
    )  # fmt: skip
    return done.returncode, done.stderr, package.open_run(folder / "run") if done.returncode == 0 else None


def rules(word: str) -> str:
    return f'Active on the token "{word}" (10.0).'


@pytest.fixture(scope="module")
def learnt(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> package.Run:
    _, _, done = run(planted, tmp_path_factory.mktemp("learnt"), "--explainer", "rules-2", "--baselines", "neurons")
    assert done is not None
    return done


def test_an_earlier_runs_explanations_score_as_they_did_there(
    learnt: package.Run, planted: Path, tmp_path: Path
) -> None:
    known = learnt.results.query("explainer == 'rules-2'")
    known[["dictionary", "feature", "explanation"]].to_csv(tmp_path / "known.csv", index=False)
    _, _, done = run(planted, tmp_path, "--explanations", tmp_path / "known.csv", "--baselines", "neurons")
    assert done is not None
    keys = ["dictionary", "feature"]
    first, second = (table.set_index(keys).sort_index() for table in (known, done.results))
    assert list(first.index) == list(second.index)
    for column in ("explanation", "simulation/population", "simulation/top_and_random", "status"):
        assert first[column].equals(second[column]), column
    assert set(done.results.explainer) == {f"file:{tmp_path / 'known.csv'}"}


def test_the_mark_of_an_exported_formula_is_no_part_of_the_explanation(tmp_path: Path) -> None:
    texts = ["=, and what follows", "'quoted'", "-1 in lists", "plain"]
    cells = [no_formula(text) for text in texts]
    assert cells[0] == "'=, and what follows"
    table = pandas.DataFrame({"feature": range(len(texts)), "explanation": cells})
    table.to_csv(tmp_path / "features.csv", index=False)
    read = explanation_files.read(str(tmp_path / "features.csv"))
    assert list(read.by_dictionary[ANY].values()) == texts


def test_neuronpedias_export_is_read_and_only_its_features_are_sampled(planted: Path, tmp_path: Path) -> None:
    rows = [
        {"modelId": "m", "layer": "0-x", "index": str(i), "description": rules(WORDS[i]), "typeName": "t"}
        for i in (6, 2, 5)
    ]
    rows.append(rows[0] | {"description": "another one"})
    with gzip.open(tmp_path / "batch-0.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    code, shown, done = run(planted, tmp_path, "--explanations", tmp_path / "batch-0.jsonl.gz")
    assert done is not None, shown
    assert list(done.results.feature) == [2, 5, 6]
    assert list(done.results["simulation/top_and_random"]) == pytest.approx([1.0, 1.0, 1.0])
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert any("1 rows explain a feature again" in note for note in notes), notes
    assert code == 0


def test_several_authors_are_scored_and_shown_side_by_side(planted: Path, tmp_path: Path) -> None:
    """Of Neuronpedia's export two models, of a file of one's own a person, beside an explainer of the run."""
    rows = [
        {"modelId": "m", "layer": "0-x", "index": str(i), "description": rules(WORDS[named]), "typeName": "t"}
        | {"explanationModelName": model}
        for model, shift in (("good", 0), ("b#d", 1))
        for i, named in ((2, 2 + shift), (5, 5 + shift), (7 - shift, 7))
    ]
    (tmp_path / "np.json").write_text(json.dumps(rows))
    (tmp_path / "own.csv").write_text("feature,text\n" + "".join(
        f'{i},"{rules(word).replace(chr(34), chr(34) * 2)}"\n' for i, word in ((2, WORDS[2]), (5, "and"))
    ))  # fmt: skip
    given = ("--explanations", "np.json", "--explanations", "own.csv", "--explainer", "rules-1")
    code, shown, done = run(planted, tmp_path, *given)
    assert (code, done is not None) == (0, True), shown
    assert done is not None
    names = ["file:np.json#good, t", "file:np.json#b#d, t", "file:own.csv", "rules-1"]
    scores = done.results.pivot(index="explainer", columns="feature", values="simulation/top_and_random")
    assert list(scores.columns) == [2, 5]
    for name, right in zip(names, ((True, True), (False, False), (True, False), (True, True)), strict=True):
        assert [score > 0.99 for score in scores.loc[name]] == list(right), name
    assert set(done.leaderboard().explainer) == set(names)
    page = autointerp("show", tmp_path / "run", "words/5", "--all", cwd=tmp_path).stdout
    assert [page.count(f"{name} (") for name in names] == [1] * 4
    assert rules("and") in page


def test_an_unknown_author_is_one_line(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("feature,text,explainer\n1,a,me\n1,b,you\n2,c,\n")
    code, shown, _ = run(planted, tmp_path, "--set", "explainers=['file:x.csv#them']", "--baselines", "none")
    assert (code, shown.strip().count("\n")) == (2, 0), shown
    assert "x.csv has no explanation by 'them'; known: me, you, unnamed" in shown


def test_listed_features_are_sampled(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\ufeff7\n3, 0\n")
    _, shown, done = run(
        planted, tmp_path, "--feature-ids", "ids.txt", "--baselines", "random", "--explainer", "rules-1"
    )
    assert done is not None, shown
    by_name = done.results.groupby("dictionary").feature.agg(list)
    assert by_name.pop("random") != [0, 3, 7]
    assert list(by_name) == [[0, 3, 7]]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "x.csv",
            "dictionary,feature\nplanted,1\n",
            "has no column text or explanation or description; it has dictionary",
        ),
        ("x.csv", "feature,text\none,t\n", "row 1: the feature is 'one', not a whole number"),
        ("x.csv", "feature,text\n1,a\n2,\n", "row 2: the explanation is empty"),
        ("x.csv", "feature,text\n", "holds no explanation"),
        ("x.csv", "dictionary,feature,text\n,0,a\nwords,1,b\n", "some rows name a dictionary and others none"),
        (
            "x.jsonl",
            '{"feature": 0, "text": "a"}\n{"dictionary": "words", "feature": 1, "text": "b"}\n',
            "some rows name a dictionary and others none; name it in all of them, or in none",
        ),
        ("x.csv", "feature,text\n0,7,a\n", "rows have more fields than the header; quote a text that holds a comma"),
        ("x.csv", f"feature,text\n{'9' * 5000},a\n", f"row 1: the feature is '{'9' * 40}', not a whole number"),
        ("x.csv", "", "is not CSV"),
        ("x.jsonl", "{\n", "is not JSONL"),
        ("x.json", "[1, 2]", "has no column feature"),
        ("x.csv.gz", "feature,text\n1,a\n", "cannot read explanations from"),
        ("x.txt", "", "give .csv, .json or .jsonl"),
        ("x.csv", "feature,text\n1,Fires on red words\n", "writes prose, which the simulator `rules` cannot read"),
        ("x.csv", 'feature,text\n900,"Active on the token ""red"" (10.0)."\n', "has features 0 to 7, and no 900"),
        (
            "x.csv",
            'dictionary,feature,text\na,1,"Active on the token ""a"" (1.0)."\nb,1,"Active on the token ""b"" (1.0)."\n',
            "no feature of",
        ),
    ],
    ids=str,
)
def test_a_wrong_file_is_one_line(name: str, text: str, line: str, planted: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    code, shown, _ = run(planted, tmp_path, "--explanations", tmp_path / name)
    assert (code, shown.strip().count("\n")) == (2, 0), shown
    assert line in shown
    assert not (tmp_path / "run").exists()


def test_a_wrong_list_of_features_is_one_line(planted: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"1\xa02")
    for given, line in (
        ("1,x", "'x' is neither a file nor a whole number"),
        ("1,99", "has features 0 to 7, and no 99"),
        ("9" * 5000, f"'{'9' * 40}' is neither a file nor a whole number"),
        (",".join(map(str, range(500))), "has features 0 to 7, and no 499"),
        (str(tmp_path / "latin.txt"), "latin.txt is no file of numbers"),
    ):
        code, shown, _ = run(planted, tmp_path, "--feature-ids", given, "--baselines", "none")
        assert (code, shown.strip().count("\n")) == (2, 0), shown
        assert line in shown
