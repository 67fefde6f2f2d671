"""Notice a restorer that stands behind `Normalize`."""

import warnings

from torch import Tensor

from eqrestore_lightning.functional import is_traced, negative_share

_NUM_CALLS = 10
# Measured: behind `Normalize`, 16 digits or 64 photographs are always further away, and so are 99.9
# and 62 % of single ones; 99.6 % of single digits with noise of 0.1 added are not.
_FAR = 0.35


class PlacementCheck:
    """Warn once if images hold far more negative values than those that were trained on.

    Only the first 10 calls look at the images, as that makes a GPU wait, and none whose computation
    is traced, where there is nothing to look at.
    """

    def __init__(self) -> None:
        self._calls_left = _NUM_CALLS

    def __call__(self, x: Tensor, trained: float | None) -> None:
        """Look at some images.

        Args:
            x: Images, any shape.
            trained: Their `negative_share` in training; `None` if it is not known.
        """
        if is_traced(x) or self._calls_left == 0 or trained is None or not x.dtype.is_signed:
            return
        self._calls_left -= 1
        share = float(negative_share(x))
        if share > trained + _FAR:
            self._calls_left = 0
            warnings.warn(
                f"Expected values below 0 to make up about {trained:.0%} of all magnitudes, as in "
                f"the images that the weights were trained on, but got {share:.0%}, as behind "
                f"`Normalize`: put the restorer before it, or what it finds may be wrong.",
                stacklevel=2,
            )
