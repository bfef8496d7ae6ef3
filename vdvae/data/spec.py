"""Facts about each data set that hyper-parameters and preprocessing need; imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetSpec:
    """What is known about a data set before any of its images is read.

    name: the value of `--dataset`.
    image_size: height and width in pixels; None where `--image_size` says.
    shift, scale: the network's input is (x + shift) * scale with x the grey level.
    five_bit: the target is floored to multiples of 8 (32 grey levels).
    published: the original has published figures and weights of it.
    channels: of a pixel; None where the images say.
    bits: of a channel, whose grey levels are 0 to 2^bits - 1; None where the images say.
    binarize: how a run makes its images black and white, `random` or `threshold`; None: it does not.
    """

    name: str
    image_size: int | None
    shift: float
    scale: float
    five_bit: bool = False
    published: bool = True
    channels: int | None = 3
    bits: int | None = 8
    binarize: str | None = None

    @property
    def top_level(self) -> int:
        """The largest grey level."""
        return 2**self.bits - 1


# photos32: minus the mean and one over the standard deviation of the training crops, all channels together.
PHOTOS_SHIFT, PHOTOS_SCALE = -104.31948, 1 / 72.75284
# mnist: the same of the 60,000 training images.
MNIST_SHIFT, MNIST_SCALE = -33.31842, 1 / 78.56749
# folder: mid grey and a quarter of the range, of images that are not measured.
FOLDER_SHIFT, FOLDER_SCALE = -127.5, 1 / 64

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec("cifar10", 32, shift=-120.63838, scale=1 / 64.16736),
        DatasetSpec("imagenet32", 32, shift=-116.2373, scale=1 / 69.37404),
        DatasetSpec("imagenet64", 64, shift=-115.92961967, scale=1 / 69.37404),
        DatasetSpec("ffhq_256", 256, shift=-112.8666757481, scale=1 / 69.84780273, five_bit=True),
        DatasetSpec("ffhq_1024", 1024, shift=-0.4387 * 255, scale=1 / (0.2743 * 255)),
        DatasetSpec("photos32", 32, shift=PHOTOS_SHIFT, scale=PHOTOS_SCALE, published=False),
        DatasetSpec("photos32_ten", 32, shift=PHOTOS_SHIFT, scale=PHOTOS_SCALE, published=False),
        DatasetSpec("mnist", 28, shift=MNIST_SHIFT, scale=MNIST_SCALE, published=False, channels=1),
        DatasetSpec("folder", None, shift=FOLDER_SHIFT, scale=FOLDER_SCALE, published=False, channels=None, bits=None),
    )
}
