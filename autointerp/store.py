"""Reads and writes the run folder.

Every file but results.jsonl is replaced as a whole. results.jsonl is appended to and synced, one line per feature and
explainer; a last line that a crash left incomplete is dropped when the run is resumed. A finished run has its results
in the features' order.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autointerp import feature_files, population_files, record_files, stability_files
from autointerp.parquet_files import read_table
from autointerp.records import FeatureId, FeatureRecord, FeatureResult
from sae.common.errors import UserError
from sae.common.files import LOCK, TEMPORARY, sha256_of, write_atomic, write_atomic_with

SCHEMA_VERSION, READABLE = 5, (4, 5)
"""Version 4 keeps no sizes and hashes of a finished run's files, so that they cannot be checked."""
RECORDS, FEATURES = "records.parquet", "features.parquet"
RECORD_FILES = (RECORDS, population_files.TEXT, population_files.ACTIVATIONS, FEATURES)
"""What sampling writes, in this order; the population is not always there."""
PICTURES = "pictures"
"""The folder for pictures; tables and data lie beside it."""
RATINGS = "ratings.json"
"""What people say of features: written after the run is finished, so that most runs have none."""
SITE = "site"
"""The folder for pages."""
LOG = "run.log"
"""The log of a run: the only file that differs where the same run is done again."""
SOURCES = ("results.jsonl", *RECORD_FILES, stability_files.OF_RUN, stability_files.OVER_SEEDS)
"""Files that cannot be made again from the others."""
KINDS: dict[str, type] = {"identity": str, "status": str, "config": dict, "dictionaries": list, "sampling": dict}
"""Types of what run.json holds, as far as it does."""
SEAL = ("files", "checksum")
"""What run.json holds of a finished run beside its content: sizes and hashes of all files but the log, its checksum."""
RESULT = TypeAdapter(FeatureResult)
"""Reads lines of results.jsonl, in half the time of json and constructors. Its writer would print 1e-05 as 0.00001."""


class RunFolder:
    """Reads and writes one run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def about(self) -> dict[str, Any]:
        """Read run.json. Raises UserError if the folder holds no run of this schema."""
        try:
            values = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{self.path} is not a run folder (no readable run.json); give one that `autointerp list` shows"
            ) from error
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version not in READABLE:
            raise UserError(
                f"{self.path} has schema {str(version)[:20]}, but this version reads {SCHEMA_VERSION}; run again with "
                "another --out"
            )
        wrong = any(not isinstance(values.get(name, kind()), kind) for name, kind in KINDS.items())
        if wrong or "status" not in values or _is_altered(values):
            raise UserError(f"{self.path / 'run.json'} is damaged; run again with another --out")
        return dict(values)

    def find(self, identity: str) -> dict[str, Any] | None:
        """Return run.json if the folder holds this run, finished or not, and None if it is absent or empty.

        Raises UserError if it holds another run or other files.
        """
        if (self.path / "run.json").exists():
            known = self.about
            if known["identity"] != identity:
                raise UserError(f"{self.path} holds another run ({known['identity'][:12]}); choose another --out")
            return known
        kept = {self.path / LOCK, *self._leftovers()}
        if self.path.is_file() or (self.path.is_dir() and set(self.path.iterdir()) - kept):
            raise UserError(f"{self.path} is not empty and not a run folder; choose another --out")
        return None

    def begin(self, about: dict[str, Any]) -> None:
        """Write run.json for a run whose features are about to be scored."""
        self.write_json("run.json", {"schema_version": SCHEMA_VERSION, "status": "scoring"} | about)

    def update(self, **changes: Any) -> None:
        """Replace some of run.json's values."""
        self.write_json("run.json", self.about | changes)

    def seal(self, **changes: Any) -> None:
        """Write run.json of a finished run: with these changes, and the sizes and hashes of all files."""
        about = {name: value for name, value in self.about.items() if name not in SEAL} | changes
        files = sorted(path for path in [*self.path.iterdir(), *(self.path / PICTURES).glob("*")] if path.is_file())
        names = [path.relative_to(self.path).as_posix() for path in files]
        about["files"] = {name: facts_of(self.path / name) for name in names if name not in (LOCK, LOG, "run.json")}
        self.write_json("run.json", about | {"checksum": checksum_of(about)})

    def damaged(self) -> list[str]:
        """Return the names of a finished run's files that are missing or not what they were, as far as that is known.

        Ratings that were given since are among them: the tables do not hold them yet.
        """
        files: dict[str, Any] = self.about.get("files", {})
        return [name for name in dict.fromkeys([*files, RATINGS]) if facts_of(self.path / name) != files.get(name)]

    def write_json(self, name: str, value: Any) -> None:
        """Replace the file `name` by a value as JSON."""
        write_atomic(self.path / name, as_json(value))

    def write_text(self, name: str, text: str) -> None:
        """Replace the file `name` by a text."""
        write_atomic(self.path / name, text)

    def write_features(self, features: Sequence[FeatureRecord]) -> None:
        """Write the records, the population, then features.parquet: if that one exists, all are complete."""
        write_atomic_with(self.path / RECORDS, lambda path: record_files.write(path, features))
        population_files.write(self.path, features)
        write_atomic_with(self.path / FEATURES, lambda path: feature_files.write(path, features))

    @property
    def is_sampled(self) -> bool:
        """Tell whether all feature records have been written."""
        return (self.path / FEATURES).is_file()

    def read_features(self) -> list[FeatureRecord]:
        """Read all feature records, in the order in which they were written."""
        features = feature_files.read(self.path / FEATURES, record_files.read(self.path / RECORDS))
        populations = population_files.read(self.path)
        return [replace(feature, population=populations.get(feature.id)) for feature in features]

    def numbers(self, field: str) -> dict[FeatureId, float]:
        """Read one number of each sampled feature, such as its density or max_activation."""
        rows = read_table(self.path / FEATURES, ("dictionary", "feature", field)).to_pylist()
        return {FeatureId(row["dictionary"], row["feature"]): row[field] for row in rows}

    def densities(self) -> dict[str, list[float]]:
        """Read the densities of the sampled features, by dictionary."""
        densities: dict[str, list[float]] = {}
        for feature, density in self.numbers("density").items():
            densities.setdefault(feature.dictionary, []).append(density)
        return densities

    def read_leaderboard(self) -> list[dict[str, Any]]:
        """Read leaderboard.json. Raises UserError if the run is not finished."""
        if self.about["status"] != "complete":
            raise UserError(f"{self.path} is not finished; finish it with the command that began it")
        try:
            rows: list[dict[str, Any]] = json.loads((self.path / "leaderboard.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.path / 'leaderboard.json'} cannot be read; next: "
                f"{shlex.join(['autointerp', 'leaderboard', str(self.path), '--rebuild'])}"
            ) from error
        return rows

    def write_results(self, results: Sequence[FeatureResult]) -> None:
        """Replace all results."""
        self.write_text("results.jsonl", _lines(results))

    def append(self, results: Iterable[FeatureResult]) -> None:
        """Add finished results in one write and wait until they are on disk. Raises UserError if the disk is full."""
        lines = _lines(results)
        path = self.path / "results.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; the same command continues from here") from error

    def recover(self) -> None:
        """Remove what a killed process left behind: an incomplete last line, temporary folders."""
        for folder in self._leftovers():
            shutil.rmtree(folder)
        path = self.path / "results.jsonl"
        if path.is_file():
            data = path.read_bytes()
            complete = data.rfind(b"\n") + 1
            if complete < len(data):
                os.truncate(path, complete)

    def _leftovers(self) -> list[Path]:
        """List temporary folders of killed writes: the caller holds the run's lock, so that no write is under way."""
        return [*self.path.glob(f"{TEMPORARY}*"), *self.path.glob(f"{PICTURES}/{TEMPORARY}*")]

    def results(self) -> Iterator[FeatureResult]:
        """Read all finished results; an unfinished last line is passed over.

        Raises UserError, naming the line, if one cannot be read.
        """
        path = self.path / "results.jsonl"
        if not path.is_file():
            return
        try:
            with path.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.endswith(b"\n"):
                        yield self._result(line, number)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def _result(self, line: bytes, number: int) -> FeatureResult:
        try:
            return RESULT.validate_json(line)
        except ValidationError as error:
            raise UserError(
                f"line {number} of {self.path / 'results.jsonl'} is not a result; the same command with another --out "
                "starts over"
            ) from error


def as_json(value: Any) -> str:
    """Render a value as the run folder's JSON files hold it."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def facts_of(path: Path) -> dict[str, Any] | None:
    """Return a file's size and hash; None if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def checksum_of(about: dict[str, Any]) -> str:
    """Return the hash of run.json's values, but for the hash itself."""
    values = {name: value for name, value in about.items() if name != "checksum"}
    return sha256_of([json.dumps(values, sort_keys=True).encode()])


def _is_altered(about: dict[str, Any]) -> bool:
    """Tell whether run.json of a finished run is not as it was written. Version 4 kept no checksum."""
    return about.get("status") == "complete" and about.get("checksum", checksum_of(about)) != checksum_of(about)


def _lines(results: Iterable[FeatureResult]) -> str:
    """Render each result as a line of JSON."""
    return "".join(
        json.dumps(_result_row(result), ensure_ascii=False, separators=(",", ":")) + "\n" for result in results
    )


def _result_row(result: FeatureResult) -> dict[str, Any]:
    """Do what dataclasses.asdict does, without deep copies of every prediction."""
    return vars(result) | {
        "feature": vars(result.feature),
        "explanation": result.explanation and vars(result.explanation),
        "simulations": [vars(item) for item in result.simulations],
        "controls": {kind: vars(control) for kind, control in result.controls.items()},
        "judgements": {name: [vars(item) for item in items] for name, items in result.judgements.items()},
    }
