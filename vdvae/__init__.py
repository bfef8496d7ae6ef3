"""The very deep VAE: model, data, training, logs and the tools that read them."""

from importlib import import_module

_HOMES = {
    "VAE": "vdvae.model.vae",
    "Elbo": "vdvae.model.vae",
    "Latent": "vdvae.model.decoder",
    "Preprocess": "vdvae.data.preprocess",
    "Hparams": "vdvae.settings.hparams",
    "load_hparams": "vdvae.settings.hparams",
    "load": "vdvae.saving.loaded_run",
    "load_splits": "vdvae.data.splits",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    """Import a public name on first use, so that the log readers start without loading torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vdvae' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
