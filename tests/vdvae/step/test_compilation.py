"""Compiled parts compute what the plain ones do, for the same noise, and are made once for each shape."""

from types import SimpleNamespace

import pytest
import torch

from vdvae.model.vae import VAE
from vdvae.ranks.distributed import World
from vdvae.step.acceleration import SHAPES, _allow_shapes, compile_parts, memory_format
from vdvae.step.optimizer import make_optimizer
from vdvae.step.train_step import TrainStep, average_of


@pytest.fixture(autouse=True)
def settings_of_the_compiler():
    """compile_parts sets the limit of shapes for the process; it comes back."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(recompile_limit=8):
        yield


def test_compiled_updates_are_the_plain_ones_to_rounding(small_hparams, small_batch):
    """Compiled once, in bf16, which has all that float32 has, and autocast and channels last too."""
    hparams = small_hparams("--sigma_param", "explin", "--dec_blocks", "8x3", "--enc_blocks", "8x2",
                            "--no_bias_above", 0, "--precision", "bf16")
    input = small_batch.input.contiguous(memory_format=memory_format(hparams))
    figures, names = [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        vae = VAE(hparams)
        average = average_of(vae)
        if compiled:
            torch._dynamo.utils.counters.clear()
            compile_parts(vae)
        step = TrainStep(vae, average, make_optimizer(hparams, vae.parameters()), hparams, World())
        torch.manual_seed(1)
        results = [step(input, small_batch.target, 1e-3) for _ in range(3)]
        figures.append(torch.stack([torch.cat([result.losses[0], result.grad_norm[None]]) for result in results]))
        names.append(list(vae.state_dict()))
    for columns, tolerance in ((slice(3), 2**-9), (slice(3, 4), 2**-6)):
        torch.testing.assert_close(figures[1][:, columns], figures[0][:, columns], rtol=tolerance, atol=0)
    assert names[0] == names[1]
    # Six parts, four graphs: encoder block, decoder block on an initial state and on a later one, likelihood.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4


@pytest.mark.parametrize("flags", [("--likelihood", "normal"), ("--likelihood", "bernoulli"), ("--bits", 16)])
def test_other_likelihoods_are_one_graph_with_the_noise_of_the_plain_one(small_hparams, flags):
    """Traced whole and run as PyTorch's own kernels, which takes a second where compiling takes a minute."""
    torch.manual_seed(0)
    vae = VAE(small_hparams("--dataset", "folder", *flags))
    state, target, nlls = torch.randn(2, 16, 8, 8), torch.zeros(2, 8, 8, 3), []
    plain = vae.decoder.out_net.nll
    for nll in (plain, torch.compile(plain, fullgraph=True, dynamic=False, backend="aot_eager")):
        torch.manual_seed(1)
        nlls.append(nll(state, target))
    assert torch.equal(*nlls)


@pytest.mark.parametrize("name", ["recompile_limit", "cache_size_limit"])
def test_the_limit_of_shapes_is_set_under_either_name(name):
    config = SimpleNamespace(**{name: 8})
    _allow_shapes(config)
    assert vars(config) == {name: SHAPES}


PROGRAM = """
import torch
from vdvae.step.acceleration import keep_compiled_code_apart
keep_compiled_code_apart()
print(torch._inductor.runtime.cache_dir_utils.cache_dir())
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="needs two instruction sets")
def test_code_compiled_for_one_instruction_set_is_not_taken_for_another(monkeypatch, run_python, tmp_path):
    """PyTorch looks for compiled code in one folder; code of two instruction sets must not meet there."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    (tmp_path / "program.py").write_text(PROGRAM)
    folders = set()
    for capability in ("default", "avx2"):
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        folders.add(run_python(tmp_path / "program.py").stdout.strip())
    assert len(folders) == 2 and "" not in folders
