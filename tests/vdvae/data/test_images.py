"""Reading single images and batches of an array, without copying the array."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vdvae.data.images import ArrayImages


def numbered(n: int) -> np.ndarray:
    return np.arange(n * 2 * 4 * 3, dtype=np.uint8).reshape(n, 2, 4, 3)


def test_items_follow_the_index_list():
    array = numbered(5)
    images = ArrayImages(array, np.array([4, 0, 2]))
    assert len(images) == 3 and images.image_shape == (2, 4, 3) and images.decodes is False
    assert images[0].dtype == torch.uint8
    np.testing.assert_array_equal(images[0].numpy(), array[4])
    np.testing.assert_array_equal(images.__getitems__([2, 1, 2]).numpy(), array[[2, 0, 2]])


def test_without_indices_all_images_in_file_order():
    array = numbered(3)
    np.testing.assert_array_equal(ArrayImages(array).__getitems__([0, 1, 2]).numpy(), array)


def test_index_beyond_the_split_raises_even_if_the_array_is_longer():
    images = ArrayImages(numbered(5), np.array([1, 2]))
    with pytest.raises(IndexError):
        images[2]
    with pytest.raises(IndexError):
        images.__getitems__([0, 2])


@pytest.mark.parametrize("read", [lambda images: images[0], lambda images: images.__getitems__([0, 1])])
def test_writing_to_what_was_read_leaves_the_array_alone(read):
    array = numbered(2)
    read(ArrayImages(array)).fill_(7)
    np.testing.assert_array_equal(array, numbered(2))


def test_a_memory_map_is_referred_to_and_a_batch_is_read_from_it(tmp_path, write_zeros):
    write_zeros(tmp_path / "images.npy", (20, 2, 4, 3))[:] = numbered(20)
    array = np.load(tmp_path / "images.npy", mmap_mode="r")
    images = ArrayImages(array, np.arange(10, 20))
    assert images.array is array
    batch = images.__getitems__([0, 9])
    np.testing.assert_array_equal(batch.numpy(), numbered(20)[[10, 19]])
    assert type(batch.numpy()) is np.ndarray and batch.numpy().flags.writeable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_memory_map_travels_as_its_files_name_and_nothing_else_does(tmp_path, dtype):
    np.save(tmp_path / "images.npy", np.zeros((20, 64, 64, 3), dtype) + numbered(20)[:, :1, :1])
    whole = np.load(tmp_path / "images.npy", mmap_mode="r")
    sent = pickle.dumps(ArrayImages(whole, np.arange(10, 20)))
    assert len(sent) < 1000 < whole.nbytes
    arrived = pickle.loads(sent)
    assert isinstance(arrived.array, np.memmap) and arrived.array.mode == "r"
    assert torch.equal(arrived.__getitems__([0, 9]), ArrayImages(whole).__getitems__([10, 19]))
    part = ArrayImages(whole[5:])  # its place in the file is not that of its map
    assert torch.equal(pickle.loads(pickle.dumps(part))[0], part[0])


@pytest.mark.parametrize("indices", [None, np.array([3, 1, 4])])
def test_a_data_loader_hands_on_whole_batches(indices):
    images = ArrayImages(numbered(5), indices)
    batches = list(DataLoader(images, batch_size=2, collate_fn=lambda batch: batch))
    np.testing.assert_array_equal(torch.cat(batches).numpy(), numbered(5)[indices if indices is not None else range(5)])


def test_refuses_other_dtypes_shapes_and_indices():
    with pytest.raises(TypeError, match="uint8 or uint16, got float32"):
        ArrayImages(np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match=r"\[N, H, W, C\], got \[1, 2, 2\]"):
        ArrayImages(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"0\.\.1, got -1\.\.2"):
        ArrayImages(numbered(2), np.array([-1, 2]))
