"""Folders of image files: which files, which split, and how each kind of file becomes RGB."""

import pytest

from vdvae.data.own.folder import TRIES, PartOfFolder, load_folder
from vdvae.data.splits import load_splits


def names(part) -> list[str]:
    return [path.name for path in part.paths]


def test_no_images(tmp_path):
    (tmp_path / "image.gif").write_bytes(b"GIF89a")
    with pytest.raises(FileNotFoundError, match=rf"no images below {tmp_path}: .*\.png, \.jpg, \.jpeg"):
        load_splits("folder", str(tmp_path), 8)


def test_split_is_disjoint_complete_and_repeatable(tmp_path, write_flat):
    for i in range(25):
        write_flat(f"{i:02}.png", i)
    splits = load_splits("folder", str(tmp_path), 4, seed=1)
    assert [len(part) for part in splits] == [18, 3, 4] and splits.train.notes == ["images: train 18, valid 3, test 4"]
    assert sorted(sum((names(part) for part in splits), [])) == [f"{i:02}.png" for i in range(25)]
    assert list(map(names, load_splits("folder", str(tmp_path), 4, seed=2))) == list(map(names, splits))
    assert [int(image[0, 0, 0]) for image in splits.train] == [int(name[:2]) for name in names(splits.train)]


def test_three_images_are_enough_and_two_are_not(tmp_path, write_flat):
    write_flat("a.png", 1), write_flat("b.png", 2)
    with pytest.raises(ValueError, match="at least 3 images .* found 2"):
        load_splits("folder", str(tmp_path), 4)
    write_flat("c.png", 3)
    splits = load_splits("folder", str(tmp_path), 4)
    assert [len(part) for part in splits] == [1, 1, 1]
    assert sum("so few images that none would be in the" in note for note in splits.train.notes) == 2


def test_subfolders_are_the_splits(tmp_path, write_flat):
    write_flat("train/a.png", 1), write_flat("valid/b.png", 2), write_flat("elsewhere/c.png", 3)
    assert list(map(names, load_splits("folder", str(tmp_path), 4))) == [["a.png"], ["b.png"], ["b.png"]]
    write_flat("test/d.png", 4)
    assert list(map(names, load_splits("folder", str(tmp_path), 4))) == [["a.png"], ["b.png"], ["d.png"]]


def test_train_without_valid_is_refused_rather_than_mixed(tmp_path, write_flat):
    for i in range(5):
        write_flat(f"train/{i}.png", i), write_flat(f"test/{i}.png", i)
    with pytest.raises(ValueError, match="subfolder train/ alone: give both"):
        load_splits("folder", str(tmp_path), 4)


def test_batch_of_decoded_images(tmp_path, write_flat):
    for i in range(3):
        write_flat(f"train/{i}.png", 10 * i, (7, 9)), write_flat(f"valid/{i}.png", i)
    train = load_splits("folder", str(tmp_path), 5).train
    assert train.decodes is True and train.image_shape == (5, 5, 3)
    batch = train.__getitems__([2, 0])
    assert batch.shape == (2, 5, 5, 3) and batch[:, 2, 2, 1].tolist() == [20, 0]


def test_the_next_image_takes_the_place_of_a_broken_one_which_is_named_once(tmp_path, write_flat, capsys):
    for i in range(3):
        write_flat(f"{i}.png", 10 * i)
    part = PartOfFolder(tmp_path, {f"{i}.png": "" for i in range(3)}, 4, [])
    (tmp_path / "2.png").write_bytes(b"broken")
    assert [part[2][0, 0, 0], *part.__getitems__([1, 2])[:, 0, 0, 0]] == [0, 10, 0] and len(part) == 3
    assert capsys.readouterr().err.count("cannot decode image") == 1
    assert list(part.broken) == [str(tmp_path / "2.png")] and "not an image" not in part.broken
    with pytest.raises(IndexError):
        part[3]


def test_many_broken_images_in_a_row_are_an_error(tmp_path):
    part = PartOfFolder(tmp_path, {f"{i}.png": "" for i in range(1000)}, 4, [])
    with pytest.raises(ValueError, match=f"{TRIES} images in a row cannot be read, up to .*/4.png"):
        part[995]


def test_a_run_from_before_the_split_by_name_does_not_go_on(tmp_path, write_flat):
    for i in range(10):
        write_flat(f"mixed/{i}.png", i), write_flat(f"apart/train/{i}.png", i), write_flat(f"apart/valid/{i}.png", 10 + i)
    with pytest.raises(ValueError, match="held-out images are not known any more: begin a new run .* --restore_path"):
        load_folder(tmp_path / "mixed", 4, known={})
    assert len(load_folder(tmp_path / "apart", 4, known={}).train) == 10


def test_ffhq_1024_reads_folders_at_any_depth(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000/00001.png", 20, (1024, 1024))
    write_flat("ffhq1024/train/00000/00000.png", 10, (1024, 1024))
    write_flat("ffhq1024/valid/60000.png", 30, (1024, 1024))
    splits = load_splits("ffhq_1024", str(tmp_path), 1024)
    assert [len(part) for part in splits] == [2, 1, 1] and splits.valid is splits.test
    assert splits.train.image_shape == (1024, 1024, 3) and splits.train.decodes is True
    assert splits.train.__getitems__([0, 1])[:, 5, 5, 0].tolist() == [10, 20]
    assert splits.valid[0].unique().tolist() == [30]


def test_ffhq_1024_names_the_missing_folder_and_its_script(tmp_path, write_flat):
    write_flat("ffhq1024/train/00000.png", 1)
    with pytest.raises(FileNotFoundError, match=r"ffhq1024/valid is missing.*run_scripts/setup_ffhq1024\.sh"):
        load_splits("ffhq_1024", str(tmp_path), 1024)
