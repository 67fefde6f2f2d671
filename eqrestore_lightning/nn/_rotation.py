"""An estimator of rotations, which are translations in polar coordinates."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from eqrestore_lightning.functional import to_polar
from eqrestore_lightning.functional._exact import as_float64, best_index
from eqrestore_lightning.functional._rotation import (
    Fill,
    check_circles,
    check_sampling,
    mass_offset,
)
from eqrestore_lightning.motions import Element, Motion, Turn
from eqrestore_lightning.nn._base import Estimator, register_estimator
from eqrestore_lightning.nn._grids import AngleGrid, to_device
from eqrestore_lightning.nn._integer import as_precise, to_levels
from eqrestore_lightning.nn._shift import join_axes
from eqrestore_lightning.nn._translation import TranslationEstimator


@register_estimator
class RotationEstimator(Estimator):
    r"""Score every angle by which an image may have been turned about its center.

    The image is sampled on circles (`to_polar`), and a `TranslationEstimator` runs along the angle
    axis of the polar image, along which a rotation is a circular shift; the radii join its
    channels. On the polar grid it is strictly equivariant: rolling a polar image along its angles
    rolls its scores by as much, bit for bit. Turning an image by other angles interpolates pixels,
    so estimates are approximate; quarter turns of square images move pixels exactly, and if
    `num_angles` is a multiple of 4, all four are restored to the same image, **bit for bit**.

    Convention:
        `scores[b, j]` is high where image `b` looks as if turned by `360° · j / num_angles`,
        counter-clockwise as displayed.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels.
        num_radii: Number of circles.
        num_angles: Number of samples on each circle, and of scores.
        max_radius: Outer edge of the outermost ring, pixels; by default it reaches the border.
        center: Where the circles' center lies: in the middle of the `"image"`, or at its center of
            `"mass"`, to a fraction of a pixel, for objects on a dark background that need not lie
            in the middle. Images are turned back about their middle in any case.
        sub_grid: Whether `locate` interpolates between grid angles, by the parabola through the
            best score and its neighbors.
        fill: What enters at the corners of a restored image, see `rotate`. It may be set later, as
            it does not affect the scores.
        options: Further arguments of the `TranslationEstimator`, such as `hidden_channels`.

    Shapes:
        Input `(batch, in_channels, height, width)`, floating; output `(batch, num_angles)`.

    Attributes:
        network: The `TranslationEstimator` along the angle axis.

    Raises:
        ValueError: If `spatial_size` is not two sizes, or a number is out of range.

    Source: Section 5.2.

    >>> estimator = RotationEstimator(1, (32, 32), num_radii=16, num_angles=72, kernel_size=5)
    >>> estimator(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 72])
    """

    spatial_size: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        num_radii: int = 16,
        num_angles: int = 72,
        max_radius: float | None = None,
        center: Literal["image", "mass"] = "image",
        sub_grid: bool = True,
        fill: Fill = "zeros",
        **options: Any,
    ) -> None:
        super().__init__()
        if len(spatial_size) != 2 or min(spatial_size) < 1:
            raise ValueError(
                f"Expected `spatial_size` to be two sizes of at least 1, "
                f"but got {tuple(spatial_size)}."
            )
        check_circles(num_radii, num_angles, max_radius)
        if center not in ("image", "mass"):
            raise ValueError(f"Expected `center` to be 'image' or 'mass', but got {center!r}.")
        check_sampling(fill, "bilinear")
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.num_radii = num_radii
        self.num_angles = num_angles
        self.max_radius = max_radius
        self.center = center
        self.sub_grid = sub_grid
        self.fill: Fill = fill
        self.network = TranslationEstimator(
            in_channels, (num_radii, num_angles), axes=(-1,), **options
        )

    @property
    @override
    def config(self) -> dict[str, Any]:
        options = self.network.config
        del options["axes"]
        return {
            **options,
            "in_channels": self.in_channels,
            "spatial_size": list(self.spatial_size),
            "num_radii": self.num_radii,
            "num_angles": self.num_angles,
            "max_radius": self.max_radius,
            "center": self.center,
            "sub_grid": self.sub_grid,
            "fill": self.fill,
        }

    @property
    @override
    def motion(self) -> Motion:
        return Turn(fill=self.fill)

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        x = as_precise(x, self.network.bits) if exact else x
        return self.network.score(self._polar(x), exact=exact)

    @torch.no_grad()
    @override
    def locate(self, scores: Tensor, x: Tensor) -> Element:
        place = best_index(scores, x, lambda some: self._columns(as_float64(some)))
        return to_device(self._grid.element(scores, place), x.device)

    @override
    def same_peak(self, scores: Tensor) -> Tensor:
        return self._grid.same_peak(scores)

    @override
    def loss(self, scores: Tensor, element: Element) -> Tensor:
        return self._grid.loss(scores, element)

    @override
    def scale_scores(self, factor: float) -> None:
        self.network.scale_scores(factor)

    @property
    def _grid(self) -> AngleGrid:
        return AngleGrid(self.num_angles, sub_grid=self.sub_grid)

    def _columns(self, x: Tensor) -> Tensor:
        """Return the polar image as a signal over the angles, with radii as channels."""
        return join_axes(self._polar(x), self.network.axes)

    def _polar(self, x: Tensor) -> Tensor:
        offset = mass_offset(as_float64(to_levels(x.detach()))) if self.center == "mass" else None
        return to_polar(
            x,
            num_radii=self.num_radii,
            num_angles=self.num_angles,
            max_radius=self.max_radius,
            offset=offset,
        )
