"""A diff is one that git apply and patch take, whatever the line ends and names."""

import subprocess

import pytest
from patches.tree.changes import Change, unified_diff

LINES = b"".join(b"line %d\n" % number for number in range(30))
CASES = {
    "a line in the middle": ("a.py", LINES, LINES.replace(b"line 15\n", b"")),
    "Windows line ends": ("a.py", b"x\r\ny\r\nz\r\n", b"x\r\nnew\r\nz\r\n"),
    "mixed line ends": ("a.py", b"x\r\ny\nz\r\n", b"x\r\ny\nq\nz\r\n"),
    "no newline before": ("a.py", b"x\ny", b"x\ny\nz\n"),
    "no newline after": ("a.py", b"x\ny\n", b"x\nz"),
    "no newline in both": ("a.py", b"x\ny", b"z\ny"),
    "form feed and carriage return": ("a.py", b"x\n\x0cy\rz\n", b"w\n\x0cy\rz\n"),
    "not UTF-8": ("a.py", b"# \xfc\nx\n", b"# \xfc\ny\n"),
    "byte order mark": ("a.py", b"\xef\xbb\xbfx\n", b"\xef\xbb\xbfy\n"),
    "new file": ("b/c.py", None, b"x\ny\n"),
    "new file without newline": ("b/c.py", None, b"x"),
    "name with a space": ("a b/c d.py", b"x\n", b"y\n"),
    "name with accents": ("é/ü.py", b"x\n", b"y\n"),
    "new file with a space": ("a b/c.py", None, b"x\n"),
}  # fmt: skip
TOOLS = {"git": ["git", "apply", "-"], "patch": ["patch", "-p1", "--binary"]}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("path, before, after", CASES.values(), ids=CASES)
def test_applied_it_gives_the_change(tmp_path, tool, path, before, after):
    if before is not None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(before)
    diff = unified_diff([Change(path, before, after, "")])
    done = subprocess.run(TOOLS[tool], cwd=tmp_path, input=diff, capture_output=True)
    assert done.returncode == 0, (done.stderr, diff)
    assert (tmp_path / path).read_bytes() == after


def test_several_files_in_order():
    diff = unified_diff([Change("a.py", b"x\n", b"y\n", ""), Change("b.py", None, b"z\n", "")])
    assert diff == (b"diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y\n"
                    b"diff --git a/b.py b/b.py\nnew file mode 100644\n--- /dev/null\n+++ b/b.py\n@@ -0,0 +1 @@\n+z\n")
    assert unified_diff([]) == b""
