"""Put images back where a frozen classifier expects them."""

import copy
import math
import os
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights import load_estimator


class RestoreTransform(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Estimate by how much each image was shifted or turned, and move it back.

    Stands in front of any trained classifier: `nn.Sequential(RestoreTransform("mnist"),
    classifier)`. The estimator decides what is undone; what follows is said for shifts, and for
    rotations in `RotationEstimator`.

    Restoring is invariant: every circular shift of an image is restored to the same
    image, **bit for bit**. The scores are computed in float64 arithmetic whose result does not
    depend on where things lie, whatever the surrounding autocast, and equal scores are decided by
    content (`TranslationEstimator.exact_scores`, `locate`). This holds for finite images whose
    entries are multiples of 2^-40 of their largest magnitude: all images of up to 32 bits, and
    those of 8 or 16 bits scaled to 0…1. Images that are not finite are left as they are.

    Its place is **before** `Normalize`: the estimator was trained on images whose empty border is
    zero, and after `Normalize` it is not.

    Move it to the images' device with `.to(device)`, as any module. The weights are buffers: always
    in eval mode, in no optimiser, unchanged by training. Gradients
    flow through to the image.

    Convention:
        `estimate` gives the shift that was applied, positive as in `torch.roll`; the image is moved
        by its negative. For images the order is (down, right). An estimator of rotations gives
        degrees, counter-clockwise as displayed, one of both (down, right, angle).

    Args:
        source: The name of bundled weights, the path of a `.safetensors` or Lightning `.ckpt` file,
            or an estimator (copied).
        min_margin: Images whose `margin` is below it are left as they are; 0 restores all. The
            margin of an image is the same for every shift, so an image is restored for all shifts
            or for none; `trusted` tells which.

    Shapes:
        `(C, *spatial)` or `(..., C, *spatial)` with the channels and size of the estimator, of any
        dtype; uint8 is read as 0…255. Shape, dtype, device and type (`tv_tensors.Image`) are kept:
        the original is moved, never a copy in another dtype. In a sample such as `(image, label)`
        what follows the image passes; a `tv_tensors.Mask` moves along with the one image. The
        frames of a `tv_tensors.Video` are restored one by one.

    Raises:
        FileNotFoundError: If `source` is a path that leads to no file.
        TypeError: If `source` is of another type; in `forward` for PIL images (use
            `v2.ToImage()` first), bounding boxes, key points or complex input.
        ValueError: If `source` is malformed or `min_margin` is below 0; in `forward`
            for another size or number of channels.

    Source: Section 4.1 of the paper; the exact arithmetic is our own.

    >>> import torch
    >>> restore = RestoreTransform("digits")
    >>> image = torch.zeros(1, 32, 32, dtype=torch.uint8)
    >>> image[0, 10:22, 13:19] = 200
    >>> moved = image.roll((5, -3), dims=(1, 2))
    >>> bool((restore(moved) == restore(image)).all())
    True
    >>> (restore.estimate(moved) - restore.estimate(image)) % 32
    tensor([ 5, 29])
    """

    def __init__(
        self, source: str | os.PathLike[str] | Estimator, *, min_margin: float = 0.0
    ) -> None:
        super().__init__()
        if isinstance(source, Estimator):
            estimator = copy.deepcopy(source)
        elif isinstance(source, str | os.PathLike):
            estimator = load_estimator(source)
        else:
            raise TypeError(
                f"Expected `source` to be a name, a path or an estimator, "
                f"but got {type(source).__name__}."
            )
        if not min_margin >= 0:
            raise ValueError(f"Expected `min_margin` to be at least 0, but got {min_margin}.")
        self.min_margin = min_margin
        self.estimator = _freeze(estimator)
        self.train(False)

    def train(self, mode: bool = True) -> "RestoreTransform":
        """Stay in eval mode, whatever `mode` says."""
        del mode
        return super().train(False)  # type: ignore[no-any-return]

    def scores(self, x: Tensor) -> Tensor:
        """Score every element of every image: every shift, or every angle of the grid.

        Args:
            x: Shape `(..., C, *spatial)`, any real dtype.

        Returns:
            float64 of shape `(..., *elements)`, for shifts `(..., *spatial)`; bitwise equivariant.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another size or number of channels.
        """
        scores = self.estimator.exact_scores(self._flatten(x))
        return scores.reshape(*self._batch_shape(x), *scores.shape[1:])

    def estimate(self, x: Tensor) -> Tensor:
        """Estimate how every image was moved: what `forward` undoes, 0 below `min_margin`.

        Args:
            x: Shape `(..., C, *spatial)`, any real dtype.

        Returns:
            One column for each of `estimator.element_names`. Shifts are pixels, int64 of shape
            `(..., num_spatial_dims)`; along an axis of size `n` from `-(n // 2)` to `(n - 1) // 2`.
            Where an angle is among them all are float64: degrees of shape `(..., 1)`, or pixels
            down, pixels right and degrees of shape `(..., 3)`.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another size or number of channels.
        """
        element = self._locate(self._flatten(x))
        return element.reshape(*self._batch_shape(x), *element.shape[1:])

    def margin(self, x: Tensor) -> Tensor:
        """Say how far the best place is ahead of its rival: log-odds, 0 where they tie.

        The rival of a shift is the second best, that of an angle the best one 30° or more away; see
        the `margin` of `RotoTranslationEstimator` for both together.

        Args:
            x: Shape `(..., C, *spatial)`, any real dtype.

        Returns:
            float64 of shape `(...)`; the same however an image was moved, NaN where it is not
            finite.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another size or number of channels.
        """
        scores = self.estimator.exact_scores(self._flatten(x))
        return self.estimator.margin(scores).reshape(self._batch_shape(x))

    def trusted(self, x: Tensor) -> Tensor:
        """Say which images `forward` restores: those with a `margin` of at least `min_margin`.

        Args:
            x: Shape `(..., C, *spatial)`, any real dtype.

        Returns:
            bool of shape `(...)`; False for images that are not finite.

        Raises:
            TypeError: If `x` is complex.
            ValueError: If `x` has another size or number of channels.
        """
        return self.margin(x) >= self.min_margin

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Estimate the shift of the one image of the sample."""
        for leaf in flat_inputs:
            if isinstance(leaf, PIL.Image.Image):
                raise TypeError(
                    f"Expected tensor images, but got a PIL image ({type(leaf).__name__}); "
                    f"put `v2.ToImage()` before."
                )
            if isinstance(leaf, tv_tensors.TVTensor) and not isinstance(
                leaf, tv_tensors.Image | tv_tensors.Video | tv_tensors.Mask
            ):
                raise TypeError(
                    f"Expected images and masks, but got {type(leaf).__name__}, "
                    f"which cannot wrap around the border."
                )
        images = [leaf for leaf in flat_inputs if not isinstance(leaf, tv_tensors.Mask)]
        if len(images) != 1:
            raise ValueError(f"Expected one image in a sample, but got {len(images)}.")
        return {"element": self._locate(self._flatten(images[0]))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Move one image, or the mask that belongs to it, back."""
        element = params["element"]
        plain = _plain(inpt)
        if isinstance(inpt, tv_tensors.Mask):
            flat = self._flatten_mask(plain, len(element))
            restored = self.estimator.undo_mask(flat, element).reshape(plain.shape)
        else:
            flat = plain.reshape(-1, self.estimator.in_channels, *self.estimator.spatial_size)
            restored = self.estimator.undo(flat, element).reshape(plain.shape)
        return tv_tensors.wrap(restored, like=inpt) if plain is not inpt else restored

    def _locate(self, flat: Tensor) -> Tensor:
        scores = self.estimator.exact_scores(flat)
        element = self.estimator.locate(scores, flat)
        if self.min_margin == 0:
            return element
        trusted = (self.estimator.margin(scores) >= self.min_margin).to(element.device)
        return torch.where(trusted[:, None], element, 0)

    def _batch_shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[: -1 - len(self.estimator.spatial_size)])

    def _flatten(self, x: Tensor) -> Tensor:
        expected = (self.estimator.in_channels, *self.estimator.spatial_size)
        if tuple(x.shape[-len(expected) :]) != expected:
            raise ValueError(
                f"Expected images of shape (..., {', '.join(map(str, expected))}), which the "
                f"estimator was made for, but got {tuple(x.shape)}."
            )
        if x.is_complex():
            raise TypeError(f"Expected images of a real dtype, but got {x.dtype}.")
        return _plain(x.detach()).reshape(-1, *expected)

    def _flatten_mask(self, mask: Tensor, num_images: int) -> Tensor:
        spatial = self.estimator.spatial_size
        maps = mask.numel() // math.prod(spatial)
        if mask.shape[-len(spatial) :] != spatial or maps % max(num_images, 1):
            raise ValueError(
                f"Expected a mask of shape (..., {', '.join(map(str, spatial))}) for "
                f"{num_images} images, but got {tuple(mask.shape)}."
            )
        return mask.reshape(num_images, maps // max(num_images, 1), *spatial)


def _plain(x: Tensor) -> Tensor:
    return x.as_subclass(Tensor) if isinstance(x, tv_tensors.TVTensor) else x


def _freeze(estimator: Estimator) -> Estimator:
    """Turn every parameter into a buffer: it moves with `.to()`, and no optimiser sees it."""
    for module in list(estimator.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return estimator
