"""Which files of a checkout are read, and which checkouts are refused."""

import os

import pytest
from patches.tree.checkout import LARGEST, read_checkout
from patches.problems import CheckoutError

ROUND_TRIPS = {
    "UTF-8": "name = 'Zürich'  # ← arrow\n".encode(),
    "byte order mark": b"\xef\xbb\xbfx = 1\r\n\r\n\r\ny = 2\r\n",
    "latin-1 cookie": b"# -*- coding: latin-1 -*-\nname = 'Z\xfcrich'\n",
    "no newline at the end": b"def f():\n\treturn 1",
    "mixed line ends": b"x = 1\r\ny = 2\nz = 3\r\n",
    "empty": b"",
    "blanks at line ends": b"x = 1   \n\n\nif x:   # why\t\n    y = 2 \n# end\t\n",
}


@pytest.mark.parametrize("data", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_every_byte_is_kept(make_tree, data):
    checkout = read_checkout(make_tree({"vae.py": data}))
    assert checkout.sources["vae.py"].data == checkout.sources["vae.py"].edited([]) == data


def test_code_in_folders_is_read_and_foreign_code_is_left_out(make_tree):
    code = b"x = 1\n"
    root = make_tree({
        "train.py": code, "src/model/vae.py": code, "a b/é.py": code, "notes.txt": b"", ".cache/a.py": code,
        "src/__pycache__/b.py": code, "env/pyvenv.cfg": b"", "env/lib/c.py": code, "node_modules/d.py": code,
        "stable_params/__init__.py": b"import stable_params.x\n", "conda/conda-meta/h": b"", "conda/e.py": code,
        ".hidden.py/f.py": code,
    })  # fmt: skip
    assert set(read_checkout(root).sources) == {"train.py", "src/model/vae.py", "a b/é.py"}


def test_a_very_large_file_is_left_out_and_named(make_tree):
    root = make_tree({"vae.py": b"x = 1\n", "table.py": b"#" * (LARGEST + 1), "nearly.py": b"#" * LARGEST})
    checkout = read_checkout(root)
    assert set(checkout.sources) == {"vae.py", "nearly.py"}
    assert checkout.notes == ["table.py: not read, it is larger than 5 MB"]


REFUSED = {
    "syntax error": ({"a/bad.py": b"x = 1\ny = = 2\n"}, ["a/bad.py:2: syntax error", "y = = 2"]),
    "unclosed": ({"bad.py": b"x = 1\nf(\n"}, ["bad.py:2: syntax error", "f("]),
    "Python 2": ({"old.py": b"import os\nprint 'loss', loss\n"}, ["old.py:2: syntax error", "'loss', loss", "Python 3"]),
    "print in Python 3": ({"bad.py": b"print(x\n"}, ["bad.py:1: syntax error"]),
    "not UTF-8": ({"bad.py": b"x = 1\nname = 'Z\xfcrich'\n"}, ["bad.py:2: syntax error", "0xfc"]),
    "unknown encoding": ({"bad.py": b"# coding: klingon\nx = 1\n"}, ["bad.py:1: syntax error", "unknown encoding", "klingon"]),
    "codec that is no text": ({"bad.py": b"# coding: hex\nx = 1\n"}, ["bad.py:1: syntax error", "hex"]),
    "zero byte": ({"bad.py": b"x = 1\0\n"}, ["bad.py:1: syntax error", "null"]),
    "nested too deeply": ({"bad.py": b"(" * 3000 + b")" * 3000}, ["bad.py:1: syntax error", "nested"]),
    "too many signs": ({"bad.py": b"x = " + b"-" * 100_000 + b"1\n"}, ["bad.py:1: syntax error"]),
    "no Python": ({"README.md": b"hello\n"}, ["not a Python tree", "no .py file"]),
    "stable_params imported": ({"vae.py": b"import os\n\nfrom stable_params import Exp\n"},
                               ["vae.py:3: this looks patched by hand", "from stable_params import Exp"]),
    "imported in a function": ({"vae.py": b"def f():\r\n    import stable_params.normal as n\r\n"},
                               ["vae.py:2: this looks patched by hand"]),
    "relative import": ({"a/vae.py": b"from .stable_params import Exp\n"}, ["a/vae.py:1: this looks patched by hand"]),
    "from a package": ({"vae.py": b"from ours import stable_params\n"}, ["vae.py:1: this looks patched by hand"]),
    "the glue without its record": ({"vae.py": b"from stable_scales import Scales\n"},
                                    ["vae.py:1: this looks patched by hand"]),
    "flag": ({"hps.py": b"x = 1\np.add_argument('--sigma_param', default='exp')\n"},
             ["hps.py:2: this looks patched by hand", "p.add_argument"]),
}  # fmt: skip


@pytest.mark.parametrize("files, said", REFUSED.values(), ids=REFUSED)
def test_refused_with_the_place(make_tree, files, said):
    with pytest.raises(CheckoutError) as refusal:
        read_checkout(make_tree(files))
    for words in said:
        assert words in str(refusal.value)


def test_a_file_that_is_not_python_3_is_kept_apart_from_the_others(make_tree):
    checkout = read_checkout(make_tree({"ok.py": b"x = 1\n", "bad.py": b"print 'x'\n"}))
    assert list(checkout.sources) == ["ok.py"]
    assert list(checkout.broken) == ["bad.py"] and "bad.py:1: syntax error" in checkout.broken["bad.py"]


NOT_BY_HAND = {
    "a comment": b"# see stable_params, --sigma_param\n",
    "a docstring": b'"""Unlike stable_params; no --sigma_param."""\n',
    "a longer flag": b"p.add_argument('--sigma_params')\n",
    "a longer name": b"import unstable_params\nfrom stable_params2 import x\n",
    "a name": b"stable_params = 3\n",
}


@pytest.mark.parametrize("data", NOT_BY_HAND.values(), ids=NOT_BY_HAND)
def test_not_patched_by_hand(make_tree, data):
    assert list(read_checkout(make_tree({"vae.py": data})).sources) == ["vae.py"]


def test_a_path_that_is_no_folder(make_tree):
    root = make_tree({"vae.py": b"x = 1\n"})
    with pytest.raises(CheckoutError, match="elsewhere: there is no such folder"):
        read_checkout(root / "elsewhere")
    with pytest.raises(CheckoutError, match="an empty path: there is no such folder"):
        read_checkout("")
    with pytest.raises(CheckoutError, match="vae.py: there is no such folder"):
        read_checkout(root / "vae.py")


def test_links_inside_are_not_followed(make_tree):
    root = make_tree({"model/vae.py": b"x = 1\n"})
    (root / "alias.py").symlink_to("model/vae.py")
    (root / "model" / "up").symlink_to(root)
    (root / "loop").symlink_to("loop")
    (root.parent / "link").symlink_to(root)
    assert set(read_checkout(root).sources) == {"model/vae.py"}
    assert read_checkout(root.parent / "link").root == root.resolve()


def test_links_out_of_the_tree_are_named_and_not_followed(make_tree):
    elsewhere = make_tree({"pkg/sub/vae.py": b"x = 1\n", "images/a.png": b""}, name="elsewhere")
    root = make_tree({"train.py": b"x = 1\n"})
    (root / ".tools").symlink_to(elsewhere / "pkg")
    (root / "gone.py").symlink_to("nowhere.py")
    (root / "vae.py").symlink_to(elsewhere / "pkg/sub/vae.py")
    (root / "pkg").symlink_to(elsewhere / "pkg")
    checkout = read_checkout(root)
    assert set(checkout.sources) == {"train.py"}
    assert checkout.notes == [f"{name}: not read, it is a link that leads out of the checkout" for name in ("pkg", "vae.py")]


def test_a_pipe_is_not_read(make_tree):
    root = make_tree({"train.py": b"x = 1\n"})
    os.mkfifo(root / "pipe.py")
    assert set(read_checkout(root).sources) == {"train.py"}


def test_a_file_that_cannot_be_read(make_tree, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    root = make_tree({"vae.py": b"x = 1\n"})
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(CheckoutError, match="^vae.py: cannot be read: Permission denied"):
        read_checkout(root)


def test_a_part_that_was_patched_on_its_own_and_a_part_of_a_patched_tree(make_tree):
    root = make_tree({"train.py": b"x = 1\n", "model/vae.py": b"x = 1\n"})
    (root / "model/.stable_params_patch").mkdir()
    with pytest.raises(CheckoutError, match="model has been patched on its own"):
        read_checkout(root)
    (root / "model/.stable_params_patch").rename(root / ".stable_params_patch")
    assert set(read_checkout(root).sources) == {"train.py", "model/vae.py"}
    with pytest.raises(CheckoutError, match="patched as a whole"):
        read_checkout(root / "model")
