"""Reads and writes the folder of a suite: a run folder per member, and tables and pictures of all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autointerp.store import PICTURES, RunFolder, as_json, checksum_of, facts_of
from sae.common.errors import UserError
from sae.common.files import write_atomic

ABOUT = "suite.json"
"""What the suite is: its members with the identities of their runs and, once all are finished, its files' hashes."""
SCHEMA_VERSION = 1


class SuiteFolder:
    """Reads and writes one suite's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def about(self) -> dict[str, Any]:
        """Read suite.json. Raises UserError if there is none that can be read, or if it is not as it was written."""
        try:
            values = json.loads((self.path / ABOUT).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.path} is not a suite's folder (no readable {ABOUT})") from error
        if not isinstance(values, dict) or values.get("checksum") != checksum_of(values):
            raise UserError(f"{self.path / ABOUT} is damaged; the command that made the suite writes it again")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"{self.path} was made by another version; run again with another --out")
        return values

    @property
    def runs(self) -> dict[str, RunFolder]:
        """The run folder of every member, by its name."""
        return {name: RunFolder(self.path / name) for name in self.about["members"]}

    @property
    def is_complete(self) -> bool:
        """Tell whether all members are finished and merged."""
        return bool(self.about["status"] == "complete")

    def begin(self, members: Mapping[str, str]) -> None:
        """Write which members there are, with the identities of their runs, before the first one starts.

        A suite that is complete with these very members is left as it is. Raises UserError if the folder is a run's.
        """
        if (self.path / "run.json").exists():
            raise UserError(f"{self.path} holds a run, and no suite; choose another --out")
        if not self.is_current(members):
            self._write({"status": "running", "members": dict(members)})

    def is_current(self, members: Mapping[str, str]) -> bool:
        """Tell whether the tables and pictures of these members are there, as they were written."""
        try:
            about = self.about
        except UserError:
            return False
        return about["status"] == "complete" and about["members"] == dict(members) and not self.damaged()

    def seal(self, texts: Mapping[str, str]) -> None:
        """Write the tables, and then suite.json with the sizes and hashes of these and of the pictures."""
        for name, text in texts.items():
            write_atomic(self.path / name, text)
        pictures = sorted(path for path in (self.path / PICTURES).glob("*") if path.is_file())
        names = sorted([*texts, *(path.relative_to(self.path).as_posix() for path in pictures)])
        files = {name: facts_of(self.path / name) for name in names}
        self._write({"status": "complete", "members": self.about["members"], "files": files})

    def damaged(self) -> list[str]:
        """Return the names of files that are missing or not what they were."""
        files: dict[str, Any] = self.about.get("files", {})
        return [name for name, facts in files.items() if facts_of(self.path / name) != facts]

    def _write(self, values: dict[str, Any]) -> None:
        about = {"schema_version": SCHEMA_VERSION} | values
        write_atomic(self.path / ABOUT, as_json(about | {"checksum": checksum_of(about)}))


def is_suite_folder(path: Path) -> bool:
    """Tell whether a folder is a suite's."""
    return (path / ABOUT).is_file()


def runs_in(path: Path) -> list[Path]:
    """Return the run folders that a path stands for: a suite's members, else itself."""
    return [run.path for run in SuiteFolder(path).runs.values()] if is_suite_folder(path) else [path]
