"""Notice a restorer that stands behind `Normalize`."""

import warnings

from torch import Tensor

from eqrestore_lightning.functional import is_traced, lowest_level

_NUM_CALLS = 10
# Behind `Normalize` all single digits of MNIST lie below this level, all batches of 16 photographs
# and most single ones; where noise of a standard deviation of 0.1 was added instead, about one in a
# hundred single digits and no batch (`tests/transforms/test_placement.py` measures it).
_LOW = -0.25
_HIGH = -0.1


class PlacementCheck:
    """Warn once if images go far below zero, and those that were trained on did not.

    Only the first 10 calls look at the images, as that makes a GPU wait, and none whose computation
    is traced, where there is nothing to look at.
    """

    def __init__(self) -> None:
        self._calls_left = _NUM_CALLS

    def __call__(self, x: Tensor, trained: float | None) -> None:
        """Look at some images.

        Args:
            x: Images, any shape.
            trained: The `lowest_level` of those trained on; `None` if it is not known.
        """
        if is_traced(x) or self._calls_left == 0 or not x.dtype.is_signed:
            return
        if trained is None or trained < _HIGH:
            return
        self._calls_left -= 1
        if float(lowest_level(x)) < _LOW:
            self._calls_left = 0
            warnings.warn(
                "Expected images without negative values, as those that the weights were trained "
                "on, but got values far below 0, as behind `Normalize`: put the restorer before "
                "it, or what it finds may be wrong.",
                stacklevel=2,
            )
