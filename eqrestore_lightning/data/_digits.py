"""The scanned digits that scikit-learn includes: no download."""

import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.data._in_memory import ImageTensors, InMemoryDataModule, split_at_random
from eqrestore_lightning.data._module import Split

_TEST_SIZE = 497
_VAL_SIZE = 300


class DigitsDataModule(InMemoryDataModule):
    """Serve 1,797 scanned digits of 8 × 8 pixels, enlarged to 24 × 24 and zero-padded to 32 × 32.

    1,000 are for training, 300 for validation and 497 for testing, chosen at random by `seed`.

    Args:
        **options: `batch_size`, `seed` and `num_workers` of `DataModule`.

    Raises:
        ModuleNotFoundError: In `setup`, if scikit-learn is not installed.

    Source: `sklearn.datasets.load_digits`, from the UCI repository (Alpaydin & Kaynak, 1998).

    >>> image, label = DigitsDataModule().dataset("train")[0]
    >>> image.shape
    torch.Size([1, 32, 32])
    """

    in_channels = 1
    num_classes = 10

    def load(self) -> dict[Split, ImageTensors]:
        """Read the digits from scikit-learn."""
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
            {
                "train": len(scans) - _VAL_SIZE - _TEST_SIZE,
                "val": _VAL_SIZE,
                "test": _TEST_SIZE,
            },
            seed=self.seed,
        )
