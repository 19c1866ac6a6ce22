"""Files are whole or absent; a failed write leaves what was there."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from sae.common import files
from sae.common.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_atomic(path, "old")

    def breaks(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        files.write_atomic_with(path, breaks)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_disk_full_is_the_users_mistake(tmp_path: Path) -> None:
    def full(temporary: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        files.write_atomic_with(tmp_path / "x", full)
    assert not list(tmp_path.iterdir())


def test_a_folder_made_twice_is_kept(tmp_path: Path) -> None:
    files.make_folder_atomic(tmp_path / "f", lambda folder: (folder / "a").write_text("first"))
    files.make_folder_atomic(tmp_path / "f", lambda folder: (folder / "a").write_text("second"))
    assert (tmp_path / "f" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_hash_knows_names_and_boundaries(tmp_path: Path) -> None:
    assert files.sha256_of([b"ab", b"c"]) != files.sha256_of([b"a", b"bc"])
    for name, content in (("a", "x"), ("b", "x")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").write_text(content)
    assert files.sha256_of_path(tmp_path / "a") == files.sha256_of_path(tmp_path / "b")
    (tmp_path / "b" / "same").rename(tmp_path / "b" / "other")
    assert files.sha256_of_path(tmp_path / "a") != files.sha256_of_path(tmp_path / "b")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """The superuser's --csv /dev/stdout would otherwise put a file in the place of that device."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.refuse_unwritable(tmp_path / "pipe")
        files.write_atomic(tmp_path / "pipe", "content")
        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_full_device_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
        files.write_atomic(Path("/dev/full"), "content")
    assert Path("/dev/full").is_char_device()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    files.write_atomic(tmp_path / "link", "content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "content"


def test_a_lock_ends_with_its_process_though_a_forked_one_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes that score are forked, and outlive a killed run for a moment."""
    with files.in_turn(tmp_path / "lock", "waiting"):
        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        forked.start()
        time.sleep(0.1)
    try:
        with files.in_turn(tmp_path / "lock", "waiting"):
            assert forked.is_alive()
    finally:
        forked.kill()
        forked.join()
    assert caplog.text == ""
