"""The tables that a person reads, from leaderboard rows made by hand."""

from autointerp.reporting import tables
from sae.common.tables import to_markdown
from tests.autointerp.reporting.rows import row, simulated


def test_counts_stand_beside_the_main_score() -> None:
    rows = simulated("sae")
    rows[0] |= {"n_ok": 4, "n_failed": 2, "n_undefined": 5, "n_error": 1}
    counts = tables.scores_tables(rows)[1]
    assert list(zip(counts.header, counts.rows[0], strict=True))[:3] == [
        ("dictionary", "sae"), ("ok/failed/undefined/error", "4/2/5/1"), ("mismatched", "8/1/0"),
    ]  # fmt: skip
    assert "ok/failed/undefined/error" in counts.title


def test_the_main_score_has_its_controls_and_its_lead_and_the_published_ones_follow() -> None:
    main, _, published = tables.scores_tables(simulated("sae", permuted_mean=0.125))
    assert list(main.header) == ["dictionary", "population", "mismatched", "permuted", "lead"]
    assert list(main.rows[0]) == ["sae", "0.50 [0.40, 0.60]", "0.01", "0.12", "0.49 [0.39, 0.59]"]
    assert "in another order" in main.title
    assert "exchanged" not in main.title
    assert list(published.header) == ["dictionary", "top and random", "top", "random"]
    assert list(published.rows[0]) == ["sae", *["0.50 [0.40, 0.60]"] * 3]


def test_scores_name_what_differs_and_titles_what_does_not() -> None:
    rows = [*simulated("a"), *simulated("b", hook_point="blocks.1.mlp.hook_post", simulator="openai/s")]
    table = tables.scores_tables(rows)[0]
    assert table.header[:3] == ["dictionary", "hook point", "simulator"]
    assert [line[:3] for line in table.rows] == [
        ["a", "blocks.0.mlp.hook_post", "rules"], ["b", "blocks.1.mlp.hook_post", "openai/s"],
    ]  # fmt: skip
    assert table.title.startswith("Explainer rules-5: mean population")
    same = tables.scores_tables(simulated("a"))[0]
    assert same.header[1] == "population"
    assert same.title.startswith("Explainer rules-5, simulator rules: mean")


def test_a_dictionary_without_the_first_explainer_is_shown_with_its_own() -> None:
    rows = [*simulated("a"), *simulated("b", explainer="openai/e"), *simulated("a", explainer="openai/e")]
    table = tables.scores_tables(rows)[0]
    assert table.header[:2] == ["dictionary", "explainer"]
    assert [line[:2] for line in table.rows] == [["a", "rules-5"], ["b", "openai/e"]]


def test_runs_of_other_questions_show_from_where_to_where_chance_levels_go() -> None:
    """Such as intruder runs with 5 and with 4 texts a question."""
    rows = [row(name, "intruder", chance=chance) for name, chance in (("a:sae", 0.2), ("b:sae", 0.25), ("b:pca", 0.25))]
    assert "chance level 0.2 to 0.25." in tables.scores_tables(rows)[0].title


def test_judged_scores_have_chance_level_and_judge() -> None:
    rows = [
        *simulated("sae"),
        row("sae", "detection", simulator=None, judge="openai/j", chance=0.5, mean=None, ci_low=None, ci_high=None),
        row("sae", "embedding", simulator=None, chance=None, control_mean=None),
    ]
    *_, table = tables.scores_tables(rows)
    assert table.title.startswith("Explainer rules-5, judge openai/j: mean")
    assert list(table.header) == ["dictionary", "scorer", "mean", "chance level", "mismatched", tables.COUNTS]
    assert [line[1:] for line in table.rows] == [
        ["detection", "-", "0.50", "0.01", "9/0/1/0"], ["embedding", "0.50 [0.40, 0.60]", "-", "-", "9/0/1/0"],
    ]  # fmt: skip


def test_no_table_says_shuffled_alone_or_stranger() -> None:
    text = to_markdown(tables.all_tables([*simulated("a"), row("a", "detection")], []))
    assert "stranger" not in text
    assert text.count("shuffled") == text.count("(the shuffled control)") == 2
