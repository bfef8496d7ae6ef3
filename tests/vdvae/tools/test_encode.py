"""Images to latents and back: what encode and decode give, the files of the command line, what it refuses."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from vdvae.data.image_file import read_image
from vdvae.data.preprocess import Preprocess
from vdvae.ranks.distributed import World
from vdvae.ranks.randomness import own_noise
from vdvae.saving.loaded_run import WEIGHTS
from vdvae.tools import encode

NAMES = ["a.png", "deep/er/b.JPG", "deep/f.png", "ähre.jpeg"]
SHAPES = [(4, 1, 1), (4, 4, 4), (4, 4, 4), (4, 8, 8), (4, 8, 8)]


@pytest.fixture()
def pictures(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(path, generator.integers(0, 256, (9 + index, 12, 3), dtype=np.uint8))
    (tmp_path / "pictures" / "notes.txt").write_text("no image")
    return tmp_path / "pictures"


def main(*arguments) -> int:
    return encode.main([*map(str, arguments), "--device", "cpu"])


def test_decode_takes_latents_or_z_and_agrees_with_sample(vae, small_batch):
    torch.manual_seed(1)
    latents = vae.encode(small_batch.input)

    def drawn(make):
        torch.manual_seed(2)
        return make()

    whole = drawn(lambda: vae.decode(latents))
    assert whole.shape == (4, 8, 8, 3) and whole.dtype == torch.uint8
    z = [latent.z for latent in latents]
    assert torch.equal(drawn(lambda: vae.decode(z)), whole)
    assert torch.equal(drawn(lambda: vae.decode(z, 0.3)), whole)  # nothing is drawn from a prior
    assert torch.equal(drawn(lambda: vae.decode(z[:2], 0.3)), drawn(lambda: vae.sample(4, 0.3, z[:2])))
    assert not torch.equal(drawn(lambda: vae.decode(z[:2], 0.3)), drawn(lambda: vae.decode(z[:2], 1.0)))
    assert not torch.equal(drawn(lambda: vae.decode([block.flip(0) for block in z])), whole)


@pytest.mark.parametrize("change, words", [
    (lambda z: [], ["0 blocks", "1 to 5"]),
    (lambda z: [*z, z[-1]], ["6 blocks", "1 to 5"]),
    (lambda z: [z[1]], ["block 0", "[4, 4, 4, 4]", "[4, 4, 1, 1]"]),
    (lambda z: [z[0], z[1][:3]], ["block 1", "[3, 4, 4, 4]", "[4, 4, 4, 4]"]),
    (lambda z: [torch.tensor(1.0)], ["block 0"]),
])
def test_decode_refuses_latents_that_do_not_fit(vae, small_batch, change, words):
    z = [latent.z for latent in vae.encode(small_batch.input)]
    with pytest.raises(ValueError) as caught:
        vae.decode(change(z))
    assert all(word in str(caught.value) for word in words)


def test_the_file_holds_what_encode_gives(run, pictures, vae, small_hparams, tmp_path, capsys):
    out = tmp_path / "latents.npz"
    assert main(run, pictures, "--out", out, "--seed", 3, "--n_batch", 3) == 0
    assert f"{out}: 4 images, 5 blocks" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"run", "pictures", "latents.npz"}
    with np.load(out) as file:
        arrays = {name: file[name] for name in file.files}
    assert list(arrays.pop("names")) == NAMES
    assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
        "kl": (np.float32, (4, 5)), **{f"z_00{i}": (np.float32, (4, *shape)) for i, shape in enumerate(SHAPES)}}
    images = torch.from_numpy(np.stack([read_image(pictures / name, 8) for name in NAMES]))
    input = Preprocess(small_hparams().dataset_spec)(images).input
    with own_noise(3, World()):
        for part in (slice(0, 3), slice(3, 4)):
            for index, latent in enumerate(vae.encode(input[part])):
                np.testing.assert_array_equal(arrays[f"z_00{index}"][part], latent.z.numpy())
                np.testing.assert_array_equal(arrays["kl"][part, index], latent.kl.sum(dim=(1, 2, 3)).numpy())


def test_the_seed_alone_decides(run, pictures, tmp_path):
    files = [tmp_path / f"{name}.npz" for name in "abc"]
    for file, seed in zip(files, (1, 1, 2)):
        torch.manual_seed(len(file.name) + seed)
        assert main(run, pictures, "--out", file, "--seed", seed) == 0
    a, b, c = (np.load(file)["z_004"] for file in files)
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_and_back(run, pictures, vae, tmp_path, capsys):
    file, out = tmp_path / "latents.npz", tmp_path / "out"
    assert main(run, pictures, "--out", file) == 0
    out.mkdir()
    assert main(run, file, "--decode", out, "--seed", 7, "--n_batch", 3) == 0
    assert f"{out}: 4 images from the latents of 5 of 5 blocks" in capsys.readouterr().out
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert written == ["a.png", "deep/er/b.JPG.png", "deep/f.png", "ähre.jpeg.png"]
    z = [torch.from_numpy(np.load(file)[f"z_00{index}"]) for index in range(5)]
    with own_noise(7, World()):
        expected = torch.cat([vae.decode([block[part] for block in z]) for part in (slice(0, 3), slice(3, 4))])
    for name, image in zip(("a.png", "deep/er/b.JPG.png", "deep/f.png", "ähre.jpeg.png"), expected):
        assert np.array_equal(imageio.imread(out / name), image.numpy())


def test_first_blocks_alone_at_a_temperature(run, pictures, vae, tmp_path):
    """`--blocks 2` is the file without the others, and the temperature is that of the blocks that are drawn."""
    whole, short = tmp_path / "whole.npz", tmp_path / "short.npz"
    main(run, pictures, "--out", whole)
    arrays = dict(np.load(whole))
    np.savez_compressed(short, names=arrays["names"], z_000=arrays["z_000"], z_001=arrays["z_001"])
    assert main(run, whole, "--decode", tmp_path / "x", "--blocks", 2, "--temperature", 0.4) == 0
    assert main(run, short, "--decode", tmp_path / "y", "--temperature", 0.4) == 0
    with own_noise(0, World()):
        expected = vae.decode([torch.from_numpy(arrays[f"z_00{index}"]) for index in (0, 1)], 0.4)
    for folder in ("x", "y"):
        assert np.array_equal(imageio.imread(tmp_path / folder / "a.png"), expected[0].numpy())


@pytest.mark.parametrize("arguments, words", [
    (["{run}", "{pictures}", "--out", "{tmp}/latents"], ["latents must end in .npz"]),
    (["{run}", "{pictures}", "--out", "{tmp}/there.npz"], ["there.npz is there already"]),
    (["{run}", "{pictures}", "--out", "{tmp}/no/latents.npz"], ["there is no folder", "no"]),
    (["{run}", "{tmp}/nothing", "--out", "{tmp}/l.npz"], ["nothing is no folder"]),
    (["{run}", "{run}", "--out", "{tmp}/l.npz"], ["no images below"]),
    (["{tmp}/nowhere", "{pictures}", "--out", "{tmp}/l.npz"], ["RUN", "nowhere is no folder"]),
    (["{pictures}", "{pictures}", "--out", "{tmp}/l.npz"], ["log.jsonl does not exist"]),
    (["{run}", "{tmp}/there.npz", "--decode", "{pictures}"], ["pictures is there already"]),
    (["{run}", "{tmp}/there.npz", "--decode", "{tmp}/new"], ["there.npz", "not a zip"]),
    (["{run}", "{tmp}/none.npz", "--decode", "{tmp}/new"], ["no file", "none.npz"]),
    (["{run}", "{tmp}/there.npz", "--decode", "{tmp}/new", "--blocks", "6"], ["--blocks is 6", "5"]),
])
def test_refusals_write_nothing(run, pictures, tmp_path, capsys, arguments, words):
    (tmp_path / "there.npz").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main(*(text.format(run=run, pictures=pictures, tmp=tmp_path) for text in arguments)) == 2
    message = capsys.readouterr().err
    assert message.startswith("encode: ") and message.count("\n") == 1 and all(word in message for word in words)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "there.npz").read_text() == "mine"


@pytest.mark.parametrize("arguments, words", [
    (["--out", "l.npz", "--temperature", "0.5"], ["--decode"]),
    (["--decode", "o", "--temperature", "0"], ["'0'", "above 0"]),
    (["--decode", "o", "--temperature", "nan"], ["'nan'", "above 0"]),
    (["--decode", "o", "--n_batch", "0"], ["'0'", "at least 1"]),
    (["--decode", "o", "--seed", "-1"], ["'-1'", "at least 0"]),
    ([], ["--out", "--decode"]),
])
def test_flags_are_checked(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        encode.main(["run", "source", *arguments])
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_an_image_or_a_model_that_fails_midway_leaves_nothing(run, pictures, vae, tmp_path, capsys):
    (pictures / "z.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    before = sorted(tmp_path.iterdir())
    assert main(run, pictures, "--out", tmp_path / "l.npz", "--n_batch", 2) == 2
    assert "z.png" in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before
    (pictures / "z.png").unlink()
    vae.decoder.dec_blocks[2].enc.c4.bias.fill_(3e38)  # its draws overflow
    torch.save(vae.state_dict(), run / WEIGHTS)
    assert main(run, pictures, "--out", tmp_path / "l.npz") == 2
    assert "z of block 2 of a.png is not finite" in capsys.readouterr().err and sorted(tmp_path.iterdir()) == before


def test_names_that_cannot_be_files_below_the_folder():
    out = Path("out")
    assert encode.png_paths(["a.PNG", "b/./c.jpg", "d"], out) == [out / "a.PNG", out / "b/c.jpg.png", out / "d.png"]
    for names, words in ((["../a"], "'../a' leads out"), (["x/../../a"], "leads out"), (["/a"], "'/a' leads out"),
                         ([""], "'' leads out"), (["a\0"], "is no path"), (["a/" + "ü" * 130], "is no path"),
                         (["b.png", "b.png/c"], "needs a folder b.png, which is the file of 'b.png'"), (["a", "a.png"], "'a' and 'a.png' would be one file")):
        with pytest.raises(ValueError, match=words):
            encode.png_paths(names, out)


def test_a_disk_without_room_is_said_before_any_work(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5000))
    assert main(run, pictures, "--out", tmp_path / "l.npz") == 2
    assert "GB free" in capsys.readouterr().err and not list(tmp_path.glob("*l.npz*"))


@pytest.mark.parametrize("key, value, words", [
    ("dec_blocks", None, ["run", "dec_blocks is needed"]),
    ("width", "wide", ["run", "does not describe a model"]),
    ("width", 32, ["latest-model-ema.th", "another model"]),
])
def test_a_log_that_does_not_fit_the_weights(run, pictures, tmp_path, capsys, key, value, words):
    with open(run / "log.jsonl", "a") as log:
        log.write(json.dumps({"type": "hparam", "key": key, "value": value}) + "\n")
    assert main(run, pictures, "--out", tmp_path / "l.npz") == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_latents_that_are_not_finite_are_found_before_the_first_image(run, pictures, tmp_path, capsys):
    main(run, pictures, "--out", tmp_path / "l.npz")
    arrays = dict(np.load(tmp_path / "l.npz"))
    arrays["z_003"][3, 0, 0, 0] = np.inf
    np.savez(tmp_path / "m.npz", **arrays)
    assert main(run, tmp_path / "m.npz", "--decode", tmp_path / "out", "--n_batch", 1) == 2
    assert "z of block 3 of ähre.jpeg is not finite" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_several_ranks_are_refused(run, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vdvae.tools.arguments.join_world", lambda device: nullcontext(World(rank=1, size=2)))
    assert main(run, pictures, "--out", tmp_path / "l.npz") == 2
    assert "2 ranks were started" in capsys.readouterr().err and not (tmp_path / "l.npz").exists()


def test_a_disk_that_fills_while_decoding_leaves_no_images(run, pictures, tmp_path, capsys, monkeypatch):
    assert main(run, pictures, "--out", tmp_path / "l.npz") == 0
    written = []

    def full(path, content):
        written.append(path)
        path.touch()
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(run, tmp_path / "l.npz", "--decode", tmp_path / "new/out") == 2
    assert "No space left" in capsys.readouterr().err and not (tmp_path / "new").exists()
