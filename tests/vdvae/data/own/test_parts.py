"""The split of a folder: by each file's own path, and for good once a run knows the file."""

import pytest

from vdvae.data.own.parts import PARTS, changes, part_of, split_by_name


def files(*numbers: int) -> dict[str, str]:
    return {f"{number:04}.png": f"content {number}" for number in numbers}


def where(parts) -> dict[str, str]:
    return {digest: part for part in PARTS for digest in parts[part].values()}


def test_a_tenth_is_valid_and_a_tenth_is_test():
    parts, notes = split_by_name(files(*range(4000)), {})
    assert 350 < len(parts["valid"]) < 450 and 350 < len(parts["test"]) < 450 and notes == []
    assert sum(map(len, parts.values())) == 4000


def test_the_part_of_a_path_is_the_same_on_every_machine():
    assert [part_of(f"{i:02}.png") for i in (0, 1, 2, 3)] == ["test", "train", "valid", "valid"]


def test_a_new_image_moves_no_other():
    before, after = (where(split_by_name(files(*range(n)), {})[0]) for n in (1000, 1001))
    assert {digest: after[digest] for digest in before} == before


def test_no_image_changes_its_part_after_a_tenth_is_added_removed_and_renamed():
    before, _ = split_by_name(files(*range(1000)), {})
    now = files(*range(100, 1100))
    for number in range(200, 300):
        now[f"renamed/{number}.png"] = now.pop(f"{number:04}.png")
    after, _ = split_by_name(now, before)
    old, new = where(before), where(after)
    assert len(new) == 1000 and all(new[digest] == old[digest] for digest in new.keys() & old.keys())
    assert not set(before["test"].values()) & set(after["train"].values())
    unknown, _ = split_by_name(now, {})  # without the saved parts, new names would give new parts
    assert set(before["test"].values()) & set(unknown["train"].values())


def test_files_that_are_numbered_anew_keep_their_parts():
    before, _ = split_by_name(files(*range(100)), {})
    now = {f"{number:04}.png": f"content {number + 1}" for number in range(99)}
    after, _ = split_by_name(now, before)
    assert where(after).items() <= where(before).items()


def test_an_image_that_was_edited_and_a_copy_stay_in_the_part():
    before = {"train": files(1), "valid": files(2), "test": files(0)}
    assert part_of("0000.png") == "train"
    after, _ = split_by_name(files(0, 1, 2) | {"0000.png": "edited"}, before)
    assert after["test"] == {"0000.png": "edited"}
    copies = {f"copy{i}.png": "content 3" for i in range(20)}  # 0003.png is a test image
    assert split_by_name(files(*range(100)) | copies, {})[0]["test"].items() >= copies.items()


@pytest.mark.parametrize("count", range(3, 20))
def test_each_part_of_a_small_folder_has_an_image(count):
    parts, notes = split_by_name(files(*range(count)), {})
    assert all(parts[part] for part in PARTS) and sum(map(len, parts.values())) == count
    moved = [name for part in PARTS for name in parts[part] if part_of(name) != part]
    assert len(moved) == len(notes) and all(name in " ".join(notes) for name in moved)
    larger, _ = split_by_name(files(*range(100)), parts)
    assert where(parts).items() <= where(larger).items()


def test_what_changed_is_said_by_name():
    before, _ = split_by_name(files(*range(10)), {})
    now = files(*range(2, 12)) | {"0003.png": "edited"}
    now["moved.png"] = now.pop("0004.png")
    lines = changes(split_by_name(now, before)[0], before)
    start = "the images have changed since the state was saved; "
    assert lines == [start + "2 new: 0010.png, 0011.png", start + "1 renamed or copied: moved.png",
                     start + "1 with other content: 0003.png", start + "2 gone: 0000.png, 0001.png"]
    assert changes(before, before) == []


def test_another_folder_is_refused():
    before, _ = split_by_name(files(*range(10)), {})
    with pytest.raises(ValueError, match="of the 10 images of this run 4 are there, less than 50%: give the --data_root"):
        changes(split_by_name(files(*range(6, 100)), before)[0], before)
    assert changes(split_by_name(files(*range(5, 100)), before)[0], before)
