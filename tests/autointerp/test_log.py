"""The log of a run: it waits for the run folder, holds no key, and changes nothing of what the terminal shows."""

import logging
from pathlib import Path

import pytest

from autointerp.runs.log import logged
from autointerp.store import LOG
from sae.common.errors import UserError
from tests.conftest import autointerp

KEY = "sk-a-key-that-is-secret"
log = logging.getLogger("autointerp.llm.client")


def test_keys_and_control_characters_are_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY={KEY}-2\n")
    (tmp_path / "run.json").write_text("{}")
    with logged(tmp_path, "id", asks_models=True):
        log.info("no answer: %s\x1b[2J\nand %s", KEY, f"{KEY}-2")
    text = (tmp_path / LOG).read_text()
    assert KEY not in text
    assert r"INFO autointerp.llm.client: no answer: [key]\x1b[2J⏎and [key]" in text
    assert len(text.splitlines()) == 3


def test_it_waits_for_the_run_and_says_why_it_stopped(tmp_path: Path) -> None:
    def work() -> None:
        log.info("first")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "run.json").write_text("{}")
        log.debug("too much")
        raise UserError("no credit")

    with pytest.raises(UserError), logged(tmp_path, "id", asks_models=False):
        work()
    begun, first, stopped = (tmp_path / LOG).read_text().splitlines()
    assert begun.endswith("run id begins or continues")
    assert first.endswith("INFO autointerp.llm.client: first")
    assert stopped.endswith("run id stopped: UserError: no credit")


def test_other_handlers_get_what_they_got_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = [(logger.level, logger.propagate) for logger in map(logging.getLogger, ("autointerp", "sae"))]
    with logged(tmp_path, "id", asks_models=False):
        log.info("unseen")
        log.warning("seen")
        logging.getLogger("sae.data.corpus").warning("seen, too")
    assert [record.message for record in caplog.records] == ["seen", "seen, too"]
    assert before == [(logger.level, logger.propagate) for logger in map(logging.getLogger, ("autointerp", "sae"))]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_quiet_prints_the_folder_only_and_logs_all_the_same(planted: Path, tmp_path: Path) -> None:
    words = [
        "run", "--dictionary", planted / "dictionary", "--baselines", "none", "--context", 32, "--device", "cpu",
        "--corpus", planted / "corpus.jsonl", "--corpus", planted / "corpus.jsonl", "--features", 2,
        "--set", "sampling.fragment=16", "--set", "corpus.held_out=0.5", "--out", "r",
    ]  # fmt: skip
    both = autointerp(*words, "--quiet", "--verbose", cwd=tmp_path)
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    done = autointerp(*words, "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "r\n", "")
    text = (tmp_path / "r" / LOG).read_text()
    assert "sae.common.progress: scoring: done in" in text
    again = autointerp(*words, "--verbose", cwd=tmp_path)
    assert (again.returncode, "Everything is in r" in again.stdout) == (0, True)
    assert (tmp_path / "r" / LOG).read_text() == text
