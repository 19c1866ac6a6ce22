"""Reports a study: every part with its figures beside the published ones, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from autointerp.reporting.study_pictures import OVERVIEW
from autointerp.studies import STUDIES, Figure
from sae.common.tables import Table, number, to_markdown

SCHEMA_VERSION = 1
NOT_DONE = "not done yet"
DIGITS = 3


def to_json(
    about: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, str]
) -> dict[str, Any]:
    """Return study.json: what was studied, and of each part its figures, tables and picture, or why there are none.

    Args:
        outcomes: of each part what it `measured`, or the `reason` why it means nothing here; empty: not done yet.
        pictures: the paths of pictures, by part; see `study_pictures.linked`.
    """
    parts = {name: _part(name, one) for name, one in outcomes.items()}
    return {"schema_version": SCHEMA_VERSION, **about, "parts": parts, "pictures": dict(pictures)}


def _part(name: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    part = STUDIES.get(name)()
    if "measured" not in outcome:
        return {"title": part.title, "not_done": outcome.get("reason", NOT_DONE)}
    measured = outcome["measured"]
    return {
        "title": part.title,
        "figures": [asdict(one) | {"agrees": one.agrees} for one in part.figures(measured)],
        "tables": [
            {"title": table.title, "header": list(table.header), "rows": [list(row) for row in table.rows]}
            for table in part.tables(measured)
        ],
    }


def to_text(report: Mapping[str, Any]) -> str:
    """Return study.md, from what study.json holds."""
    lines = [
        "# Study",
        "",
        f"Dictionary {report['dictionary']} of {report['model']} on {report['corpus']}, seed {report['seed']}; "
        f"explainer {report['explainer']}, simulator {report['simulator']}, judge {report['judge']}. Intervals are "
        "95%. `agrees`: the interval holds the published number, or lies above it where that is what is published.",
    ]
    lines += _picture(report, OVERVIEW)
    for name, part in report["parts"].items():
        lines += ["", f"## {name}", "", part["title"], ""]
        if "not_done" in part:
            again = f"; next: `autointerp study {name}`" if part["not_done"] == NOT_DONE else ""
            lines.append(f"Not measured: {part['not_done']}{again}.")
            continue
        tables = [figures_table(part), *(Table(one["header"], one["rows"], one["title"]) for one in part["tables"])]
        lines += [to_markdown(tables).rstrip(), *_notes(part), *_picture(report, name)]
    return "\n".join(lines) + "\n"


def _picture(report: Mapping[str, Any], name: str) -> list[str]:
    path = report["pictures"].get(name)
    return ["", f"![{name}]({path})"] if path else []


def summary_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return the tables that a terminal shows: the figures of each part, and why some have none."""
    tables = [
        Table(figures_table(part).header, figures_table(part).rows, f"{name}: {part['title']}")
        for name, part in report["parts"].items()
        if "figures" in part
    ]
    missing = [[name, part["not_done"]] for name, part in report["parts"].items() if "not_done" in part]
    return tables + ([Table(["part", "not measured"], missing)] if missing else [])


def figures_table(part: Mapping[str, Any]) -> Table:
    """Return a part's figures as a table: measured, published, and whether they agree."""
    figures = [Figure(**{name: value for name, value in one.items() if name != "agrees"}) for one in part["figures"]]
    return Table(["figure", "measured", "n", "published", "agrees"], [_row(one) for one in figures])


def _row(one: Figure) -> list[str]:
    interval = "" if one.low is None else f" [{number(one.low, DIGITS)}, {number(one.high, DIGITS)}]"
    published = "" if one.published is None else ("> " if one.above else "") + number(one.published)
    agrees = {True: "yes", False: "no", None: ""}[one.agrees]
    return [one.what, number(one.value, DIGITS) + interval, f"{one.n:,}", published, agrees]


def _notes(part: Mapping[str, Any]) -> list[str]:
    """Return the sources of the published figures, and what explains a difference, each once."""
    noted = [one for one in part["figures"] if one["source"]]
    lines = dict.fromkeys(f"Published: {one['source']}; {one['note']}." for one in noted if one["note"])
    lines |= dict.fromkeys(f"Published: {one['source']}." for one in noted if not one["note"])
    return ["", *lines] if lines else []
