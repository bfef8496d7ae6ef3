"""How likely an image is given the decoder's final state; one file for each distribution of the pixels."""

from vdvae.model.likelihood.bernoulli import BernoulliPixels
from vdvae.model.likelihood.logistic_mixture import LogisticMixture
from vdvae.model.likelihood.normal import NormalPixels
from vdvae.model.likelihood.pixel_layer import PixelLayer
from vdvae.settings.hparams import Hparams


def make_likelihood(hparams: Hparams) -> PixelLayer:
    """The likelihood that the settings name."""
    width, spec = hparams.width, hparams.dataset_spec
    match hparams.likelihood:
        case "logistic_mixture":
            return LogisticMixture(width, spec, hparams.num_mixtures, hparams.exact_levels)
        case "normal":
            return NormalPixels(width, spec, hparams.pixel_sigma_param, hparams.pixel_loc)
        case "bernoulli":
            return BernoulliPixels(width, spec)
