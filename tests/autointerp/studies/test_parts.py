"""Figures and tables of the parts on known tasks, of values written by hand."""

from typing import Any

import pytest

from autointerp.studies import Figure
from autointerp.studies.absorption import Absorption
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
