"""Runs the members of a suite one after the other, merges them, and verifies what is merged.

A member is an ordinary run in a folder of its own: a finished one is only opened, an interrupted one continues. All
are planned before the first one starts, so that most mistakes are seen at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from autointerp.llm.budget import Budget
from autointerp.reporting import merging
from autointerp.runs import pipeline, verify
from autointerp.runs.fit import refuse_misfits
from autointerp.runs.plan import make_plan
from autointerp.store import SITE
from autointerp.suite_folder import SuiteFolder
from autointerp.suites import Suite
from sae.common.errors import UserError
from sae.common.files import alone
from sae.common.progress import Progress, Report
from sae.common.resources import path_of

if TYPE_CHECKING:
    from autointerp.runs.savings import Estimate


class MemberError(UserError):
    """Says in which member of a suite something is wrong."""

    def __init__(self, member: str, error: UserError) -> None:
        super().__init__(f"member {member}: {error}")
        self.status = error.status


def run(suite: Suite, report: Report) -> SuiteFolder:
    """Run all members, or continue where they stopped, and merge them.

    Raises UserError as a run does, with the member's name, before anything is started where that can be known.
    """
    members, budget = _identities(suite), Budget(suite.max_cost)
    folder = SuiteFolder(path_of(suite.path))
    folder.begin(members)
    with alone(folder.path):
        for name, config in suite.members.items():
            with _member(name):
                pipeline.run(config, _named(report, name), budget)
        if not folder.is_complete:
            _merge(folder, suite)
    return folder


def estimate(suite: Suite, report: Report) -> dict[str, Estimate]:
    """Estimate what each member would still ask of language models, by its name; see `pipeline.estimate`."""
    _identities(suite)
    estimates = {}
    for name, config in suite.members.items():
        with _member(name):
            estimates[name] = pipeline.estimate(config, _named(report, name))
    return estimates


def _identities(suite: Suite) -> dict[str, str]:
    """Plan every member; return the identities of their runs. Raises UserError if two are the same run."""
    members: dict[str, str] = {}
    for name, config in suite.members.items():
        with _member(name):
            plan = make_plan(config)
            refuse_misfits(plan)
            if twin := next((other for other, identity in members.items() if identity == plan.identity), None):
                raise UserError(f"it is the same run as {twin}; leave one out, or change a setting that matters")
        members[name] = plan.identity
    return members


@contextmanager
def _member(name: str) -> Iterator[None]:
    """Name the member in the user's errors."""
    try:
        yield
    except UserError as error:
        raise MemberError(name, error) from error


def _named(report: Report, member: str) -> Report:
    """Put the member's name before the titles of progress displays."""

    def named(title: str) -> Progress:
        return report(f"{member}: {title}")

    return named


def _merge(folder: SuiteFolder, suite: Suite) -> None:
    """Write the merged tables and pictures."""
    runs = folder.runs
    rows = merging.merge_named(runs)
    if formats := next(iter(suite.members.values())).runtime.pictures:
        from autointerp.reporting import suite_plots

        suite_plots.write(folder.path, rows, merging.subjects_of(runs), formats)
    folder.seal(merging.texts(rows))


def verify_suite(folder: SuiteFolder, report: Report) -> list[verify.Check]:
    """Check a complete suite: every member as a run, which runs they are, the merged tables, the files.

    Raises UserError if the suite is not complete.
    """
    if not folder.is_complete:
        raise UserError(f"{folder.path} is not finished; finish it with the command that began it")
    runs = folder.runs
    checks = [
        _of_member(name, check)
        for name, run_folder in runs.items()
        for check in verify.verify(run_folder, _named(report, name))
    ]
    texts = merging.texts(merging.merge_named(runs))
    tables = [verify.table_check(folder.path, name, text) for name, text in texts.items()]
    return [*checks, _members(folder), *tables, *_pages(folder, report), _files(folder)]


def _pages(folder: SuiteFolder, report: Report) -> list[verify.Check]:
    """Compare the pages of all members side by side, if `autointerp browse` wrote them into the suite's folder."""
    if not (site := folder.path / SITE).is_dir():
        return []
    from autointerp.reporting.site.runs import read_all  # jinja2 is needed for pages only

    return [verify.pages_check(read_all(list(folder.runs.values())), site, report)]


def _of_member(name: str, check: verify.Check) -> verify.Check:
    differences = tuple(f"{name}: {text}" for text in check.differences)
    return replace(check, what=f"{name}: {check.what}", differences=differences)


def _members(folder: SuiteFolder) -> verify.Check:
    members: Mapping[str, str] = folder.about["members"]
    held = {name: str(run_folder.about["identity"]) for name, run_folder in folder.runs.items()}
    wrong = tuple(f"{name} is not the run that the suite has merged" for name in members if held[name] != members[name])
    return verify.Check("members that are the runs that suite.json gives", len(members), wrong)


def _files(folder: SuiteFolder) -> verify.Check:
    wrong = tuple(f"{name} is not the file that the suite wrote" for name in folder.damaged())
    return verify.Check("files with the size and hash that suite.json gives", len(folder.about["files"]), wrong)
