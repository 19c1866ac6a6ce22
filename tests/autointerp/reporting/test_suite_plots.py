"""The pictures of a suite and of stability, from rows made by hand: what is drawn where."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from autointerp.records import FeatureId, FeatureResult, Stability
from autointerp.reporting import stability_plot, suite_plots
from autointerp.reporting.dependence import Dependence
from autointerp.reporting.plots import CHANCE_COLOUR
from autointerp.statistics.intervals import mean_interval
from tests.autointerp.reporting.rows import row

HOOK = "blocks.{}.mlp.hook_post"
SUBJECTS = {"a": "small", "b": "small", "c": "large"}


def at(member: str, layer: int, mean: float, name: str = "topk", **values: Any) -> dict[str, Any]:
    hook_point = HOOK.format(layer)
    known = {"mean": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1, "hook_point": hook_point, "kind": "sae"}
    return row(f"{member}:{name}@{hook_point}", **(known | {"tokens_in": 0, "tokens_out": 0} | values))


def lines(panel: Axes) -> dict[str, list[tuple[float, float]]]:
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]  # type: ignore[union-attr]
        for line in panel.lines
        if not str(line.get_label()).startswith("_")
    }


def points(panel: Axes) -> list[tuple[float, float]]:
    """Means with their intervals, in the order in which they were drawn."""
    drawn = [container.lines[0] for container in panel.containers]  # type: ignore[attr-defined]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in drawn]


def test_members_of_one_subject_share_a_panel_and_what_is_the_same_is_drawn_once() -> None:
    """Two members with a dictionary of one name at both layers, one neuron baseline each; a subject with one layer."""
    rows = [at("a", 0, 0.1), at("a", 1, 0.2), at("b", 0, 0.3), at("b", 1, 0.4), at("c", 0, 0.9)]
    rows += [at(member, layer, 0.5, "neurons", kind="neurons") for member in "ab" for layer in (0, 1)]
    figure = suite_plots.by_layer(rows, SUBJECTS)
    assert figure is not None
    (panel,) = figure.axes
    assert panel.get_title() == "small"
    assert lines(panel) == {
        "topk (a)": [(0, 0.1), (1, 0.2)], "topk (b)": [(0, 0.3), (1, 0.4)], "neurons": [(0, 0.5), (1, 0.5)]
    }  # fmt: skip


def test_members_at_different_layers_are_one_line() -> None:
    figure = suite_plots.by_layer([at("a", 0, 0.1), at("b", 3, 0.2)], SUBJECTS)
    assert figure is not None
    assert lines(figure.axes[0]) == {"topk": [(0, 0.1), (3, 0.2)]}
    assert suite_plots.by_layer([at("a", 0, 0.1), at("c", 1, 0.2)], SUBJECTS) is None


def test_a_panel_has_the_chance_levels_of_its_own_subject() -> None:
    rows = [at(member, layer, 0.5, chance=level) for member, level in (("a", 0.2), ("c", 0.3)) for layer in (0, 1)]
    figure = suite_plots.by_layer(rows, SUBJECTS)
    assert figure is not None
    grey = [[line.get_ydata() for line in panel.lines if line.get_color() == CHANCE_COLOUR] for panel in figure.axes]
    assert grey == [[[0.2, 0.2]], [[0.3, 0.3]]]


def test_modules_of_transformers_have_layers_and_a_crosscoder_has_none() -> None:
    hooks = ["hf:model.layers.2.mlp", "hf:model.layers.10.mlp", "blocks.0.hook_x+blocks.1.hook_x", "hf:model.norm"]
    figure = suite_plots.by_layer([at("a", 0, 0.1 * n, hook_point=hook) for n, hook in enumerate(hooks)], SUBJECTS)
    assert figure is not None
    (panel,) = figure.axes
    assert panel.get_xlabel() == "layer of hf:model.layers.N.mlp"
    assert [point for line in lines(panel).values() for point in line] == [(2, 0.0), (10, 0.1)]


def test_sparsity_has_a_panel_for_l0_and_one_for_fvu() -> None:
    rows = [at("a", 0, 0.1, l0=4.0, fvu=0.5), at("c", 0, 0.2, l0=16.0, fvu=None)]
    figure = suite_plots.by_sparsity(rows, SUBJECTS)
    assert figure is not None
    assert [points(panel) for panel in figure.axes] == [[(4.0, 0.1), (16.0, 0.2)], [(0.5, 0.1)]]
    assert suite_plots.by_sparsity([at("a", 0, 0.1, l0=None, fvu=None)], SUBJECTS) is None


def test_cost_is_of_a_feature_in_usd_or_in_tokens_where_a_price_is_unknown() -> None:
    """A row has nine features that are ok and one that is undefined."""
    rows = [at("a", 0, 0.1, cost_usd=2.0), at("a", 0, 0.3, explainer="openai/m", cost_usd=4.0)]
    figure = suite_plots.by_cost(rows)
    assert figure is not None
    assert points(figure.axes[0]) == [(pytest.approx(0.2), 0.1), (pytest.approx(0.4), 0.3)]
    unknown = suite_plots.by_cost([*rows, at("c", 0, 0.2, cost_usd=None, tokens_in=900, tokens_out=100)])
    assert unknown is not None
    assert (unknown.axes[0].get_xlabel(), points(unknown.axes[0])[2]) == ("tokens a feature", (100.0, 0.2))
    assert suite_plots.by_cost([at("a", 0, 0.1, cost_usd=0.0)]) is None


def test_pictures_are_written_as_far_as_there_is_something_to_draw(tmp_path: Path) -> None:
    suite_plots.write(tmp_path, [at("a", 0, 0.1), at("b", 1, 0.2)], SUBJECTS, ["png"])
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"layers.png", "sparsity.png"}


def test_scores_are_averaged_over_features_of_like_stability() -> None:
    rng = np.random.default_rng(0)
    score = "simulation/population"
    shares = rng.integers(0, 5, 60) / 4
    values = rng.normal(0.4, 0.1, 60)
    names = ("topk", "topk_seed1")
    results = [
        FeatureResult(FeatureId(names[i % 2], i), "rules-5", "ok", None, (), {score: value})
        for i, value in enumerate(values.tolist())
    ]
    known = {
        name: Stability((names[1 - n],), 0.5, 0.5, {i: shares[i] for i in range(n, 60, 2)}, {})
        for n, name in enumerate(names)
    }
    binned = stability_plot.binned(results, score, Dependence(), known)
    assert [(x, n) for x, *_, n in binned] == [
        (share, int((shares == share).sum())) for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    for share, mean, low, high, _ in binned:
        expected = mean_interval(values[shares == share].tolist())
        assert expected is not None
        assert (mean, low, high) == pytest.approx((expected.mean, expected.low, expected.high))
    figure = stability_plot.scores_by_stability([row(name, kind="sae") for name in names], results, Dependence(), known)
    assert list(lines(figure.axes[0])) == ["topk, 2 seeds"]
