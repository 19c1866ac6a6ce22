"""Tables of text: nothing is lost at any width, and no cell is read as markup or sent to the terminal as it is."""

import io

import pytest

from sae.common.tables import Table, number, print_tables, to_latex, to_markdown, visible

TABLE = Table(("name", "mean"), (("random_matched[words]", "0.71 [0.66, 0.76]"), ("[bold]a|b\x1b[2J", "-")), "Scores.")


def printed(*tables: Table, width: int | None = None) -> str:
    """What print_tables sends to a file, or to a terminal of some width."""
    from rich.console import Console

    stream = io.StringIO()
    terminal = {} if width is None else {"force_terminal": True, "width": width, "color_system": "256"}
    print_tables(tables, Console(file=stream, **terminal))  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_file_gets_one_line_a_row_without_colours() -> None:
    wide = Table(("name", "text"), [("a" * 90, "word " * 60)], "T " * 90)
    lines = [line.strip() for line in printed(wide).splitlines()]
    assert lines[0] == ("T " * 90).strip()
    assert lines[-1] == "a" * 90 + "  " + ("word " * 60).strip()
    assert "\x1b" not in printed(wide, TABLE)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_a_terminal_gets_lines_of_its_width_and_every_character(width: int) -> None:
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed(TABLE, width=width))
    assert max(map(len, plain.splitlines())) <= width
    for character in "random_matched[words]0.710.66,0.76[bold]a|b\\x1b[2J":
        assert character in plain
    if width == 200:
        assert "random_matched[words]  0.71 [0.66, 0.76]" in plain
        assert "[bold]a|b\\x1b[2J                       -" in plain


def test_markdown_escapes_bars_and_needs_no_terminal() -> None:
    text = to_markdown([TABLE, Table(("a",), ())])
    assert text == (
        "Scores.\n"
        "\n"
        "| name                  |              mean |\n"
        "|-----------------------|-------------------|\n"
        "| random_matched[words] | 0.71 [0.66, 0.76] |\n"
        "| [bold]a\\|b\\x1b[2J     |                 - |\n"
        "\n"
        "| a |\n"
        "|---|\n"
    )


def test_latex_escapes_commands_and_sets_minus_signs() -> None:
    text = to_latex([TABLE, Table(("50% & $x_1$", r"a\b~{c}^#"), [("-0.01 [-0.20, 0.18]", "*")])])
    assert text == (
        "% needs \\usepackage{booktabs}\n"
        "\\begin{table}\n\\centering\n\\caption{Scores.}\n\\begin{tabular}{lr}\n\\toprule\n"
        "name & mean \\\\\n\\midrule\n"
        "random\\_matched[words] & 0.71 [0.66, 0.76] \\\\\n"
        "{}[bold]a\\textbar{}b\\textbackslash{}x1b[2J & - \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
        "\n\\begin{table}\n\\centering\n\\begin{tabular}{rl}\n\\toprule\n"
        "50\\% \\& \\$x\\_1\\$ & a\\textbackslash{}b\\textasciitilde{}\\{c\\}\\textasciicircum{}\\# \\\\\n\\midrule\n"
        "$-$0.01 [$-$0.20, 0.18] & {}* \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        to_markdown([Table(("a", "b"), [("1",)])])


def test_numbers_and_control_characters() -> None:
    assert (number(None), number(0.125, 1), number(-2)) == ("-", "0.1", "-2.00")
    assert visible("a\x1b[2Jb\r\x07\n\u202e\x9b") == "a\\x1b[2Jb\\r\\x07⏎\\u202e\\x9b"
