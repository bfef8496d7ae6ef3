"""The scales' flags in the code that defines the training arguments, imported the way the checkout imports."""

import pytest

from patches.problems import CannotPatch
from patches.rewrites import flags
from tests.patches import edits

FUNCTION = """\
import argparse

DEFAULTS = {}


def add_arguments(parser):
    # latents
    parser.add_argument('--zdim', type=int, default=16)  # channels

    parser.add_argument(
        "--skip_threshold", type=float,
        default=400.0)
    return parser
"""
USER = "from hps import add_arguments\n"


def parse(**files):
    """Sources from file names without their ending."""
    return edits.parse({f"{name}.py": code for name, code in files.items()})


def rewritten(sources):
    return edits.edited(sources, flags.rewrite(sources))


def added(sources, path="hps.py"):
    """What the rewrite adds to the one module that it changes, as (line number, line)."""
    changed = rewritten(sources)
    assert list(changed) == [path]
    before, after = sources[path].text.splitlines(), changed[path].splitlines()
    new = [(number, line) for number, line in enumerate(after, 1) if "scale" in line and line not in before]
    assert [line for line in after if "add_scale" not in line] == before
    return new


def test_upstream_layout():
    sources = parse(hps=FUNCTION, train=USER)
    assert added(sources) == [
        (2, "from stable_scales import add_scale_arguments"), (14, "    add_scale_arguments(parser)"),
    ]  # fmt: skip


def test_line_ends_and_characters_survive():
    code = ("# naïve\r\n" + FUNCTION.replace("\n", "\r\n")).encode()
    changed = rewritten(edits.parse({"hps.py": code}))["hps.py"].encode()
    assert changed.count(b"\n") == changed.count(b"\r\n") == code.count(b"\r\n") + 2
    assert changed.startswith("# naïve\r\n".encode())
    assert b"\r\n    add_scale_arguments(parser)\r\n    return" in changed


PARSERS = [
    ("def f(p: ArgumentParser) -> None:\n  p.add_argument('--zdim')\n  p.add_argument('--grad_clip')\n",
     "  add_scale_arguments(p)", 5),
    ("def f():\n\tap = ArgumentParser()\n\tap.add_argument('-z', '--zdim')\n"
     "\tap.add_argument('--grad_clip')\n\treturn ap.parse_args()\n",
     "\tadd_scale_arguments(ap)", 6),
    ("class Options:\n    def build(self):\n        self.p.add_argument('--zdim')\n"
     "        self.p.add_argument('--grad_clip')\n",
     "        add_scale_arguments(self.p)", 6),
    ("p = ArgumentParser()\np.add_argument('--grad_clip')\np.add_argument('--zdim')\nargs = p.parse_args()\n",
     "add_scale_arguments(p)", 5),
    ("if __name__ == '__main__':\n    p = ArgumentParser()\n    p.add_argument('--zdim')\n"
     "    p.add_argument('--grad_clip')\n    args = p.parse_args()\n",
     "    add_scale_arguments(p)", 6),
    ("def f(p):\n    p.add_argument('--zdim')\n    for flag in FLAGS:\n        p.add_argument(flag)\n"
     "    if EXTRA:\n        p.add_argument('--grad_clip')\n    p.parse_args()\n",
     "    add_scale_arguments(p)", 8),
    ("def f(p):\n    g = p.add_argument_group('model')\n    g.add_argument('--zdim')\n"
     "    p.add_argument('--skip_threshold')\n",
     "    add_scale_arguments(g)", 6),
]  # fmt: skip


@pytest.mark.parametrize(("code", "line", "number"), PARSERS)
def test_parsers_of_other_names_and_places(code, line, number):
    imported, call = added(parse(hps=code))
    assert imported == (1, "from stable_scales import add_scale_arguments")
    assert call == (number, line)


def test_import_stays_above_a_module_level_parser():
    code = ("import argparse\np = argparse.ArgumentParser()\np.add_argument('--zdim')\np.add_argument('--grad_clip')\n"
            "import late\n")
    assert added(parse(hps=code)) == [
        (2, "from stable_scales import add_scale_arguments"), (6, "add_scale_arguments(p)"),
    ]  # fmt: skip


def test_two_parsers_in_one_folder_both_get_the_flags():
    sources = parse(hps=FUNCTION, hps_large=FUNCTION.replace("parser", "p"))
    changed = rewritten(sources)
    assert "    add_scale_arguments(p)\n" in changed["hps_large.py"]
    assert "    add_scale_arguments(parser)\n" in changed["hps.py"]


def test_two_parsers_in_one_file_share_the_import():
    second = FUNCTION[FUNCTION.index("def"):].replace("parser", "p").replace("add_arguments", "add_more")
    code = rewritten(parse(hps=f"{FUNCTION}\n\n{second}"))["hps.py"]
    assert code.count("import add_scale_arguments") == 1
    assert "    add_scale_arguments(p)\n" in code and "    add_scale_arguments(parser)\n" in code


REFUSED = [
    ({"hps": "from dataclasses import dataclass\n\n\n@dataclass\nclass H:\n    zdim: int = 16\n"},
     "hps.py:6: a hyper-parameter, but"),
    ({"hps": "H = dict(width=3, zdim=16)\nH.zdim = 2\n"}, "hps.py:2: a hyper-parameter, but"),
    ({"hps": "H = {'grad_clip': 200.0}\n"}, "hps.py:1: a hyper-parameter, but"),
    ({"hps": "def f(p):\n    p.add_argument('--zdim')\n"}, "hps.py:2: a hyper-parameter, but"),
    ({"hps": "def f(p):\n    p.add_argument('--zdim')\ndef g(p):\n    p.add_argument('--grad_clip')\n"},
     "hps.py:2: a hyper"),
    ({"vae": "self.zdim = H.zdim\n"}, ".: no argparse parser has --zdim and --grad_clip or --skip_threshold"),
    ({"a/hps": FUNCTION, "b/hps": FUNCTION}, "a/hps.py:10: this parser has the training arguments, and so has one in another"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_other_hyperparameters_are_refused_with_what_to_do_by_hand(files, message):
    with pytest.raises(CannotPatch) as refusal:
        flags.rewrite(parse(**files))
    assert str(refusal.value).startswith(message)
    assert "add_scale_arguments" in str(refusal.value) and "by hand: " in str(refusal.value)


LAYOUTS = [  # files, the one that imports, the glue's folder, the module that it has to import from
    ({"hps": FUNCTION, "vae": "from vae_helpers import kl\n", "vae_helpers": ""}, "vae.py", "", "stable_scales"),
    ({"hps": FUNCTION}, "hps.py", "", "stable_scales"),
    ({"src/hps": FUNCTION, "src/vae": "import hps\n"}, "src/vae.py", "src", "stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "from .hps import H\n"}, "pkg/vae.py", "pkg", ".stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "from .hps import H\n"}, "pkg/hps.py", "pkg", ".stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "from . import hps\n"}, "pkg/vae.py", "pkg", ".stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/model/vae": "from ..hps import H\n"}, "pkg/model/vae.py", "pkg", "..stable_scales"),
    ({"pkg/conf/hps": FUNCTION, "pkg/vae": "from .conf.hps import H\n"}, "pkg/vae.py", "pkg/conf",
     ".conf.stable_scales"),
    ({"pkg/__init__": "", "pkg/hps": FUNCTION, "pkg/model/vae": "from .h import H\n", "pkg/model/h": ""},
     "pkg/model/vae.py", "pkg", "..stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "from pkg.hps import H\n"}, "pkg/vae.py", "pkg", "pkg.stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "from pkg.hps import H\n"}, "pkg/hps.py", "pkg", "pkg.stable_scales"),
    ({"pkg/hps": FUNCTION, "train": "from pkg.hps import H\n"}, "train.py", "pkg", "pkg.stable_scales"),
    ({"pkg/hps": FUNCTION, "train": "import pkg.hps as hps\n"}, "train.py", "pkg", "pkg.stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "", "train": "from pkg import vae\n"}, "pkg/vae.py", "pkg", "pkg.stable_scales"),
    ({"pkg/hps": FUNCTION, "pkg/vae": "x = 1\n", "train": "from pkg.hps import H\n"}, "pkg/vae.py", "pkg",
     "pkg.stable_scales"),
    ({"hps": FUNCTION, "train": "from hps import H\n", "model/vae": "from .helpers import kl\nfrom hps import H\n",
      "model/helpers": ""}, "model/vae.py", "", "stable_scales"),
    ({"hps": FUNCTION, "vae": "import logging\nfrom hps import H\n", "utils/logging": ""}, "vae.py", "",
     "stable_scales"),
    ({"hps": FUNCTION, "vae": "from torch.utils.data import DataLoader\n", "data": ""}, "vae.py", "", "stable_scales"),
    ({"utils/hps": FUNCTION, "utils/vae": "import logging\n", "utils/logging": "",
      "train": "from utils.vae import VAE\n"}, "utils/vae.py", "utils", "utils.stable_scales"),
    ({"utils/hps": FUNCTION, "utils/vae": "from torch.utils.data import DataLoader\n", "utils/data": "",
      "train": "from utils.vae import VAE\n"}, "utils/vae.py", "utils", "utils.stable_scales"),
    ({"conf/hps": FUNCTION, "model/vae": "import helpers\n", "model/helpers": "",
      "train": "from model.vae import VAE\n"}, "model/vae.py", "conf", "conf.stable_scales"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "path", "folder", "module"), LAYOUTS)
def test_imports_have_the_form_of_the_checkout(files, path, folder, module):
    sources = parse(**files)
    assert flags.glue_folder(sources) == folder
    assert flags.glue_import(sources, path, "Scales", "stable_scales") == f"from {module} import Scales"


UNCLEAR = [
    ({"conf/hps": FUNCTION, "vae": "import torch\n"}, "vae.py", "no import in the checkout shows how"),
    ({"pkg/hps": FUNCTION, "train": "from pkg.hps import H\n", "pkg/vae": "from hps import H\n"}, "pkg/hps.py",
     "several ways"),
    ({"my-code/hps": FUNCTION, "train": "import x\n", "x": ""}, "train.py", "no import in the checkout shows how"),
]


@pytest.mark.parametrize(("files", "path", "message"), UNCLEAR)
def test_an_unclear_form_of_import_is_refused(files, path, message):
    with pytest.raises(CannotPatch, match=message) as refusal:
        flags.glue_import(parse(**files), path, "UpdateLog", "update_log")
    assert "import UpdateLog from" in str(refusal.value)
