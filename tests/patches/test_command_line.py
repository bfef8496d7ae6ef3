"""python -m patches: what it prints, its exit status, and that what it refuses is left as it was."""

import ast
import subprocess

import pytest

from patches.__main__ import main
from patches.problems import CannotPatch, Problem

CODE = b'\xef\xbb\xbf"""A model."""\r\nkl = 1  # keep\r\n'
FILES = {"vae.py": CODE, "model/hps.py": b"# coding: latin-1\nn = '\xfc'\nkl = 2", "other.py": b"x = 1\n"}
AFTER = FILES | {path: FILES[path].replace(b"kl", b"stable_kl") for path in ("vae.py", "model/hps.py")}
GLUE = {"model/stable_scales.py", "model/update_log.py"}


def rename(sources):
    return [source.replace(node, "stable_kl") for source in sources.values() for node in source.nodes
            if isinstance(node, ast.Name) and node.id == "kl"]  # fmt: skip


def cannot(sources):
    raise CannotPatch(Problem("vae.py", 2, "this KL differs", "kl = 1", "replace it"))


def nowhere(sources):
    raise CannotPatch(Problem("vae.py", 0, "no parser", "", "add the flags"))


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    """Set the rewrites, and the folder of the glue or the function that finds it; at first `rename` and "model"."""

    def use(*rewrites, glue_folder=lambda sources: "model"):
        monkeypatch.setattr("patches.plan.REWRITES", {rewrite.__name__: rewrite for rewrite in rewrites})
        monkeypatch.setattr("patches.rewrites.flags.glue_folder", glue_folder)

    use(rename)
    return use


@pytest.fixture()
def fork(make_tree):
    return make_tree(FILES)


@pytest.fixture()
def call(fork, capfdbinary):
    """Run a command on the fork: exit status, standard output, standard error."""

    def run(command, *flags, path=fork):
        status = main([command, str(path), *flags])
        captured = capfdbinary.readouterr()
        return status, captured.out.decode("latin-1"), captured.err.decode()

    return run


def git(folder, *arguments, **options):
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "core.autocrlf=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, check=True, **options)


def commit(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "m")


def test_check_says_what_would_change_and_changes_nothing(fork, call, snapshot):
    before = snapshot(fork)
    status, out, err = call("--check")
    assert (status, err) == (1, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "would change vae.py", "would change model/hps.py", "would create model/stable_scales.py",
        "would create model/update_log.py"]  # fmt: skip
    assert snapshot(fork) == before


def test_write_changes_only_what_it_says(fork, call):
    status, out, err = call("--write")
    assert status == 0 and f"python -m patches --revert {fork}" in out and "installed" not in err
    assert {path: (fork / path).read_bytes() for path in FILES} == AFTER
    assert {path.relative_to(fork).as_posix() for path in fork.rglob("*.py")} - set(FILES) == GLUE | {
        ".stable_params_patch/originals/vae.py", ".stable_params_patch/originals/model/hps.py"}  # fmt: skip


def test_twice_is_once(fork, call, snapshot):
    call("--write")
    before = snapshot(fork)
    assert call("--write") == (0, "already patched, nothing to do\n", "")
    assert call("--check") == (0, "already patched, nothing to do\n", "")
    assert call("--diff") == (0, "", "already patched, nothing to do\n")
    assert snapshot(fork) == before


@pytest.mark.parametrize("flags", [(), ("--vendor",)])
def test_revert_gives_back_the_tree(fork, call, snapshot, flags):
    (fork / "vae.py").chmod(0o640)
    before = snapshot(fork)
    call("--write", *flags)
    assert (fork / "model/stable_params/__init__.py").exists() == bool(flags)
    status, out, _ = call("--revert")
    assert status == 0 and "restored vae.py" in out and "removed model/update_log.py" in out
    assert snapshot(fork) == before
    assert call("--revert")[0] == 2


@pytest.mark.parametrize("flags", [(), ("--vendor",)])
def test_the_diff_applied_is_what_write_writes(fork, call, make_tree, snapshot, flags):
    before = snapshot(fork)
    status = main(["--diff", str(fork), *flags])
    assert (status, snapshot(fork)) == (0, before)
    twin = make_tree(FILES, name="twin")
    git(twin, "apply", "-", input=_diff_bytes(fork, call, flags))
    call("--write", *flags)
    written = {path: data for path, (_, data) in snapshot(fork).items() if not path.startswith(".stable_params_patch")}
    assert {path: data for path, (_, data) in snapshot(twin).items()} == written


def _diff_bytes(fork, call, flags):
    call("--check")  # empties what was captured
    return call("--diff", *flags)[1].encode("latin-1")


def test_problems_of_all_rewrites_are_shown_and_nothing_is_written(fork, call, plugin, snapshot):
    before = snapshot(fork)
    plugin(cannot, rename, nowhere, glue_folder=nowhere)
    for command in ("--check", "--diff", "--write"):
        status, out, err = call(command)
        assert status == 2
        assert err == ("cannot: vae.py:2: this KL differs\n    | kl = 1\n    by hand: replace it\n"
                       "cannot: vae.py: no parser\n    by hand: add the flags\n")
        assert out == ""
    assert snapshot(fork) == before


def test_nothing_to_do(call, fork, plugin, snapshot):
    before = snapshot(fork)
    plugin(lambda sources: [], glue_folder=nowhere)
    assert call("--check") == call("--write") == (0, "nothing to do\n", "")
    assert call("--diff") == (0, "", "")
    assert snapshot(fork) == before


@pytest.mark.parametrize("change", ["edit", "new file", "staged"])
def test_uncommitted_changes_are_refused(fork, call, snapshot, change):
    commit(fork)
    path = fork / ("other.py" if change != "new file" else "new.py")
    path.write_bytes(b"x = 2\n")
    if change == "staged":
        git(fork, "add", "-A")
    before = snapshot(fork)
    status, _, err = call("--write")
    assert status == 2 and "uncommitted changes" in err and path.name in err and "--force" in err
    assert snapshot(fork) == before
    assert call("--check")[0] == 1
    assert call("--write", "--force")[0] == 0


def test_a_clean_tree_is_written_and_its_record_is_not_seen_by_git(fork, call):
    commit(fork)
    assert call("--write")[0] == 0
    seen = git(fork, "status", "--porcelain", "-uall", text=True).stdout
    assert {line[3:] for line in seen.splitlines()} == {"vae.py", "model/hps.py"} | GLUE
    assert call("--revert")[0] == 0
    assert git(fork, "status", "--porcelain").stdout == b""


def test_changes_elsewhere_in_the_repository_do_not_matter(fork, call, monkeypatch):
    commit(fork.parent)
    (fork.parent / "notes.txt").write_bytes(b"")
    monkeypatch.setenv("GIT_DIR", str(fork / "nowhere"))
    assert call("--write")[0] == 0


def test_where_git_status_fails_nothing_is_written(fork, call, snapshot):
    (fork / ".git").mkdir()
    before = snapshot(fork)
    status, _, err = call("--write")
    assert status == 2 and "git status fails" in err and snapshot(fork) == before
    assert call("--write", "--force")[0] == 0


def test_without_git_nothing_is_written(fork, call, monkeypatch):
    commit(fork)
    monkeypatch.setenv("PATH", "")
    status, _, err = call("--write")
    assert status == 2 and "git does not start" in err


@pytest.mark.parametrize("command", ["--check", "--write"])
def test_a_read_only_file(fork, call, snapshot, command):
    (fork / "vae.py").chmod(0o444)
    before = snapshot(fork)
    status, _, err = call(command)
    assert status == 2 and "no permission to write" in err and "vae.py" in err
    assert snapshot(fork) == before


@pytest.mark.parametrize("command", ["--check", "--diff", "--write"])
def test_a_file_in_the_way_of_the_glue(fork, call, snapshot, command):
    (fork / "model/stable_scales.py").write_bytes(b"mine = 1\n")
    before = snapshot(fork)
    status, out, err = call(command)
    assert status == 2 and "would overwrite model/stable_scales.py" in err and "@@" not in out
    assert snapshot(fork) == before


@pytest.mark.parametrize("command", ["--check", "--diff", "--write"])
def test_files_edited_after_patching_are_named(fork, call, snapshot, command):
    call("--write")
    (fork / "vae.py").write_bytes(b"x = 3\n")
    before = snapshot(fork)
    status, out, err = call(command)
    assert (status, out) == (2, "") and "differ from what was written: vae.py;" in err and "--revert" in err
    assert call("--revert")[0] == 2
    assert snapshot(fork) == before
    assert call("--revert", "--force")[0] == 0 and (fork / "vae.py").read_bytes() == FILES["vae.py"]


def test_vendor_comes_too_late(fork, call):
    call("--write")
    assert "--revert, then --write --vendor" in call("--write", "--vendor")[2]


def test_a_tree_without_its_record_looks_patched_by_hand(fork, call):
    call("--write")
    for path in sorted((fork / ".stable_params_patch").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (fork / ".stable_params_patch").rmdir()
    status, _, err = call("--check")
    assert status == 2 and "model/stable_scales.py:" in err and "looks patched by hand" in err


BAD = {
    "no Python": ({"README.md": b"x"}, "not a Python tree"),
    "syntax error": ({"vae.py": b"x = = 1\n"}, "vae.py:1: syntax error"),
    "Python 2": ({"vae.py": b"print 'x'\n"}, "vae.py:1: syntax error"),
    "by hand": ({"vae.py": b"import stable_params\n"}, "vae.py:1: this looks patched by hand"),
}


@pytest.mark.parametrize("command", ["--check", "--diff", "--write"])
@pytest.mark.parametrize("files, said", BAD.values(), ids=BAD)
def test_bad_input(make_tree, call, snapshot, command, files, said):
    root = make_tree(files, name="bad")
    before = snapshot(root)
    status, out, err = call(command, path=root)
    assert (status, out) == (2, "") and err.startswith("cannot: ") and said in err
    assert snapshot(root) == before


def test_started_as_a_user_does(run_python, make_tree):
    started = run_python("-m", "patches", "--write", make_tree({"vae.py": b"print 'x'\n"}))
    assert (started.returncode, started.stdout) == (2, "")
    assert "only Python 3 is read" in started.stderr and "Traceback" not in started.stderr
