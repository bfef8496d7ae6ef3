"""Writing changes is all or nothing, and reverting restores every byte and mode."""

import hashlib
import json
import os
import pkgutil
import shutil

import pytest

from patches.problems import CheckoutError
from patches.tree.changes import Change
from patches.tree.record import STORE, edited, is_patched, read_record
from patches.tree.write import revert, write_changes

FILES = {"train.py": b"x = 1\n", "model/vae.py": b"\xef\xbb\xbfy = 1\r\n", "other.py": b"z = 1\n"}
AFTER = {"train.py": b"x = 2\n", "model/vae.py": b"\xef\xbb\xbfy = 2\r\n"}
AFTER |= {"model/glue.py": b"g = 1\n", "lib/new/a.py": b"a\n"}
CHANGES = [Change(path, FILES.get(path), data, "") for path, data in AFTER.items()]


def sha256(data):
    return None if data is None else hashlib.sha256(data).hexdigest()


@pytest.fixture()
def fork(make_tree):
    root = make_tree(FILES)
    (root / "train.py").chmod(0o750)
    (root / "model/vae.py").chmod(0o604)
    return root


def test_every_file_is_written_with_its_mode(fork):
    write_changes(fork, CHANGES)
    assert {path: (fork / path).read_bytes() for path in FILES | AFTER} == FILES | AFTER
    assert [(fork / path).stat().st_mode & 0o777 for path in ("train.py", "model/vae.py")] == [0o750, 0o604]
    assert is_patched(fork, vendor=False)
    assert not list(fork.rglob(".*.py.*"))  # the temporary names


def test_the_record_names_every_file(fork):
    write_changes(fork, CHANGES)
    record = json.loads((fork / STORE / "manifest.json").read_text())
    assert record["format"] == 1
    assert [(file["path"], file["created"]) for file in record["files"]] == [
        ("train.py", False), ("model/vae.py", False), ("model/glue.py", True), ("lib/new/a.py", True)]  # fmt: skip
    assert [file["before"] for file in record["files"]] == [sha256(FILES.get(path)) for path in AFTER]
    assert [file["after"] for file in record["files"]] == [sha256(data) for data in AFTER.values()]
    assert (fork / STORE / "originals/model/vae.py").read_bytes() == FILES["model/vae.py"]
    assert (fork / STORE / ".gitignore").read_text() == "*\n"


def test_revert_restores_bytes_and_modes(fork, snapshot):
    before = snapshot(fork)
    write_changes(fork, CHANGES)
    cache = fork / "lib/new/__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").write_bytes(b"compiled")
    (fork / "train.py").chmod(0o600)
    revert(fork)
    assert snapshot(fork) == before


class FailsAt:
    """Stands for a function of os that fails when it is called for the n-th time."""

    def __init__(self, function, number, error):
        self.function, self.left, self.error = function, number, error

    def __call__(self, *arguments, **keywords):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.function(*arguments, **keywords)


@pytest.mark.parametrize("function, calls", [
    ("os.replace", 5), ("os.chmod", 2), ("patches.tree.write._write_durably", 8)])
def test_a_failure_anywhere_leaves_the_tree_as_it_was(fork, snapshot, monkeypatch, function, calls):
    before = snapshot(fork)
    for number in range(1, calls + 1):
        broken = FailsAt(pkgutil.resolve_name(function), number, OSError(28, "No space left on device"))
        said = "No space left.*everything is as it was"
        with monkeypatch.context() as patch, pytest.raises(CheckoutError, match=said):
            patch.setattr(function, broken)
            write_changes(fork, CHANGES)
        assert snapshot(fork) == before, number
    write_changes(fork, CHANGES)


def test_an_interrupt_leaves_the_tree_as_it_was(fork, snapshot, monkeypatch):
    before = snapshot(fork)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", FailsAt(os.replace, 3, KeyboardInterrupt()))
        write_changes(fork, CHANGES)
    assert snapshot(fork) == before


def test_when_nothing_can_be_restored_at_once_revert_still_can(fork, snapshot, monkeypatch):
    def fail_late(*arguments):
        if len(calls) >= 2:
            raise OSError(5, "Input/output error")
        calls.append(arguments)
        return replace(*arguments)

    before, calls, replace = snapshot(fork), [], os.replace
    with monkeypatch.context() as patch, pytest.raises(CheckoutError, match="could not restore everything either.*--revert"):
        patch.setattr(os, "replace", fail_late)
        write_changes(fork, CHANGES)
    assert (fork / "train.py").read_bytes() == AFTER["train.py"]
    revert(fork)
    assert snapshot(fork) == before


REFUSED = {
    "read-only file": (lambda root: (root / "model/vae.py").chmod(0o444), "no permission to write .*model/vae.py"),
    "read-only folder": (lambda root: (root / "model").chmod(0o555), "no permission to write .*model"),
    "file in the way": (lambda root: (root / "model/glue.py").write_bytes(b"mine\n"), "would overwrite model/glue.py"),
    "link in the way": (lambda root: (root / "model/glue.py").symlink_to("nowhere"), "would overwrite model/glue.py"),
    "changed since it was read": (lambda root: (root / "train.py").write_bytes(b"x = 3\n"),
                                  "train.py changed while the checkout was read"),
}


@pytest.mark.parametrize("spoil, said", REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_is_written(fork, spoil, said):
    spoil(fork)
    before = {path: (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in sorted(fork.rglob("*"))}
    with pytest.raises(CheckoutError, match=said):
        write_changes(fork, CHANGES)
    assert {path: (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in sorted(fork.rglob("*"))} == before
    (fork / "model").chmod(0o755)


def test_revert_refuses_to_lose_edits(fork, snapshot):
    original = snapshot(fork)
    write_changes(fork, CHANGES)
    (fork / "train.py").write_bytes(b"x = 5\n")
    (fork / "model/glue.py").write_bytes(b"g = 5\n")
    as_edited = snapshot(fork)
    with pytest.raises(CheckoutError, match="edited since they were patched: train.py, model/glue.py; --force"):
        revert(fork)
    assert snapshot(fork) == as_edited
    revert(fork, force=True)
    assert snapshot(fork) == original


def test_revert_keeps_what_the_user_added_to_a_new_folder(fork):
    write_changes(fork, CHANGES)
    (fork / "lib/mine.py").write_bytes(b"m = 1\n")
    revert(fork)
    assert sorted(path.name for path in (fork / "lib").iterdir()) == ["mine.py"]


@pytest.mark.parametrize("path", ["train.py", "model/glue.py"])
def test_revert_finishes_what_was_done_in_part(fork, snapshot, path):
    before = snapshot(fork)
    write_changes(fork, CHANGES)
    (fork / path).unlink()
    if path in FILES:
        (fork / path).write_bytes(FILES[path])
        (fork / path).chmod(0o750)
    with pytest.raises(CheckoutError, match=f"patched in part, .*: {path}; --revert"):
        is_patched(fork, vendor=False)
    revert(fork)
    assert snapshot(fork) == before


def test_a_file_that_is_restored_already_needs_no_saved_original(fork, snapshot):
    before = snapshot(fork)
    write_changes(fork, CHANGES)
    (fork / "train.py").write_bytes(FILES["train.py"])
    (fork / STORE / "originals/train.py").unlink()
    revert(fork)
    assert snapshot(fork) == before


def test_a_revert_that_fails_can_be_repeated(fork, snapshot, monkeypatch):
    before = snapshot(fork)
    write_changes(fork, CHANGES)
    with monkeypatch.context() as patch, pytest.raises(CheckoutError, match="run --revert again"):
        patch.setattr(os, "replace", FailsAt(os.replace, 2, OSError(5, "Input/output error")))
        revert(fork)
    revert(fork)
    assert snapshot(fork) == before


def _spoil_json(**changes):
    def spoil(store):
        record = json.loads((store / "manifest.json").read_text())
        (store / "manifest.json").write_text(json.dumps(record | changes))
    return spoil


DAMAGED = {
    "no manifest": (lambda store: (store / "manifest.json").unlink(), "has no manifest.json"),
    "no JSON": (lambda store: (store / "manifest.json").write_text("{"), "is not a record"),
    "later format": (_spoil_json(format=2), "has another format than 1"),
    "other JSON": (_spoil_json(files=[{"path": "train.py"}]), "is not a record that this version writes"),
    "a list": (lambda store: (store / "manifest.json").write_text("[]"), "is not a record that this version writes"),
    "a path outside": (_spoil_json(files=[dict(path="../a.py", before="", after="", created=False, mode=0)]), "names a path outside"),
    "an original lost": (lambda store: (store / "originals/train.py").unlink(), "original of train.py cannot be read"),
    "an original damaged": (lambda store: (store / "originals/train.py").write_bytes(b"?"), "is not what was saved"),
}


@pytest.mark.parametrize("spoil, said", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_restores_nothing(fork, snapshot, spoil, said):
    write_changes(fork, CHANGES)
    spoil(fork / STORE)
    before = snapshot(fork)
    with pytest.raises(CheckoutError, match=said):
        revert(fork)
    assert snapshot(fork) == before


def test_nothing_to_revert(fork):
    with pytest.raises(CheckoutError, match="nothing to revert"):
        revert(fork)


@pytest.mark.parametrize("path", ["train.py", "model/glue.py"])
def test_edited_files_are_named(fork, path):
    write_changes(fork, CHANGES)
    (fork / path).write_bytes(b"x = 5\n")
    with pytest.raises(CheckoutError, match=f"differ from what was written: {path}; --revert"):
        is_patched(fork, vendor=False)


def test_a_file_replaced_by_a_link_counts_as_edited(fork):
    write_changes(fork, CHANGES)
    shutil.copy(fork / "train.py", fork / "copy.py")
    (fork / "train.py").unlink()
    (fork / "train.py").symlink_to("copy.py")
    assert edited(fork, read_record(fork)) == ["train.py"]
