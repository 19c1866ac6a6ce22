"""The figures, from leaderboard rows made by hand: what is drawn where, in which colour."""

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from autointerp.records import FeatureId, FeatureResult
from autointerp.reporting import plots
from sae.baselines import registry
from tests.autointerp.reporting.rows import row, simulated

HOOKS = tuple(f"blocks.{layer}.mlp.hook_post" for layer in (0, 2, 11))
KINDS = ("sae", "neurons", "random_matched")


def layered(hooks: tuple[str, ...] = HOOKS) -> list[dict[str, object]]:
    """Rows of three kinds at several hook points; the mean tells which."""
    return [
        line | {"mean": mean, "ci_low": mean - 0.05, "ci_high": mean + 0.02}
        for number, hook in enumerate(hooks)
        for kind in KINDS
        for mean in [0.1 * number + 0.2 * KINDS.index(kind)]
        for line in simulated(f"{kind}@{hook}", kind=kind, hook_point=hook)
    ]


def drawn(panel: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each labelled line."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]  # type: ignore[union-attr]
        for line in panel.lines
        if not str(line.get_label()).startswith("_")
    }


def test_every_kind_has_a_colour_even_an_unknown_one() -> None:
    for kind in (*KINDS, "foreign"):
        figure = plots.scores_by_dictionary(simulated(kind))
        colours = {to_hex(line.get_color()) for line in figure.axes[0].lines}
        assert to_hex(registry.colour_of(kind)) in colours


def test_scores_have_a_row_of_panels_per_hook_point() -> None:
    figure = plots.scores_by_dictionary(layered())
    assert len(figure.axes) == 12
    names = [[text.get_text() for text in panel.get_yticklabels()] for panel in figure.axes[::4]]
    assert names == [["sae\nn = 9", "neurons\nn = 9", "random, density-\nmatched\nn = 9"]] * 3
    assert [panel.get_ylabel() for panel in figure.axes[::4]] == list(HOOKS)
    assert [panel.get_xlabel() for panel in figure.axes] == [""] * 8 + ["correlation"] * 4
    assert [panel.get_title() for panel in figure.axes[:4]] == ["population", "top and random", "top", "random"]
    one = plots.scores_by_dictionary(layered(HOOKS[:1]))
    assert (len(one.axes), one.axes[0].get_ylabel()) == (4, "")
    assert one.get_suptitle().endswith("explainer rules-5, simulator rules")


def test_n_is_the_number_of_scored_features_or_its_range() -> None:
    rows = simulated("topk_4x", kind="sae", n_ok=7, n_failed=2)
    first = plots.scores_by_dictionary(rows).axes[0].get_yticklabels()[0].get_text()
    assert first == "topk 4x\nn = 9"
    rows[1] |= {"n_ok": 4}
    assert plots.scores_by_dictionary(rows).axes[0].get_yticklabels()[0].get_text() == "topk 4x\nn = 6 to 9"


def test_every_feature_has_a_point_and_every_dictionary_a_violin() -> None:
    rows = [line for name in ("sae", "pca") for line in simulated(name)]
    scores = {"sae": [0.1, 0.5, 0.9, None], "pca": [0.2]}
    results = [
        FeatureResult(FeatureId(name, index), explainer, "ok", None, (), {rows[0]["scorer"]: score})
        for name, values in scores.items()
        for index, score in enumerate(values)
        for explainer in ("rules-5", "another")
    ]
    (panel,) = plots.scores_by_feature(rows, results).axes
    dots = {to_hex(line.get_color()): line for line in panel.lines if line.get_marker() == "o"}
    for position, name in enumerate(("sae", "pca")):
        dot = dots[to_hex(registry.colour_of(name))]
        assert list(dot.get_xdata()) == [score for score in scores[name] if score is not None]
        assert np.abs(np.asarray(dot.get_ydata()) - position).max() <= 0.25
    assert len(panel.collections) == 1  # one point has no distribution


def test_score_by_layer_has_a_line_per_kind_and_a_point_per_layer() -> None:
    figure = plots.scores_by_layer(layered())
    assert figure is not None
    (panel,) = figure.axes
    assert drawn(panel) == {
        registry.in_words(kind, kind): [
            (layer, pytest.approx(0.1 * number + 0.2 * KINDS.index(kind))) for number, layer in enumerate((0, 2, 11))
        ]
        for kind in KINDS
    }
    assert list(panel.get_xticks()) == [0, 2, 11]
    assert panel.get_xlabel() == "layer of blocks.N.mlp.hook_post"
    intervals = [bar.get_segments()[0][:, 1].tolist() for bar in panel.collections]  # type: ignore[attr-defined]
    assert intervals[0] == pytest.approx([-0.05, 0.02])
    assert len(intervals) == 9


def test_two_dictionaries_of_a_kind_are_two_lines_and_places_in_a_block_two_panels() -> None:
    residual = tuple(f"blocks.{layer}.hook_resid_post" for layer in (0, 1))
    rows = [
        line
        for hook in (*HOOKS, *residual, "hook_embed", "blocks.5.hook_attn_out")
        for name in ("small", "large")
        for line in simulated(f"{name}@{hook}", kind="sae", hook_point=hook)
    ]
    figure = plots.scores_by_layer(rows)
    assert figure is not None
    assert [panel.get_xlabel() for panel in figure.axes] == [
        "layer of blocks.N.mlp.hook_post",
        "layer of blocks.N.hook_resid_post",
    ]
    for panel in figure.axes:
        assert list(drawn(panel)) == ["sae", "sae (2)"]
    assert len({line.get_linestyle() for line in figure.axes[0].lines if line.get_label() in ("sae", "sae (2)")}) == 2


def test_one_layer_needs_no_figure_of_layers() -> None:
    assert plots.scores_by_layer([*layered(HOOKS[:1]), *simulated("e", hook_point="hook_embed")]) is None


def test_score_by_length_has_a_line_per_dictionary_and_skips_what_has_no_mean() -> None:
    rows = [
        line | {"mean": None if (name, explainer) == ("pca", "rules-5") else 0.5}
        for explainer in ("rules-5", "token-table", "rules-unlimited", "rules-1")
        for name in ("sae", "pca")
        for line in simulated(name, explainer=explainer)
    ]
    figure = plots.scores_by_length(rows)
    assert figure is not None
    assert drawn(figure.axes[0]) == {"sae": [(0, 0.5), (1, 0.5), (2, 0.5)], "PCA": [(0, 0.5), (2, 0.5)]}
    assert plots.scores_by_length(simulated("sae")) is None


def test_the_figures_of_a_run(tmp_path: Path) -> None:
    """PNG at 200 dpi, SVG, PDF; drawn again they are the same bytes."""
    folders = [tmp_path / "one" / "pictures", tmp_path / "two" / "pictures"]
    for folder in folders:
        plots.write(folder.parent, layered()[:2], [])
    names = {f"{name}.{kind}" for name in ("scores", "features") for kind in ("png", "svg", "pdf")}
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert set(first) == names
    assert first == second
    for name, data in first.items():
        assert data.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[name.split(".")[1]])
    dots_per_metre = struct.unpack(">II", first["scores.png"].partition(b"pHYs")[2][:8])
    assert dots_per_metre == (pytest.approx(200 / 0.0254, abs=1),) * 2
    assert b"Type3" not in first["scores.pdf"]


def test_a_score_without_a_mean_is_no_point(tmp_path: Path) -> None:
    rows = [row("sae", "detection", simulator=None, chance=None, mean=None, ci_low=None, ci_high=None)]
    plots.write(tmp_path, rows, [])
    assert (tmp_path / "pictures" / "scores.png").read_bytes().startswith(b"\x89PNG")


def chance_lines(panel: Axes) -> list[list[tuple[float, float]]]:
    """The ends of each chance level's line, across a panel in shares of it."""
    grey = [line for line in panel.lines if line.get_color() == plots.CHANCE_COLOUR]
    return [[(float(x), float(y)) for x, y in line.get_xydata()] for line in grey]  # type: ignore[union-attr]


def test_each_dictionary_has_the_chance_level_of_its_own_run() -> None:
    rows = [row(name, "intruder", chance=chance) for name, chance in (("a:sae", 0.2), ("b:sae", 0.25), ("c:sae", None))]
    for figure in (plots.scores_by_dictionary(rows), plots.scores_by_feature(rows, [])):
        assert chance_lines(figure.axes[0]) == [[(0.2, -0.5), (0.2, 0.5)], [(0.25, 0.5), (0.25, 1.5)]]
    assert chance_lines(plots.scores_by_dictionary(rows[:1]).axes[0]) == [[(0.2, 0.0), (0.2, 1.0)]]
    assert chance_lines(plots.scores_by_dictionary(rows[2:]).axes[0]) == [], "a level that is not known is not 0"


def test_a_panel_of_layers_has_the_chance_levels_of_its_own_rows() -> None:
    levels = {"mlp.hook_post": 0.2, "hook_resid_post": 0.3}
    rows = [
        row(f"sae@{layer}.{kind}", "intruder", hook_point=f"blocks.{layer}.{kind}", chance=level)
        for kind, level in levels.items()
        for layer in (0, 1)
    ]
    figure = plots.scores_by_layer(rows)
    assert figure is not None
    assert [chance_lines(panel)[0][0][1] for panel in figure.axes] == [0.2, 0.3]
    assert [len(chance_lines(panel)) for panel in figure.axes] == [1, 1]
