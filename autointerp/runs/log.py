"""Keeps a run's log: when its stages ended, what was retried, skipped and made again, why it stopped. Holds no key."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from autointerp.llm.keys import known, redact
from autointerp.store import LOG
from sae.common.errors import visible
from sae.common.files import cannot_write

LOGGERS = ("autointerp", "sae")
log = logging.getLogger(__name__)


class RunLog(logging.Handler):
    """Appends what our packages log to a run folder's file, once the folder holds a run; until then it waits.

    Args:
        folder: the run folder.
        secrets: what is replaced by "[key]".
        level: from this level on, a record is also passed to the handlers of the process, such as the terminal's.
    """

    def __init__(self, folder: Path, secrets: Sequence[SecretStr], level: int) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._folder, self._secrets, self._level = folder, secrets, level
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line. Raises UserError if the file cannot be written to."""
        line = visible(self.format(record))
        for secret in self._secrets:
            line = redact(line, secret)
        self._waiting.append(line + "\n")
        if (self._folder / "run.json").is_file():
            self._write()
        if record.levelno >= self._level:
            logging.getLogger().handle(record)

    def _write(self) -> None:
        try:
            with (self._folder / LOG).open("a", encoding="utf-8") as stream:
                stream.writelines(self._waiting)
        except OSError as error:
            raise cannot_write(self._folder / LOG, error) from error
        self._waiting.clear()


@contextmanager
def logged(folder: Path, identity: str, asks_models: bool) -> Iterator[None]:
    """Keep the log of a run inside the block; what is shown on the terminal stays the same.

    Args:
        asks_models: whether models are asked, so that there are keys.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    handler = RunLog(folder, known() if asks_models else [], loggers[0].getEffectiveLevel())
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        log.info("run %s begins or continues", identity)
        yield
    finally:
        if error := sys.exception():
            log.info("run %s stopped: %s: %s", identity, type(error).__name__, error)
        else:
            log.info("run %s is complete", identity)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
