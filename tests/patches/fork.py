"""A small VDVAE in the shape of the original's code, for tests to patch and run: four files as text."""

HPS = '''\
import argparse


class Settings(dict):
    def __getattr__(self, name):
        return self.get(name)

    def __setattr__(self, name, value):
        self[name] = value


def add_arguments(parser):
    parser.add_argument('--zdim', type=int, default=2)
    parser.add_argument('--width', type=int, default=4)
    parser.add_argument('--grad_clip', type=float, default=200.0)
    parser.add_argument('--skip_threshold', type=float, default=400.0)
    parser.add_argument('--n_batch', type=int, default=2)
    parser.add_argument('--num_epochs', type=int, default=1)
    parser.add_argument('--iters_per_print', type=int, default=2)
    parser.add_argument('--save_dir', type=str, default='.')
    return parser


def settings(s=None):
    return Settings(vars(add_arguments(argparse.ArgumentParser()).parse_args(s)))
'''

GAUSSIANS = '''\
import torch


@torch.jit.script
def gaussian_kl(m1, m2, s1, s2):  # analytical
    return s2 - s1 - 0.5 + 0.5 * (torch.exp(s1) ** 2 + (m1 - m2) ** 2) / torch.exp(s2) ** 2


@torch.jit.script
def gaussian_draw(m, s):
    return m + s.exp() * torch.randn_like(m)
'''

MODEL = '''\
import numpy as np
import torch
from torch import nn

from gaussians import gaussian_draw, gaussian_kl


class Latent(nn.Module):
    def __init__(self, H):
        super().__init__()
        self.zdim = H.zdim
        self.enc = nn.Conv2d(2 * H.width, 2 * H.zdim, 1)
        self.prior = nn.Conv2d(H.width, 2 * H.zdim + H.width, 1)
        self.out = nn.Conv2d(H.zdim, H.width, 1)

    def sample(self, x, acts):
        both = torch.cat((acts, x), 1)
        qm, qs = self.enc(both).chunk(2, 1)
        feats = self.prior(x)
        pm, ps, rest = feats[:, :self.zdim], feats[:, self.zdim:2 * self.zdim], feats[:, 2 * self.zdim:]
        z = gaussian_draw(qm, qs)
        kl = gaussian_kl(qm, pm, qs, ps)
        return x + rest + self.out(z), kl

    def sample_free(self, x, t=None):
        feats = self.prior(x)
        pm, ps, rest = feats[:, :self.zdim], feats[:, self.zdim:2 * self.zdim], feats[:, 2 * self.zdim:]
        if t is not None:
            ps = ps + float(np.log(t))  # cooler
        return x + rest + self.out(gaussian_draw(pm, ps))


class Model(nn.Module):
    def __init__(self, H):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, H.width, 4, 4))
        self.embed = nn.Conv2d(3, H.width, 3, padding=1)
        self.blocks = nn.ModuleList([Latent(H), Latent(H)])
        self.head = nn.Conv2d(H.width, 3, 1)

    def forward(self, x, target):
        acts, state, rate = self.embed(x), self.start.repeat(len(x), 1, 1, 1), 0
        for block in self.blocks:
            state, kl = block.sample(state, acts)
            rate = rate + kl.sum(dim=(1, 2, 3)) / 48
        distortion = ((self.head(state) - target) ** 2).mean(dim=(1, 2, 3))
        return dict(elbo=(rate + distortion).mean(), rate=rate.mean(), distortion=distortion.mean())

    def free(self, n, t=None):
        state = self.start.repeat(n, 1, 1, 1)
        for block in self.blocks:
            state = block.sample_free(state, t)
        return self.head(state)
'''

TRAIN = '''\
import json
import os

import numpy as np
import torch


def step(H, x, target, model, optimizer, iterate):
    model.zero_grad()
    stats = model(x, target)
    stats['elbo'].backward()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), H.grad_clip).item()
    stats = {key: value.item() for key, value in stats.items()}
    stats.update(distortion_nans=int(np.isnan(stats['distortion'])), rate_nans=int(np.isnan(stats['rate'])))
    skipped_updates = 1
    if not stats['distortion_nans'] and not stats['rate_nans'] and grad_norm < H.skip_threshold:
        optimizer.step()
        skipped_updates = 0
    stats.update(skipped_updates=skipped_updates, grad_norm=grad_norm)
    return stats


def train(H, model, data, log):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    iterate, stats = 0, []
    for epoch in range(H.num_epochs):
        for x in data:
            training_stats = step(H, x, x, model, optimizer, iterate)
            stats.append(training_stats)
            iterate += 1
            if iterate % H.iters_per_print == 0:
                log(type='train_loss', step=iterate, elbo_filtered=stats[-1]['elbo'], **stats[-1])


def logger(H):
    def log(**values):
        with open(os.path.join(H.save_dir, 'log.jsonl'), 'a') as file:
            print(json.dumps(values), file=file)
    return log
'''

FILES = {"hps.py": HPS, "gaussians.py": GAUSSIANS, "model.py": MODEL, "train.py": TRAIN}
