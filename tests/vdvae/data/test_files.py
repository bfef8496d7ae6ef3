"""Files and folders that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from vdvae.data.files import filled_whole, written_whole


def make_file(path: Path, content: str) -> None:
    path.write_text(content)


def make_folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "part").write_text(content)


def content_of(path: Path) -> str:
    return (path / "part").read_text() if path.is_dir() else path.read_text()


@pytest.fixture(params=[make_file, make_folder])
def make(request):
    return request.param


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path, make):
    target = tmp_path / "target.x"
    make(target, "old")
    with written_whole(target) as partial:
        assert partial.parent == tmp_path and partial != target
        make(partial, "new")
        assert content_of(target) == "old"
    assert content_of(target) == "new" and list(tmp_path.iterdir()) == [target]


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, make, monkeypatch):
    done, flush, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.fstat(file).st_ino), flush(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("renamed"), rename(*paths)))
    with written_whole(tmp_path / "target") as partial:
        make(partial, "new")
    assert done[-3:] == [(tmp_path / "target").stat().st_ino, "renamed", tmp_path.stat().st_ino]


def test_where_folders_cannot_be_opened_nothing_is_flushed(tmp_path, make, monkeypatch):
    def refused(*_):
        raise PermissionError("Windows opens no folders")

    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(os, "open", refused)
    with written_whole(tmp_path / "target") as partial:
        make(partial, "new")
    assert content_of(tmp_path / "target") == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path, make, error):
    target = tmp_path / "target"
    make(target, "old")
    with pytest.raises(error), written_whole(target) as partial:
        make(partial, "ne")
        raise error
    assert content_of(target) == "old" and list(tmp_path.iterdir()) == [target]


def test_folders_above_are_made_and_stay_only_with_something_in_them(tmp_path, make):
    with pytest.raises(OSError), written_whole(tmp_path / "new/folder/target") as partial:
        make(partial, "ne")
        raise OSError
    assert not list(tmp_path.iterdir())
    with written_whole(tmp_path / "new/folder/target") as partial:
        make(partial, "new")
    assert content_of(tmp_path / "new/folder/target") == "new"


@pytest.mark.parametrize("there_before", [True, False])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_takes_out_of_a_folder_what_the_block_put_there(tmp_path, make, there_before, error):
    folder = tmp_path / "new/folder" if not there_before else tmp_path
    if there_before:
        (folder / "mine").write_text("mine")
    with pytest.raises(error), filled_whole(folder):
        make(folder / "first", "new")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] * there_before
    with filled_whole(folder):
        make(folder / "first", "new")
    assert content_of(folder / "first") == "new"


@pytest.mark.parametrize("left_behind", [make_file, make_folder])
def test_what_a_killed_process_left_is_replaced(tmp_path, make, left_behind):
    left_behind(tmp_path / "target.partial", "half")
    with written_whole(tmp_path / "target") as partial:
        make(partial, "new")
    assert content_of(tmp_path / "target") == "new" and len(list(tmp_path.iterdir())) == 1


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "target"):
        pass
    assert not list(tmp_path.iterdir())
