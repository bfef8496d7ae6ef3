"""Sets of arrays that stay where the training is: a batch is taken on the device, and the host waits for nothing."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vdvae.data.images import ArrayImages, ImageSet

RESIDENT_BYTES = 2 * 2**30


def can_reside(images: ImageSet) -> bool:
    """Whether the set is an array of at most RESIDENT_BYTES."""
    return isinstance(images, ArrayImages) and images.nbytes <= RESIDENT_BYTES


class ResidentImages:
    """The images on the device: a copy on a GPU, the array itself on a CPU."""

    def __init__(self, images: ArrayImages, device: torch.device):
        self.images, self.device = images, device
        self.pixels = None if device.type == "cpu" else torch.from_numpy(images.array[images.indices]).to(device)

    def batches(self, order: Sequence[int], n_batch: int) -> Iterator[Tensor]:
        """The full batches uint8 `[n_batch, H, W, 3]` of the images in this order."""
        order = order[: len(order) // n_batch * n_batch]
        if self.pixels is None:
            return (self.images.__getitems__(order[i : i + n_batch]) for i in range(0, len(order), n_batch))
        on_device = torch.tensor(order, device=self.device)
        return (self.pixels.index_select(0, indices) for indices in on_device.split(n_batch))
