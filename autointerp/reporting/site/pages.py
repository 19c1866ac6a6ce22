"""Renders the pages: templates with autoescape, in which everything from a run is text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import jinja2
import yaml

from autointerp.peer_faults import FAULTS, switched_on
from autointerp.records import Status
from autointerp.reporting.site.runs import SiteRun
from sae.common.errors import visible

TEMPLATES, STATIC = (Path(__file__).parent / name for name in ("templates", "static"))
NAMED = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
"""What stands for a character that moves what follows it."""
PAGES = ("index.html", "features.html", "run.html")
Row = dict[str, Any]


def render(runs: Sequence[SiteRun]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every page."""
    made = environment(jinja2.FileSystemLoader(TEMPLATES))
    values = {"title": ", ".join(run.label for run in runs), "runs": [_run(run, *item) for item, run in named(runs)]}
    for name in PAGES:
        yield name, made.get_template(f"{name}.j2").render(page=name, **values)


def environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """Make the environment of our templates, in which every value is escaped; see the filters visible and token."""
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["visible"] = lambda value: visible(str(value))
    made.filters["token"] = visible_token
    return made


def visible_token(text: str) -> str:
    """Show a token, also where it is empty or made of spaces only."""
    spaces = text if text.strip() else text.replace(" ", "\u2423")
    return visible("".join(NAMED.get(character, character) for character in spaces) or "\u2205")


def scripts() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every script without comments of whole lines, indentation and empty lines."""
    for path in sorted(STATIC.glob("*.js")):
        text = re.sub(r"^ */\*.*?\*/\n", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        yield path.name, re.sub(r"^\s+", "", text, flags=re.MULTILINE)


def named(runs: Sequence[SiteRun]) -> list[tuple[tuple[str, str], SiteRun]]:
    """Pair each run with the name of its config beside the pages and of the folder that running it again makes."""
    if len(runs) == 1:
        return [(("config.yaml", "again"), runs[0])]
    return [((f"config-{n}.yaml", f"again-{n}"), run) for n, run in enumerate(runs, start=1)]


def config_yaml(run: SiteRun) -> str:
    """Write a run's config such that `autointerp run` reads it."""
    return yaml.safe_dump(run.about["config"], sort_keys=False, allow_unicode=False, width=100)


def _run(run: SiteRun, config_file: str, folder: str) -> Row:
    """Describe a run to the templates."""
    about = run.about
    return {
        "label": run.label,
        "about": about,
        "faults": [(name, FAULTS[name].does) for name in switched_on(about)],
        "state": "" if run.is_complete else f"not finished: {run.n_results:,} of {run.n_expected:,} results",
        "n_features": len(run.features),
        "counts": _counts(run),
        "totals": _totals(run),
        "human": run.human,
        "config": config_yaml(run),
        "config_file": config_file,
        "command": f"autointerp run {config_file} --out {folder}",
        "seeds": dict(_seeds(about["config"])),
        "facts": [(name.replace("_", " "), value) for name, value in about["sampling"].items() if _is_plain(value)],
        "versions": {name: version for name, version in about.get("versions", {}).items() if version},
        "citation": _citation(about),
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _counts(run: SiteRun) -> dict[str, int]:
    """Count the results by the status of the main score."""
    statuses = [result.status for results in run.results.values() for result in results]
    return {status: statuses.count(status) for status in get_args(Status)}


def _totals(run: SiteRun) -> Row:
    """Sum up the usage behind all results; the cost is None where a price is not known."""
    every = [result.usage for results in run.results.values() for result in results]
    costs = [usage.get("cost_usd", 0.0) for usage in every]
    sums = {name: sum(usage.get(name) or 0 for usage in every) for name in ("calls", "tokens_in", "tokens_out")}
    return sums | {"cost_usd": None if None in costs else sum(cost for cost in costs if cost is not None)}


def _seeds(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield every seed of a config with its dotted name."""
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items):
            if isinstance(item, dict):
                yield from _seeds(item, f"{prefix}{name}.{f'{number}.' if isinstance(value, list) else ''}")
        if name == "seed":
            yield f"{prefix}{name}", value


def _citation(about: Row) -> str:
    """Write a BibTeX entry that names the software's version and the run's identity."""
    version = about.get("versions", {}).get("autointerp", "unknown")
    commit = about.get("git_commit")
    identity = about["identity"]
    note = f"version {version}{f', commit {commit[:12]}' if commit else ''}; run {identity}"
    return (
        f"@misc{{autointerp_{identity[:12]},\n  title = {{autointerp: how interpretable the features of a dictionary "
        f"are}},\n  howpublished = {{Scores of the run {_bibtex(about['config']['name'])}}},\n  note = {{{note}}},\n}}"
    )


def _bibtex(text: str) -> str:
    """Drop what BibTeX or LaTeX would read as a command."""
    return "".join(character if character not in "\\{}$&#^_~%" else "-" for character in text)
