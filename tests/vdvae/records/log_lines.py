"""Lines of logs and events as runs write them."""

from vdvae.records.run_counts import TOTAL_KEYS

OWN_HPARAMS = {"seed": 3, "sigma_param": "explin", "posterior_sigma_param": None, "prior_sigma_param": None,
               "prior_const1": False, "dataset": "cifar10"}


def hparam_lines(hparams):
    return [{"time": "t", "type": "hparam", "key": key, "value": value} for key, value in hparams.items()]


def train_line(step, totals=None, elbo=2.5, **window):
    line = {"time": "t", "type": "train_loss", "model": "test", "lr": 1e-4, "epoch": 1, "step": step, "elbo": elbo,
            "elbo_filtered": 2.5, "distortion": 2.0, "rate": 0.5, "grad_norm": 10.0, "distortion_nans": 0,
            "rate_nans": 0, "skipped_updates": 0, "iter_time": 0.1}
    if totals is not None:
        line |= {key: totals.get(name, 0) for name, key in TOTAL_KEYS.items()}
    return line | window


def high_grad_line(step, total):
    return train_line(step, {"skipped_updates": total, "high_grad": total})


def loss_line(kind, step, elbo):
    return {"time": "t", "type": kind, "epoch": 1, "step": step, "n_batches": 2, "elbo": elbo, "filtered_elbo": 2.4}


def event(step, reason, rank=0):
    return {"time": "t", "step": step, "epoch": 1, "rank": rank, "reason": reason, "skipped": True, "origin": "encoder"}


def own(*lines, **hparams):
    return [*hparam_lines(OWN_HPARAMS | hparams), *lines]
