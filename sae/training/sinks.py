"""Writes rows of metrics to a .jsonl file and to Weights & Biases."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sae.common.errors import UserError
from sae.common.files import write_atomic
from sae.training.loop import Tell

Row = dict[str, Any]


class Sink(Protocol):
    """Takes rows until it is closed."""

    def __call__(self, row: Row) -> None: ...

    def close(self) -> None:
        """Write what is still buffered."""


class JsonLines:
    """Appends a line a row; rows beyond `step`, made after the checkpoint that is gone on from, are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        write_atomic(path, "".join(line + "\n" for line in kept))
        self._stream = path.open("a", encoding="utf-8")

    def __call__(self, row: Row) -> None:
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _whole_lines(path: Path) -> list[str]:
    """Lines of a file that may end in a torn one, or not be there."""
    text = path.read_text("utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]


class WandB:
    """Reports to Weights & Biases, one chart per metric with a line per dictionary."""

    def __init__(self, project: str, name: str, run: str, config: Row) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("runtime.wandb needs Weights & Biases: pip install wandb") from error
        try:
            self._run = wandb.init(project=project, name=name, config=config, resume="allow", id=run)
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise UserError(f"Weights & Biases: {reason} (WANDB_MODE=offline keeps the rows here)") from error

    def __call__(self, row: Row) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "step"}
        self._run.log({f"{key}/{row['dictionary']}": value for key, value in numbers.items()}, step=row["step"])

    def close(self) -> None:
        self._run.finish()


@contextmanager
def to_all(sinks: Sequence[Sink]) -> Iterator[Tell]:
    """Yield a function that passes a row on to each sink; the sinks are closed whatever happens."""
    with ExitStack() as opened:
        for sink in sinks:
            opened.callback(sink.close)

        def tell(row: Row) -> None:
            for sink in sinks:
                sink(row)

        yield tell
