"""What the README says of how well `sae train` learns: every architecture beside its peers, at equal steps and data.

    python tests/benchmarks/training_quality.py --data DIR [--only relu,gated] [--source mlp] [--seeds 3]
    python tests/benchmarks/training_quality.py --data DIR --sweep [--only relu] [--source residual] [--seeds 3]
    python tests/benchmarks/training_quality.py --data DIR --pareto PICTURE.png [--source superposition]
    python tests/benchmarks/training_quality.py --data DIR --report

in the environment of `training_peers.py`, one thread, fp32. DIR keeps the activations, made once (`--subject FOLDER`
boots that one instead of training the toy), and `results.jsonl`, a line for every training: what is there is not
trained again, so that a long comparison can be done in pieces and stopped at any time. Of ours the line has the whole
recipe: where a default has changed since, it is trained again.

The rate of each library is tuned on one grid with seed 0: from the middle downhill, until both neighbours of the best
are worse; then the other seeds are trained at that rate. Where ours then has more dead features than the best peer, it
is trained at lower rates too, until it has not: the tables have both. `--sweep` tunes and trains ours with changed
settings, the best few and the defaults with the other seeds, and names the winner. `--pareto` trains at several
sparsities, at the best rate known so far, and draws FVU, and CE recovered and the `population` score, or MMCS, where
they are defined, against L0. Not a test: it asserts nothing.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from sae.measuring.metrics import Ablations
from tests.benchmarks import training_quality_report as report
from tests.benchmarks.training_quality_measure import ce_recovered, goal, measure
from tests.benchmarks.training_quality_methods import METHODS, recipe_of
from tests.benchmarks.training_quality_population import keep, scores
from tests.benchmarks.training_quality_report import OURS, Row
from tests.benchmarks.training_quality_sources import TASKS, Source, Task, source

GRID = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
START = {"mlp": 4, "residual": 5, "superposition": 5}
"""The rate of the grid that the search begins with."""
SPARSER = (0.5, 1.0, 2.0, 4.0)
"""What a task's coefficients are multiplied by, and its k divided by, for the picture."""
SPARSE_SWEEP: list[dict[str, Any]] = [
    {"encoder_start": 1.0},
    {"encoder_start": 0.1},
    {"warmup": 0.05},
    {"dead_after": 10_000_000},
    {"aux": 0.125},
]
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "relu": [
        {"encoder_start": 1.0},
        {"encoder_start": 0.3},
        {"encoder_start": 0.03},
        {"warmup": 0.0},
        {"l1_warmup": 0.05},
        {"clip": 0.01},
    ],
    "gated": [
        {"encoder_start": 1.0},
        {"encoder_start": 0.3},
        {"encoder_start": 0.03},
        {"warmup": 0.0},
        {"l1_warmup": 0.05},
        {"clip": 0.01},
        {"gate_teaches_decoder": False},
    ],
    "jumprelu": [
        {"encoder_start": 0.3},
        {"encoder_start": 0.3, "threshold": 0.3, "bandwidth": 0.3},
        {"threshold": 0.01, "bandwidth": 0.05},
        {"bandwidth": 0.3},
        {"warmup": 0.0},
        {"l0_warmup": 0.0},
        {"decoder_norm": "unit"},
        {"clip": None},
    ],
    "topk": SPARSE_SWEEP,
    "batch_topk": [{"aux": 0.03125} if changed == {"aux": 0.125} else changed for changed in SPARSE_SWEEP],
    "matryoshka": SPARSE_SWEEP,
}
"""Changes of ours that the defaults are chosen among: what is not named is as by default."""
FINALISTS = 3
"""Of a sweep, how many are trained with the other seeds, besides the defaults."""


@dataclass
class Bench:
    """Trains what has not been trained yet, and keeps a line for each training."""

    data: Path
    subject: str | None

    def __post_init__(self) -> None:
        self.path = self.data / "results.jsonl"
        self.rows: list[Row] = (
            [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        )
        self._sources: dict[str, Source] = {}
        self._ablations: dict[str, Ablations | None] = {}

    def source(self, name: str) -> Source:
        if name not in self._sources:
            self._sources[name] = source(name, self.data, self.subject)
        return self._sources[name]

    def run(self, task: Task, family: str, library: str, rate: float, seed: int = 0, **changes: Any) -> Row:
        """Return the row of one training, made or remembered."""
        key = {
            "task": dataclasses.asdict(task), "family": family, "library": library, "rate": rate, "seed": seed,
            "changes": changes,
        } | self._recipe(task, family, library, changes)  # fmt: skip
        for row in self.rows:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        where, started = self.source(task.source), time.perf_counter()
        dictionary = METHODS[family][library](task, where, rate, seed, changes)
        seconds = time.perf_counter() - started
        row = key | measure(dictionary, family, task, where) | {"seconds": seconds, "date": date.today().isoformat()}
        if against := self._against(task.source):
            row["ce"] = ce_recovered(dictionary, family, task.k, where.scale(), against)
            row["dictionary"] = keep(dictionary, key, where)
        self._keep(row)
        return row

    def _recipe(self, task: Task, family: str, library: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of ours but rate and seed, which the row has by itself."""
        if library != OURS:
            return {}
        recipe = recipe_of(family, task, self.source(task.source).d, changes)
        return {"recipe": recipe.model_dump(mode="json", exclude={"lr", "seed"})}

    def present(self) -> list[Row]:
        """Return the rows but for those of ours whose defaults have changed since."""

        def recipe(row: Row) -> Any:
            return self._recipe(Task(**row["task"]), row["family"], row["library"], row["changes"]).get("recipe")

        return [row for row in self.rows if row.get("recipe") == recipe(row)]

    def _against(self, name: str) -> Ablations | None:
        if name not in self._ablations:
            self._ablations[name] = self.source(name).ablations()
        return self._ablations[name]

    def _keep(self, row: Row) -> None:
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(report.line(row), flush=True)

    def with_population(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows with the population score of those whose dictionary was kept."""
        names: dict[str, list[str]] = {}
        for row in rows:
            if "dictionary" in row:
                names.setdefault(row["task"]["source"], []).append(row["dictionary"])
        found = {name: score for where in names for name, score in scores(names[where], self.source(where)).items()}
        return [row | found.get(row.get("dictionary", ""), {}) for row in rows]

    def known_rate(self, task: Task, family: str, library: str) -> float:
        """Return the best rate of those tried so far; where none was, the one that the search begins with."""
        about = {"task": dataclasses.asdict(task), "family": family, "library": library, "changes": {}}
        own = [row for row in self.present() if about.items() <= row.items()]
        tried = [row for row in own if row[goal(family)] == row[goal(family)]]  # else it diverged
        first = GRID[START[task.source]]
        return min(tried, key=lambda row: row[goal(family)])["rate"] if tried else first

    def tuned(self, task: Task, family: str, library: str, **changes: Any) -> Row:
        """Return the row at the best rate of the grid with seed 0, searched downhill from the middle."""

        def at(index: int) -> float:
            value = self.run(task, family, library, GRID[index], **changes)[goal(family)]
            return value if value == value else float("inf")  # not a number: it diverged

        best = START[task.source]
        for direction in (-1, 1):
            while 0 <= best + direction < len(GRID) and at(best + direction) < at(best):
                best += direction
        return self.run(task, family, library, GRID[best], **changes)


def compare(
    bench: Bench, families: Sequence[str], sources: Sequence[str], seeds: int, libraries: Sequence[str]
) -> None:
    """Train every family by every library: the rate tuned, then the other seeds."""
    for name in sources:
        for family in families:
            for library in METHODS[family]:
                if not libraries or library in libraries:
                    best = bench.tuned(TASKS[name], family, library)
                    for seed in range(1, seeds):
                        bench.run(TASKS[name], family, library, best["rate"], seed)
            if not libraries or OURS in libraries:
                with_fewer_dead(bench, TASKS[name], family, seeds)


def with_fewer_dead(bench: Bench, task: Task, family: str, seeds: int) -> None:
    """Lower the rate of ours until no more features are dead than with the best peer, if more are."""
    rows = report.compared(bench.present(), task, family, METHODS[family])
    if not (peer := report.best_peer(rows, family)) or OURS not in rows:
        return
    index = GRID.index(rows[OURS][0]["rate"])
    while report.dead(rows[OURS]) > report.dead(peer) and index > 0:
        index -= 1
        rows[OURS] = [bench.run(task, family, OURS, GRID[index], seed) for seed in range(seeds)]


def sweep(bench: Bench, families: Sequence[str], sources: Sequence[str], seeds: int) -> None:
    """Train ours by default and with each of the changed settings, at the best rate of each; print the winner."""
    for name in sources:
        for family in families:
            task = TASKS[name]
            first = [bench.tuned(task, family, OURS, **changes) for changes in [{}, *SWEEPS.get(family, [])]]
            ranked = sorted(first, key=lambda row: row[goal(family)])
            final = [row for row in ranked if row in ranked[:FINALISTS] or not row["changes"]]
            tried = [
                [bench.run(task, family, OURS, row["rate"], seed, **row["changes"]) for seed in range(seeds)]
                if row in final
                else [row]
                for row in ranked
            ]
            print(report.sweep_table(tried, goal(family), seeds), flush=True)


def pareto(
    bench: Bench, families: Sequence[str], sources: Sequence[str], libraries: Sequence[str], picture: Path
) -> None:
    """Train at several sparsities, at the best rate that is known for the task, and draw."""
    rows = []
    for name in sources:
        for family in families:
            for library in METHODS[family]:
                if not libraries or library in libraries:
                    rate = bench.known_rate(TASKS[name], family, library)
                    rows += [bench.run(sparser(TASKS[name], by), family, library, rate) for by in SPARSER]
    report.draw(bench.with_population(rows), picture)


def sparser(task: Task, by: float) -> Task:
    """Return the task with sparsity asked for more strongly."""
    return dataclasses.replace(task, l1=task.l1 * by, l0=task.l0 * by, k=max(1, round(task.k / by)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the activations and the results")
    parser.add_argument("--subject", help="folder of a trained toy; default: it is trained")
    parser.add_argument("--only", help="families, with commas between them; default: all")
    parser.add_argument("--source", help="sources, with commas between them; default: all")
    parser.add_argument("--library", help="libraries, with commas between them; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sweep", action="store_true", help="change our settings instead of comparing")
    parser.add_argument("--pareto", type=Path, metavar="PICTURE")
    parser.add_argument("--report", action="store_true", help="train nothing, print the tables")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(asked.data, asked.subject)
    families, sources = _chosen(asked.only, METHODS), _chosen(asked.source, TASKS)
    libraries = asked.library.split(",") if asked.library else []
    if asked.sweep:
        sweep(bench, families, sources, asked.seeds)
    elif asked.pareto:
        pareto(bench, families, sources, libraries, asked.pareto)
    elif not asked.report:
        compare(bench, families, sources, asked.seeds, libraries)
    if not asked.pareto and not asked.sweep:
        print(report.tables(bench.present(), TASKS, METHODS))


def _chosen(names: str | None, known: Mapping[str, object]) -> list[str]:
    asked = names.split(",") if names else list(known)
    if unknown := [name for name in asked if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return asked


if __name__ == "__main__":
    main()
