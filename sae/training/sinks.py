"""Writes rows of metrics to a .jsonl file and to Weights & Biases."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sae.common.errors import UserError
from sae.common.files import write_atomic
from sae.training.loop import Tell

Sink = AbstractContextManager[Tell]
"""Opens something that takes rows inside the block, and closes it after."""


@contextmanager
def json_lines(path: Path, step: int) -> Iterator[Tell]:
    """Append one line for each row; rows of a later step than `step`, the checkpoint's, are dropped first.

    Raises UserError if the file is damaged.
    """
    try:
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged ({reason}); remove it, and the same command continues") from error
    write_atomic(path, "".join(line + "\n" for line in kept))
    with path.open("a", encoding="utf-8") as stream:

        def write(row: dict[str, Any]) -> None:
            stream.write(json.dumps(row) + "\n")
            stream.flush()

        yield write


def _whole_lines(path: Path) -> list[str]:
    """Return the lines of a file that can end in an incomplete one, or be missing."""
    text = path.read_text("utf-8") if path.is_file() else ""
    return text.split("\n")[:-1]


@contextmanager
def weights_and_biases(project: str, name: str, run: str, config: dict[str, Any]) -> Iterator[Tell]:
    """Report to Weights & Biases, with one chart for each metric and a line for each dictionary.

    Raises UserError if wandb is not installed or refuses.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError("runtime.wandb needs Weights & Biases: pip install wandb") from error
    try:
        opened = wandb.init(project=project, name=name, config=config, resume="allow", id=run)
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Weights & Biases: {reason} (WANDB_MODE=offline keeps the rows on this machine)") from error

    def log(row: dict[str, Any]) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "step"}
        opened.log({f"{key}/{row['dictionary']}": value for key, value in numbers.items()}, step=row["step"])

    try:
        yield log
    finally:
        opened.finish()


@contextmanager
def to_all(sinks: Sequence[Sink]) -> Iterator[Tell]:
    """Yield a function that passes a row on to each sink; the sinks are closed whatever happens."""
    with ExitStack() as stack:
        opened = [stack.enter_context(sink) for sink in sinks]

        def tell(row: dict[str, Any]) -> None:
            for sink in opened:
                sink(row)

        yield tell
