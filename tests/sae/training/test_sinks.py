"""Rows of metrics: whole lines in a file, none of them twice, and the same to Weights & Biases."""

import contextlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sae.common.errors import UserError
from sae.training.session import run
from sae.training.sinks import json_lines, to_all, weights_and_biases
from tests.sae.training.small import cut_short, finish, of_planted, rows, struck_by_ctrl_c


class Wandb(ModuleType):
    """What is used of the module: one run, which keeps what it is given."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **settings: Any) -> "Wandb":
        self.begun.append(settings)
        return self

    def log(self, row: dict[str, Any], step: int) -> None:
        self.logged.append((step, row))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    made = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", made)
    return made


def lines(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("line", ["{}", "[]", "\0\0", "{"])
def test_a_damaged_file_is_one_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged .*remove it"), json_lines(path, 5):
        pass


def test_rows_after_the_checkpoint_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with json_lines(path, 0) as write:
        for step in (10, 20, 20, 30):
            write({"step": step})
    with path.open("a") as stream:
        stream.write('{"step": 40')
    with json_lines(path, 20) as write:
        assert lines(path) == [10, 20, 20]
        write({"step": 30})
    assert lines(path) == [10, 20, 20, 30]
    with json_lines(path, 0):
        assert lines(path) == []


def test_a_row_is_there_as_soon_as_it_is_told(tmp_path: Path) -> None:
    with json_lines(tmp_path / "metrics.jsonl", 0) as write:
        write({"step": 1, "loss": float("inf")})
        assert lines(tmp_path / "metrics.jsonl") == [1]


def test_all_are_told_and_closed_whatever_happens(tmp_path: Path, wandb: Wandb) -> None:
    sinks = [json_lines(tmp_path / "a", 0), weights_and_biases("project", "name", "id", {"steps": 3})]
    with contextlib.suppress(KeyboardInterrupt), to_all(sinks) as tell:
        tell({"dictionary": "x", "step": 5, "status": "ok", "loss": 0.5, "l0": 3})
        raise KeyboardInterrupt
    assert lines(tmp_path / "a") == [5]
    assert wandb.logged == [(5, {"loss/x": 0.5, "l0/x": 3})]
    assert wandb.finished == 1


@pytest.mark.slow
def test_a_training_reports_to_weights_and_biases(planted: Path, tmp_path: Path, wandb: Wandb) -> None:
    """Resumed, it reports to the same run."""
    experiment = of_planted(planted, tmp_path / "out", runtime__wandb="features")
    with pytest.raises(KeyboardInterrupt):
        run(experiment, cut_short(45, struck_by_ctrl_c))
    finish(experiment)
    first, second = wandb.begun
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("features", "out", "allow")
    assert first["id"].startswith("out-"), "other folders of that name are other runs"
    assert first["config"]["steps"] == 100
    assert wandb.finished == 2
    expected = [(row["step"], row["fvu"]) for row in rows(tmp_path / "out") if row["dictionary"] == "topk_4x_k4"]
    assert [(step, row["fvu/topk_4x_k4"]) for step, row in wandb.logged if "fvu/topk_4x_k4" in row] == expected


def test_without_it_one_line_says_what_to_install(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install wandb$"):
        run(of_planted(planted, tmp_path / "out", runtime__wandb="features"), cut_short(1))


def test_what_it_refuses_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch, wandb: Wandb) -> None:
    def refused(**settings: Any) -> None:
        raise wandb.Error("api_key not configured\n(no-tty)")

    monkeypatch.setattr(wandb, "init", refused)
    refusal = pytest.raises(UserError, match=r"Weights & Biases: api_key not configured \(no-tty\)")
    with refusal, weights_and_biases("project", "name", "id", {}):
        pass
