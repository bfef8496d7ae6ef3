"""The image files below a folder: which are found, which are left out and why, and what the cache saves."""

import os

import numpy as np
import pytest
from PIL import Image

from vdvae.data.own.listing import checked_images, list_images


def found(root) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_images(root)]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "vdvae"


def test_images_at_any_depth_sorted_and_not_hidden(tmp_path, write_flat):
    for name in ("b.png", "a/z.JPG", "a/y.jpeg", "c.PNG", "d.webp", "e.bmp", "f.TIF", "g.tiff", ".hidden.png", ".cache/x.png"):
        write_flat(name, 1)
    assert found(tmp_path) == ["a/y.jpeg", "a/z.JPG", "b.png", "c.PNG", "d.webp", "e.bmp", "f.TIF", "g.tiff"]


def test_files_of_other_types_are_counted(tmp_path, write_flat):
    write_flat("a.png", 1)
    for name in ("1.HEIC", "2.heic", "notes.txt", "README"):
        (tmp_path / name).write_text("")
    assert checked_images(tmp_path).notes == [f"left out below {tmp_path}, by type: .heic 2, .txt 1, no ending 1"]


def test_a_folder_that_must_not_be_opened_is_counted_and_the_rest_is_read(tmp_path, write_flat, monkeypatch):
    write_flat("a.png", 1), write_flat("locked/b.png", 2)
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "locked")  # the tests may run as root, who may open all
    files, _, notes = checked_images(tmp_path)
    assert list(files) == ["a.png"] and notes == [f"left out below {tmp_path}, by type: folder without permission 1"]


def test_links_are_followed_and_loops_are_not(tmp_path, write_flat):
    write_flat("elsewhere/deep/a.png", 1), write_flat("folder/b.png", 2)
    root = tmp_path / "folder"
    (root / "file.png").symlink_to(tmp_path / "elsewhere/deep/a.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(root)
    (root / "self").symlink_to(root)
    assert found(root) == ["b.png", "file.png", "linked/deep/a.png"]


def test_what_cannot_be_used_is_named_with_the_reason_and_left_out(tmp_path, write_flat):
    for i in range(18):
        write_flat(f"{i:02}.png", i)
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    files, _, notes = checked_images(tmp_path)
    assert list(files) == [f"{i:02}.png" for i in range(18)]
    assert notes == [f"left out, as they cannot be used: 2 of 20 images below {tmp_path}: "
                     "gone.png (No such file or directory), text.jpg (not an image)"]
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 of 21 images below .* cannot be used, more than 10%: empty.png"):
        checked_images(tmp_path)


def test_one_file_that_cannot_be_used_is_never_too_much(tmp_path, write_flat):
    write_flat("a.png", 1)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "deep.tiff")
    files, _, [note] = checked_images(tmp_path)
    assert list(files) == ["a.png"] and "deep.tiff (pixels of 32 bits, 8 and 16 can be read)" in note
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match="1 of 1 images below"):
        checked_images(tmp_path)


def test_the_second_time_only_changed_files_are_opened(tmp_path, write_flat, monkeypatch, cache):
    for i in range(3):
        write_flat(f"{i}.png", i)
    first, opened = checked_images(tmp_path), []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda file: opened.append(os.path.basename(file.name)) or original(file))
    assert checked_images(tmp_path) == first and opened == []
    write_flat("1.png", 9, (5, 5))
    changed, _, _ = checked_images(tmp_path)
    assert opened == ["1.png"] and changed["1.png"] != first[0]["1.png"] and changed["2.png"] == first[0]["2.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png", "2.png"] and len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_a_damaged_cache_is_made_again(tmp_path, write_flat, cache, content):
    write_flat("a.png", 1)
    first = checked_images(tmp_path)
    [file] = cache.iterdir()
    file.write_text(content)
    assert checked_images(tmp_path) == first and file.read_text().startswith('{"a.png"')


def test_without_a_place_for_the_cache_all_files_are_checked(tmp_path, write_flat, monkeypatch):
    write_flat("a.png", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list(checked_images(tmp_path)[0]) == ["a.png"]


def test_digests_are_of_the_content(tmp_path, write_flat):
    write_flat("a.png", 1), write_flat("copy.png", 1), write_flat("b.png", 2)
    large = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)  # BMP: many bytes between the samples
    Image.fromarray(large).save(tmp_path / "large.bmp")
    for row in (0, -1):
        other = large.copy()
        other[row] ^= 1
        Image.fromarray(other).save(tmp_path / f"other{row}.bmp")
    files, _, _ = checked_images(tmp_path)
    assert files["a.png"] == files["copy.png"] and len(set(files.values())) == 5
