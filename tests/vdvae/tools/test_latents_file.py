"""The .npz file of latents: whole or not there, and every array looked at before it is used."""

import io
import os
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from vdvae.tools.latents_file import reading, writing

SHAPES = [(2, 1, 1), (2, 4, 4), (2, 8, 8)]
NAMES = ["a", "b", "ü", "d"]


@pytest.fixture()
def path(tmp_path):
    return tmp_path / "l.npz"


def write(path, scale: float = 1.0) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    with writing(path, NAMES, SHAPES) as (z, kl):
        for array in (*z, kl):
            array[:] = scale * generator.standard_normal(array.shape)
        return [array.copy() for array in z]


def test_what_is_written_is_read(path):
    written = write(path)
    assert sorted(np.load(path).files) == ["kl", "names", "z_000", "z_001", "z_002"]
    with reading(path, SHAPES) as latents:
        assert latents.names == NAMES
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(latents.z, written, strict=True))
        assert [block.shape for block in latents.batch(1, 3)] == [(2, *shape) for shape in SHAPES]
        assert np.array_equal(latents.batch(1, 3)[2], written[2][1:3])


def test_a_model_with_more_blocks_reads_it_too(path):
    write(path)
    with reading(path, [*SHAPES, (2, 8, 8)]) as latents:
        assert len(latents.z) == 3


def test_an_error_while_writing_leaves_nothing(path):
    with pytest.raises(RuntimeError, match="no more"), writing(path, NAMES, SHAPES):
        raise RuntimeError("no more")
    assert not list(path.parent.iterdir())


def test_a_disk_without_room_is_an_error_before_anything_is_computed(path, monkeypatch):
    """A write to a memory map for which there is no room ends the process without a message."""
    def full(file: int, offset: int, size: int):
        if size > 2000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"), writing(path, NAMES, SHAPES):
        raise AssertionError("nothing is computed")
    assert not list(path.parent.iterdir())
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS and Windows
    write(path)


@pytest.mark.parametrize("change, words", [
    ({"names": np.arange(4)}, ["names must be"]),
    ({"names": np.array([], dtype=str)}, ["names must be"]),
    ({"names": np.array(["a", None, "c", "d"], dtype=object)}, ["names.npy is object"]),
    ({"names": None}, ["names must be"]),
    ({"z_001": None}, ["z_000, z_002", "without gaps"]),
    ({"z_000": None, "z_001": None, "z_002": None}, ["no z", "z_000 up to"]),
    ({"other": np.zeros(3)}, ["found other, z_000"]),
    ({"z_003": np.zeros((4, 2, 8, 8), np.float32)}, ["at most z_002"]),
    ({"z_000": np.zeros((4, 2, 1, 1))}, ["z_000 is float64", "float32 [4, 2, 1, 1]"]),
    ({"z_001": np.zeros((3, 2, 4, 4), np.float32)}, ["z_001", "[3, 2, 4, 4]", "[4, 2, 4, 4]"]),
])
def test_files_of_other_making_are_checked(path, change, words):
    arrays = {"names": np.array(NAMES)}
    arrays |= {f"z_00{index}": np.zeros((4, *shape), np.float32) for index, shape in enumerate(SHAPES)}
    np.savez(path, **{name: value for name, value in {**arrays, **change}.items() if value is not None})
    with pytest.raises(ValueError) as caught, reading(path, SHAPES):
        pass
    assert all(word in str(caught.value) for word in [str(path), *words])


def header(shape: tuple, dtype: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def members(count: int = 4) -> dict[str, bytes]:
    """Headers of arrays of `count` images, without the arrays."""
    return {"names.npy": header((count,), "<U1"), **{f"z_00{i}.npy": header((count, *shape)) for i, shape in enumerate(SHAPES)}}


def declare(archive: zipfile.ZipFile, count: int) -> None:
    """Declare the sizes that the arrays of `members` would have."""
    for info, values in zip(archive.infolist(), (1, 2, 32, 128)):
        info.file_size += 4 * values * count


def encrypt(archive: zipfile.ZipFile) -> None:
    archive.infolist()[2].flag_bits |= 1


@pytest.mark.parametrize("contents, change, words", [
    (members(10**8), lambda archive: declare(archive, 10**8), ["65.2 GB, more than 100 times the file"]),
    (members(10**15), lambda archive: declare(archive, 10**15), ["GB, more than 100 times the file"]),
    (members() | {"z_001.npy": header((10**12, 2, 4, 4))}, lambda archive: declare(archive, 4), ["z_001.npy is float32", "bytes"]),
    (members(), lambda archive: None, ["names.npy is <U1 [4], but has 128 bytes"]),
    (members(), encrypt, ["z_001.npy is encrypted"]),
    (members(), lambda archive: archive.writestr("z_001.npy", b"again"), ["there twice"]),
    (members() | {"kl": b""}, lambda archive: None, ["no .npy at the end"]),
    (members() | {"../../evil.npy": b""}, lambda archive: None, ["found ../../evil"]),
    (members() | {"names.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff"}, lambda archive: None, ["names.npy is no array"]),
    (members() | {"names.npy": header((4,), "|O")}, lambda archive: None, ["names.npy is object"]),
])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_files_are_refused_before_any_array_is_read(path, monkeypatch, contents, change, words):
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: pytest.fail("an array was read"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
        change(archive)
    with pytest.raises(ValueError) as caught, reading(path, SHAPES):
        pass
    assert all(word in str(caught.value) for word in [str(path), *words]) and "\n" not in str(caught.value)


def test_a_disk_without_room_for_the_arrays(path, monkeypatch):
    write(path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=500))
    monkeypatch.setattr("shutil.copyfileobj", lambda *_: pytest.fail("an array was read"))
    with pytest.raises(OSError, match="GB free"), reading(path, SHAPES):
        pass


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(path, bad):
    with writing(path, NAMES, SHAPES) as (z, _):
        z[1][2, 0, 1, 1] = bad
    with reading(path, SHAPES) as latents:
        latents.batch(0, 2)
        with pytest.raises(ValueError, match="z of block 1 of ü is not finite"):
            latents.batch(1, 4)


def test_a_file_that_is_cut_off(path):
    write(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="l.npz: "), reading(path, SHAPES):
        pass
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("z_000.npy", b"\x93NUMPY")
    with pytest.raises(ValueError, match="l.npz: "), reading(path, SHAPES):
        pass


def test_flipped_bits_are_found(path):
    write(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"z_002.npy") + 600] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="z_002"), reading(path, SHAPES):
        pass
