"""Runs the model and the training loop of a checkout of openai/vdvae, for patched_checkout.py and train_step.py.

    python benchmarks/cost/original_code.py CHECKOUT figures|loop ARGUMENT ...

Prints one JSON object. Stand-ins replace apex (by PyTorch's AdamW) and torchvision (by empty modules). Without a GPU, calls
of CUDA leave tensors and modules on the CPU.
"""

import argparse
import hashlib
import json
import math
import sys
import types
import zlib
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "tests/golden/upstream_parity.json").read_text())


def install_stand_ins(device: str = "cpu") -> None:
    """Lets the original run without apex and torchvision, with one rank, and on a CPU without CUDA."""
    for name in ("apex", "apex.optimizers", "torchvision", "torchvision.datasets", "torchvision.transforms"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["apex.optimizers"].FusedAdam = torch.optim.AdamW
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.modules["torchvision.datasets"].ImageFolder = object
    if device == "cpu":
        Tensor.cuda = nn.Module.cuda = lambda self, *_: self


def hyperparams(flags: list[str], image_size: int, save_dir: str = "."):
    """The checkout's hyper-parameters: its cifar10 set, changed by these flags."""
    hps = import_module("hps")
    values = hps.Hyperparams()
    parser = hps.add_vae_arguments(argparse.ArgumentParser())
    hps.parse_args_and_update_hparams(values, parser, ["--hps", "cifar10", *flags])
    values.update(image_size=image_size, image_channels=3, rank=0, mpi_size=1, local_rank=0, save_dir=save_dir)
    return values


def generated_weight(name: str, shape: torch.Size) -> Tensor:
    """The weights that tests/golden/README.md describes."""
    a = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(tuple(shape))
    fan = int(np.prod(shape[1:])) if len(shape) == 4 and shape[0] != 1 else 1
    a = a / math.sqrt(fan) if fan > 1 else a * 0.1
    return torch.from_numpy((a + 1 if name.endswith("gain") else a).astype(np.float32))


def made(values) -> nn.Module:
    """The checkout's VAE with generated weights."""
    model = import_module("vae").VAE(values)
    model.load_state_dict({name: generated_weight(name, value.shape) for name, value in model.state_dict().items()})
    return model


def batch(config: dict) -> tuple[Tensor, Tensor]:
    """Input and target of a golden case."""
    size, generator = config["image_size"], np.random.Generator(np.random.PCG64(7))
    images = torch.from_numpy(generator.integers(0, 256, (config["n"], size, size, 3)).astype(np.uint8)).float()
    target = torch.floor(images / 8) * 8 if config["low_bit"] else images
    return (images + config["shift"]) * config["scale"], (target - 127.5) / 127.5


def digest(tensors: list[Tensor]) -> str:
    """SHA-256 of all bits."""
    return hashlib.sha256(b"".join(t.detach().contiguous().numpy().tobytes() for t in tensors)).hexdigest()


def figures(case: str, flags: list[str]) -> dict:
    """Loss, gradients, samples and three updates of a golden case, as numbers and as digests of their bits."""
    config = GOLDEN[case]["config"]
    dataset = ["--dataset", "ffhq_256"] if config["low_bit"] else []
    values = hyperparams([*config["flags"], *dataset, *flags], config["image_size"])
    model, pair = made(values), batch(config)
    torch.manual_seed(1234)
    stats = model.forward(*pair)
    stats["elbo"].backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    result = {"elbo": stats["elbo"].item(), "grad_norms": norms}
    result["bits of loss and gradients"] = digest([stats["elbo"], *(p.grad for p in model.parameters())])
    torch.manual_seed(99)
    with torch.no_grad():
        result["bits of samples"] = digest([model.decoder.forward_uncond(2, t=0.7)])
    return result | updates(case, values, pair)


def updates(case: str, values, pair: tuple[Tensor, Tensor]) -> dict:
    """Three updates by the checkout's own training_step."""
    train = import_module("train")
    recipe = GOLDEN[case]["results"]["vanilla"]["train3"]
    model, average = made(values), made(values)
    values.update(ema_rate=torch.as_tensor(recipe["ema_rate"]), skip_threshold=-1.0, grad_clip=200.0)
    optimizer = torch.optim.AdamW(model.parameters(), recipe["lr"], tuple(recipe["betas"]), weight_decay=recipe["wd"])
    torch.manual_seed(5)
    losses = [train.training_step(values, *pair, model, average, optimizer, i)["elbo"] for i in range(3)]
    weights = [*model.parameters(), *average.parameters()]
    return {"three losses": losses, "bits of three updates": digest(weights)}


def loop(save_dir: str, flags: list[str]) -> dict:
    """Twelve updates of the checkout's train_loop on noise: a NaN in the fourth's input, the eighth too steep."""
    train = import_module("train")
    config = GOLDEN["plain8"]["config"]
    values = hyperparams([*config["flags"], "--n_batch", "2", "--iters_per_print", "4", "--num_epochs", "1", *flags],
                         config["image_size"], save_dir)  # fmt: skip
    values.update(iters_per_images=10**9, num_images_visualize=2, num_variables_visualize=0, skip_threshold=100.0)
    data = TensorDataset(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)))
    seen = []

    def preprocess(x: list[Tensor]) -> tuple[Tensor, Tensor]:
        seen.append(1)
        inputs, target = (x[0].float() - 120) / 64, x[0].float() / 127.5 - 1
        # The first call is for the pictures.
        return inputs * {5: math.nan, 9: 10.0}.get(len(seen), 1.0), target

    log = import_module("utils").logger(f"{save_dir}/log")
    for key in sorted(values):
        log(type="hparam", key=key, value=values[key])
    train.write_images = train.evaluate = lambda *_: {"elbo": 0.0}
    train.train_loop(values, data, data, preprocess, made(values), made(values), log)
    return {"save_dir": save_dir}


def main() -> None:
    """Runs `figures` or `loop` and prints the result."""
    checkout, what, argument, *flags = sys.argv[1:]
    sys.path[0] = checkout
    install_stand_ins()
    torch.set_num_threads(1)
    print(json.dumps(figures(argument, flags) if what == "figures" else loop(argument, flags)))


if __name__ == "__main__":
    main()
