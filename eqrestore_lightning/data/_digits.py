"""The scanned digits that scikit-learn includes: no download."""

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as TF
from typing_extensions import override

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule, split_at_random
from eqrestore_lightning.data._module import Split

_SIZES: dict[Split, int] = {"train": 1_000, "val": 300, "test": 497}


class DigitsDataModule(InMemoryDataModule):
    """Serve 1,797 scanned digits of 8 × 8 pixels, enlarged to 24 × 24 and zero-padded to 32 × 32.

    1,000 are for training, 300 for validation and 497 for testing, chosen at random by `seed`.

    Args:
        **options: `batch_size`, `seed` and `num_workers` of `InMemoryDataModule`.

    Raises:
        ModuleNotFoundError: In `setup`, if scikit-learn is not installed.

    Source: `sklearn.datasets.load_digits`, from the UCI repository (Alpaydin & Kaynak, 1998).

    >>> image, label = DigitsDataModule().dataset("train")[0]
    >>> image.shape
    torch.Size([1, 32, 32])
    """

    in_channels = 1
    num_classes = 10

    @override
    def load(self) -> dict[Split, ImageTensors]:
        try:
            from sklearn.datasets import load_digits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Expected scikit-learn, which includes the digits, to be installed: "
                "pip install 'eqrestore-lightning[recipes]'"
            ) from error
        digits = load_digits()
        scans = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
        enlarged = TF.resize(scans, [24, 24], antialias=True)
        return split_at_random(
            F.pad(enlarged, (4, 4, 4, 4)),
            torch.from_numpy(digits.target).long(),
            _SIZES,
            seed=self.seed,
        )
