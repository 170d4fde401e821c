"""A bundle's folder is whole or not there, and nothing of the user's is ever replaced."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from samfast.errors import ExportError, OutputExistsError
from samfast.export.folder import LOCK, whole_folder

FILES = ("a.onnx", "b.onnx")


def write(path: Path, text: str = "new", *, overwrite: bool = False, then: Callable = lambda: None) -> None:
    with whole_folder(path, files=FILES, overwrite=overwrite) as folder:
        (folder / "a.onnx").write_text(text)
        then()


def fail(error: BaseException) -> Callable:
    def raise_it() -> None:
        raise error

    return raise_it


def test_it_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.onnxbundle"
    with whole_folder(path, files=FILES) as folder:
        (folder / "a.onnx").write_text("1")
        assert not path.exists()
        assert folder.parent == path.parent
    assert os.listdir(path) == ["a.onnx"]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(tmp_path / "x", then=fail(error()))
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "x", "old")
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "x", "half", overwrite=True, then=fail(ZeroDivisionError()))
    assert (tmp_path / "x" / "a.onnx").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_what_exists_is_replaced_only_if_asked(tmp_path: Path) -> None:
    write(tmp_path / "x", "old")
    with pytest.raises(OutputExistsError, match="overwrite"):
        write(tmp_path / "x")
    assert (tmp_path / "x" / "a.onnx").read_text() == "old"
    write(tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "a.onnx").read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


def test_other_folders_and_files_are_never_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.onnx").write_text("")
    (photos / "holiday.jpg").write_text("dear")
    with pytest.raises(OutputExistsError, match=r"never replaced \(it holds holiday\.jpg\)"):
        write(photos, overwrite=True)
    with pytest.raises(OutputExistsError, match="never replaced by a folder"):
        write(photos / "holiday.jpg", overwrite=True)
    assert (photos / "holiday.jpg").read_text() == "dear"


def test_what_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(OutputExistsError):
        write(path, "slow", then=lambda: write(path, "fast"))
    assert (path / "a.onnx").read_text() == "fast"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(ExportError, match=r"(?s)the disk is full.*make room"),
        whole_folder(tmp_path / "x", files=FILES),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert os.listdir(tmp_path) == []


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="writing failed"):
        write(tmp_path / "file" / "x")


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".dead.tmp", ".alive.tmp", ".stranger.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / ".stranger.tmp" / "file").write_text("")
    (tmp_path / ".dead.tmp" / LOCK).write_text("")
    with (tmp_path / ".alive.tmp" / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write(tmp_path / "x")
    assert sorted(os.listdir(tmp_path)) == [".alive.tmp", ".stranger.tmp", "x"]
