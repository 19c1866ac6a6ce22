"""Figures, tables and pictures of the parts on known tasks, of values written by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import figure

from autointerp.reporting import study_pictures as pictures
from autointerp.reporting.study import to_text
from autointerp.studies import STUDIES, Figure
from autointerp.studies.absorption import Absorption
from autointerp.studies.circuits import Circuits
from autointerp.studies.erasure import Erasure
from autointerp.studies.patching import Patching


def erased(way: str, k: int, right: int, kl: float) -> dict[str, Any]:
    """One eraser, after which `right` of ten are right."""
    answers = [1.0] * right + [0.0] * (10 - right)
    return {"way": way, "k": k, "probe_P": answers, "answer_P": answers, "edit_P": [0.5] * 10, "kl_N": [kl, kl]}


def test_of_each_way_the_weakest_that_erases_is_shown_and_the_front_is_of_both_costs() -> None:
    ways = [("nothing", 0, 10, 0.0), ("LEACE", 1, 4, 0.2), ("f", 1, 8, 0.1), ("f", 2, 5, 0.3), ("f", 4, 5, 0.4)]
    measured = {"results": [erased(*one) for one in ways] + [erased("PCA", k, 9, k) for k in (1, 2)], "majority": 0.5}
    figures = {one.what: one for one in Erasure().figures(measured)}
    assert figures["f, k = 2: a fresh probe is right"].value == pytest.approx(0.5)
    assert figures["PCA, k = 2: a fresh probe is right"].value == pytest.approx(0.9)
    assert "f, k = 4: a fresh probe is right" not in figures
    (table,) = Erasure().tables(measured)
    front = {(row[0], row[1]) for row in table.rows if row[-1] == "yes"}
    assert front == {("nothing", "0"), ("LEACE", "1"), ("f", "1")}


def curve(kl: list[float], edits: list[float]) -> dict[str, Any]:
    """The same for each of four prompts, but for a shift of KL."""
    shifts = (-0.1, 0.0, 0.0, 0.1)
    return {
        "l0": 1.0,
        "kl_KP": [[one + shift for shift in shifts] for one in kl],
        "edit_KP": [[one] * 4 for one in edits],
        "followed_KP": [[0.0] * 4, [1.0] * 4, [1.0] * 4],
        "whole_1P": [[0.0, 0.5, 0.5, 1.0]],
    }


def test_areas_between_curves_are_those_by_hand() -> None:
    """KL falls from 4 straight to 0, over edits of length 2 for one and 4 for the other; they share lengths up to 2."""
    sparse, rival = curve([4.0, 2.0, 0.0], [0.0, 1.0, 2.0]), curve([4.0, 3.0, 2.0], [0.0, 1.0, 2.0])
    curves = {"s": sparse, "pca": rival, "neurons": sparse, "random": curve([4.0, 2.0, 0.0], [0.0, 2.0, 4.0])}
    measured = {"counts": [0, 1, 2], "prompts": 4, "curves": curves, "sparse": ["s"], "dense": None}
    figures: dict[str, Figure] = {one.what: one for one in Patching().figures(measured)}
    assert figures["area between pca and s, KL by number of features"].value == pytest.approx(1.5)
    assert figures["area between pca and s, KL by edit length"].value == pytest.approx(1.0)
    assert figures["area between pca and s, KL by edit length"].agrees is True
    assert figures["area between neurons and s, KL by edit length"].value == pytest.approx(0.0)
    assert figures["area between random and s, KL by number of features"].value == pytest.approx(0.0)
    assert figures["area between random and s, KL by edit length"].value == pytest.approx(1.0)
    assert figures["interchange accuracy of s, 2 features"].value == pytest.approx(1.0)
    assert figures["KL with all features of s patched, nats"].value == pytest.approx(0.5)


def target(**changes: Any) -> dict[str, Any]:
    """What is measured of one upper feature."""
    lost = {"ablation": 0.6, "attribution": 0.5, "random": 0.0}
    shares = {"overlap": 1.0, "chance": 0.1, "together": 1.0, "earlier": 0.25}
    correlations = {"correlation": 0.9, "mismatched": 0.0, "direct": None}
    return {"feature": 3, "candidates": 30, "lost": lost} | shares | correlations | changes


def node(name: str, *below: dict[str, Any], lost: float | None = None) -> dict[str, Any]:
    dictionary, feature = name.split("/")
    about = {} if lost is None else {"lost": lost, "attributed": lost, "earlier": 0.0}
    text = f'Active on the token "${feature}" (9.0).'
    return {"dictionary": dictionary, "feature": int(feature), **about, "explanation": text, "below": [*below]}


TREE = node("c/7", node("b/1", node("a/4", lost=0.25), node("a/5", lost=0.1), lost=0.5), node("b/2", lost=0.3))
CIRCUITS = {"links": [{"upper": "b", "lower": "a", "targets": [target(correlation=0.8), target()]}], "trees": [TREE]}


def test_circuits_are_averaged_over_features_and_trees_are_rows() -> None:
    figures = {one.what: one for one in Circuits().figures(CIRCUITS)}
    agreement = figures["b on a: ablation against attribution, correlation over lower features"]
    assert (agreement.value, agreement.n) == (pytest.approx(0.85), 2)
    assert figures["b on a: share of the activation lost on other excerpts without 3 others at random"].value == 0
    assert not [what for what in figures if "weights of the residual" in what]
    (table,) = Circuits().tables(CIRCUITS)
    assert [row[0] for row in table.rows] == ["c/7", "└ b/1", "· └ a/4", "· └ a/5", "└ b/2"]
    assert [row[1] for row in table.rows] == ["", "0.50", "0.25", "0.10", "0.30"]


def measured() -> dict[str, dict[str, Any]]:
    """What the parts with pictures measured, by hand."""
    curves = {name: curve([4.0, 2.0, 0.0], [0.0, 1.0, 2.0]) for name in ("s", "pca")}
    ways = [erased(*one) for one in (("nothing", 0, 10, 0.0), ("LEACE", 1, 4, 0.2), ("features of s", 1, 8, 0.1))]
    each = [[0.1, 0.0, 0.2], [0.6, 0.5, 0.7], [0.9, 0.8, 1.0]]
    sizes = [
        {"name": "s_1x", "points": [[0.0, 0.0], [1.0, 0.0]], "parents": [None, None], "token": [1]},
        {"name": "s_2x", "points": [[0.0, 1.0], [1.0, 1.0]], "parents": [1, None], "token": []},
    ]
    return {
        "explained": {"counts": [0, 5, 10], "least": [None, 0.7, 0.2], "best": each, "random": each},
        "patching": {"counts": [0, 1, 2], "prompts": 4, "curves": curves, "sparse": ["s"], "dense": None},
        "erasure": {"results": ways, "majority": 0.5},
        "splitting": {"map": {"method": "PCA", "sizes": sizes}},
        "circuits": CIRCUITS,
    }


def test_panels_show_what_was_measured() -> None:
    shown = {}
    for name, values in measured().items():
        panel = figure.Figure().add_subplot()
        STUDIES.get(name)().panels(values)[0](panel)
        shown[name] = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in panel.lines}
        written = [text.get_text() for text in panel.texts]
        assert name != "circuits" or {'b/1\nthe token "\\$1" (9.0).', "0.50", "0.25"} <= set(written)
    assert shown["explained"]["best-scored"] == [[0.7, 0.6], [0.2, 0.9]]
    assert shown["patching"]["PCA"] == [[0, pytest.approx(4)], [1, pytest.approx(2)], [2, pytest.approx(0)]]
    assert shown["erasure"]["LEACE"] == [[0.2, 0.4]]
    assert shown["erasure"]["features of s"] == [[0.1, 0.8]]
    assert [[0.0, 1.0], [1.0, 0.0]] in shown["splitting"].values()  # from the larger's first to its parent
    assert len(shown["circuits"]) == 4


def test_pictures_are_the_same_bytes_again_and_the_overview_needs_all_its_parts(tmp_path: Path) -> None:
    outcomes: dict[str, dict[str, Any]] = {name: {"measured": values} for name, values in measured().items()}
    outcomes |= {"tasks": {"reason": "too few"}, "automata": {}}
    for name in "ab":
        (tmp_path / name).mkdir()
        pictures.write(tmp_path / name, {"circuits": outcomes["circuits"], "tasks": outcomes["tasks"]}, ["svg"])
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name / "pictures").iterdir()} for name in "ab")
    assert first == second
    assert set(first) == {"circuits.svg"}
    links = pictures.linked(outcomes, ["pdf", "png", "svg"])
    assert links == {name: f"pictures/{name}.svg" for name in (*measured(), "study")}
    assert pictures.linked(outcomes, ["pdf"]) == {}
    del outcomes["erasure"]
    assert "study" not in pictures.linked(outcomes, ["png"])
    text = to_text({"dictionary": "d", "model": "m", "corpus": "c", "seed": 0, "explainer": "e", "simulator": "s",
                    "judge": "j", "parts": {"tasks": {"title": "t", "not_done": "x"}},
                    "pictures": {"study": "pictures/study.svg"}})  # fmt: skip
    assert "![study](pictures/study.svg)" in text


def test_absorption_counts_only_what_both_probes_tell() -> None:
    def one(f1: float, fraction: float) -> dict[str, Any]:
        return {"dictionary": "d", "sparse_f1": f1, "features": [1], "words": 4, "fraction": fraction, "full": 0.0}

    known = [
        {"group": "script", "property": name, "probe_f1": 1.0, "dictionaries": [each]}
        for name, each in (("Greek", one(0.9, 0.2)), ("Han", one(0.8, 0.4)), ("Arabic", one(0.5, 1.0)))
    ]
    letter = {"group": "first letter", "property": "S-", "probe_f1": 0.1, "dictionaries": []}
    measured = {"properties": [*known, letter]}
    figures = {figure.what: figure for figure in Absorption().figures(measured)}
    assert (figures["d: absorption fraction"].value, figures["d: absorption fraction"].n) == (pytest.approx(0.3), 2)
    assert figures["first letter: F1 of the linear probe"].value == pytest.approx(0.1)
    (table,) = Absorption().tables(measured)
    assert [row[-2] for row in table.rows] == ["0.20", "0.40", "-"]
    assert "first letter S- (0.10)" in table.title
