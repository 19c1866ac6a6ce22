"""Where rows of metrics go: a .jsonl file, Weights & Biases. Knows nothing of what was measured."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sae.errors import UserError

Row = dict[str, Any]
Sink = Callable[[Row], None]


class JsonLines:
    """Appends a line a row; rows beyond `step`, made after the checkpoint that is gone on from, are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept), "utf-8")
        self._stream = path.open("a", encoding="utf-8")

    def __call__(self, row: Row) -> None:
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()


def _whole_lines(path: Path) -> list[str]:
    """Lines of a file that may end in a torn one, or not be there."""
    text = path.read_text("utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]


class WandB:
    """Reports to Weights & Biases, one chart per metric with a line per dictionary."""

    def __init__(self, project: str, name: str, config: Row) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("runtime.wandb needs Weights & Biases: pip install 'autointerp[wandb]'") from error
        self._run = wandb.init(project=project, name=name, config=config, resume="allow", id=name)

    def __call__(self, row: Row) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "step"}
        self._run.log({f"{key}/{row['dictionary']}": value for key, value in numbers.items()}, step=row["step"])


def to_all(sinks: Sequence[Sink]) -> Sink:
    """One that passes a row on to each."""

    def tell(row: Row) -> None:
        for sink in sinks:
            sink(row)

    return tell
