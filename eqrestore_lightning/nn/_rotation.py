"""An estimator of rotations: in polar coordinates they are translations."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from eqrestore_lightning.functional import Fill, circular_shift, rotate, scores_to_shift, to_polar
from eqrestore_lightning.nn._base import ShiftFunction, TrainableEstimator
from eqrestore_lightning.nn._estimator import TranslationEstimator, as_float64

_RIVAL_DEGREES = 30.0  # places nearer to the best one belong to the same peak
_STEPS_PER_DEGREE = 1024  # angles are multiples of a power of two: sums of them are exact


class RotationEstimator(TrainableEstimator):
    r"""Score every angle by which an image may have been turned about its centre.

    The image is sampled on circles (`to_polar`); the radii join the channels, and a
    `TranslationEstimator` runs on the angle axis, along which a rotation is a circular shift. On
    the polar grid it is strictly equivariant: the scores of a polar image rolled along its angles
    are rolled as far, bit for bit. Turning pixels interpolates, so that other angles are estimated
    up to what interpolation changes; quarter turns of square images move pixels exactly, and if
    `num_angles` is a multiple of 4, all four are restored to the same image, **bit for bit**.

    Convention:
        `scores[b, j]` is high where image `b` looks as if turned by `360° · j / num_angles`,
        counter-clockwise as displayed. An element is that angle, degrees.

    Args:
        in_channels: Channels of the images.
        spatial_size: Height and width of the images, pixels.
        num_radii: Number of circles.
        num_angles: Number of places on each; the scores have as many.
        max_radius: Outer edge of the outermost ring, pixels; by default it reaches the border.
        sub_grid: Whether `locate` interpolates between grid angles, by the parabola through the
            best score and its neighbours.
        fill: What enters at the corners of a restored image, see `rotate`. It may be set later: it
            has no part in the scores.
        options: Arguments of the `TranslationEstimator` on the angle axis, such as
            `hidden_channels`.

    Shapes:
        Input `(batch, in_channels, height, width)`, floating; output `(batch, num_angles)`.

    Attributes:
        network: The `TranslationEstimator` on the angle axis.

    Raises:
        ValueError: If `spatial_size` is not two sizes, or a number is out of range.

    Source: Section 5.2.

    >>> estimator = RotationEstimator(1, (32, 32), num_radii=16, num_angles=72, kernel_size=5)
    >>> estimator(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 72])
    """

    def __init__(
        self,
        in_channels: int,
        spatial_size: Sequence[int],
        *,
        num_radii: int = 16,
        num_angles: int = 72,
        max_radius: float | None = None,
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
        self.in_channels = in_channels
        self.spatial_size = tuple(spatial_size)
        self.num_radii = num_radii
        self.num_angles = num_angles
        self.max_radius = max_radius
        self.sub_grid = sub_grid
        self.fill: Fill = fill
        for name, value in (("num_radii", num_radii), ("num_angles", num_angles)):
            if value < 1:
                raise ValueError(f"Expected `{name}` to be at least 1, but got {value}.")
        if max_radius is not None and not 0 <= max_radius < math.inf:
            raise ValueError(
                f"Expected `max_radius` to be finite and at least 0, but got {max_radius}."
            )
        if fill not in get_args(Fill):
            raise ValueError(f"Expected `fill` to be one of {get_args(Fill)}, but got {fill!r}.")
        self.network = TranslationEstimator(in_channels * num_radii, (num_angles,), **options)

    @property
    def config(self) -> dict[str, Any]:
        """Arguments that build an estimator of the same shape, in plain JSON types."""
        options = self.network.config
        del options["spatial_size"]
        return {
            **options,
            "in_channels": self.in_channels,
            "spatial_size": list(self.spatial_size),
            "num_radii": self.num_radii,
            "num_angles": self.num_angles,
            "max_radius": self.max_radius,
            "sub_grid": self.sub_grid,
            "fill": self.fill,
        }

    @property
    def element_names(self) -> tuple[str, ...]:
        """What the one entry of an element is called."""
        return ("angle",)

    @property
    def periods(self) -> tuple[int, ...]:
        """After how much an angle is as good as 0, degrees."""
        return (360,)

    def forward(self, x: Tensor) -> Tensor:
        """Score every angle, differentiably, in the dtype of `x`.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, floating.

        Returns:
            Shape `(batch, num_angles)`, dtype of `x`.

        Raises:
            TypeError: If `x` is not floating.
            ValueError: If `x` has another shape.
        """
        self._check(x)
        return self.network(self._polar(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def exact_scores(self, x: Tensor) -> Tensor:
        """Score every angle; equal polar images, rolled, give equal scores, rolled.

        Args:
            x: Shape `(batch, in_channels, *spatial_size)`, any real dtype; uint8 as it is.

        Returns:
            float64 of shape `(batch, num_angles)`; on the device of `x`, or on the CPU where that
            device (Apple's MPS) has no float64.

        Raises:
            ValueError: If `x` has another shape.
        """
        self._check(x)
        return self.network.exact_scores(self._exact_polar(x))

    @torch.no_grad()
    def locate(self, scores: Tensor, x: Tensor) -> Tensor:
        """Read off the angle from exact scores; equal largest scores are decided by content.

        Args:
            scores: What `exact_scores(x)` gave.
            x: The images scored.

        Returns:
            Degrees, float64 of shape `(batch, 1)`, from −180 to below 180, a multiple of 1/1024; on
            the device of `x` (float32 on Apple's MPS). 0 for images with entries that are not
            finite.

        Raises:
            ValueError: If `scores` and `x` do not belong together.
        """
        best = scores.amax(1, keepdim=True)
        # Ties are rare, and looking for them is cheaper than the polar image they are decided by.
        if torch.compiler.is_compiling() or (scores == best).sum(1).gt(1).any():
            place = self.network.locate(scores, self._exact_polar(x)).to(scores.device)
        else:
            place = scores_to_shift(scores)
        angle = _to_steps(place * (360 / self.num_angles))
        if self.sub_grid and self.num_angles > 2:
            left, middle, right = (
                scores.gather(1, (place + offset) % self.num_angles) for offset in (-1, 0, 1)
            )
            curvature = left - 2 * middle + right  # below 0, unless all three tie or are not finite
            offset = torch.where(curvature < 0, (left - right) / (2 * curvature), 0)
            angle = angle + _to_steps(offset * (360 / self.num_angles))
        angle = (angle + 180) % 360 - 180
        return angle.to(x.device, torch.float32 if x.device.type == "mps" else torch.float64)

    def undo(self, x: Tensor, element: Tensor) -> Tensor:
        """Turn images back by the angles found: one interpolation, see `rotate`.

        Args:
            x: Images of shape `(batch, channels, height, width)`, any real dtype.
            element: Degrees, floating of shape `(batch, 1)`.

        Returns:
            A new tensor with the shape and dtype of `x`.
        """
        return rotate(x, -element.squeeze(1), fill=self.fill)

    def undo_mask(self, mask: Tensor, element: Tensor) -> Tensor:
        """Turn masks of labels back; each pixel takes the nearest label, corners 0.

        Args:
            mask: Shape `(batch, channels, height, width)`, any real dtype.
            element: Degrees, floating of shape `(batch, 1)`.

        Returns:
            A new tensor with the shape and dtype of `mask`.
        """
        return rotate(mask, -element.squeeze(1), interpolation="nearest")

    def margin(self, scores: Tensor) -> Tensor:
        """Say how far the best angle is ahead of the best one that lies 30° or more away.

        Neighbouring angles always score much the same; what makes an estimate doubtful is another
        peak.

        Args:
            scores: What `exact_scores` gave.

        Returns:
            Log-odds, not negative, shape `(batch,)`, dtype of `scores`; infinite where no angle of
            the grid lies so far away.
        """
        best, place = scores.max(1, keepdim=True)
        steps = torch.arange(self.num_angles, device=scores.device)
        distance = (steps - place) % self.num_angles
        distance = torch.minimum(distance, self.num_angles - distance)
        rivals = scores.masked_fill(distance * 360 < _RIVAL_DEGREES * self.num_angles, -torch.inf)
        return best.squeeze(1) - rivals.amax(1)

    def scale_scores(self, factor: float) -> None:
        """Multiply all scores by a factor above 0, in place: no estimate changes, margins do."""
        self.network.scale_scores(factor)

    def random_element(
        self,
        batch_size: int,
        *,
        max_shift: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw angles uniformly: degrees from 0 to below 360, float32 of shape `(batch, 1)`.

        Raises:
            ValueError: If `max_shift` is neither 0 nor left out.
        """
        if max_shift:
            raise ValueError(
                f"Expected `max_shift` to be 0 for an estimator of angles, but got {max_shift}."
            )
        device = None if generator is None else generator.device
        return 360 * torch.rand(batch_size, 1, generator=generator, device=device)

    def apply_element(
        self, x: Tensor, element: Tensor, *, shift: ShiftFunction = circular_shift
    ) -> Tensor:
        """Turn images by `(batch, 1)` degrees, counter-clockwise; nothing is shifted."""
        del shift
        return rotate(x, element.squeeze(1), fill=self.fill)

    def loss(self, scores: Tensor, element: Tensor) -> Tensor:
        """Give the cross-entropy over the grid angles, with targets as `target` shares them."""
        return F.cross_entropy(scores, self.target(element))

    def target(self, element: Tensor) -> Tensor:
        """Share each target between the two grid angles beside it, in proportion.

        Trained on grid angles alone, it would learn the pattern that resampling leaves instead.

        Args:
            element: Degrees, floating of shape `(batch, 1)`.

        Returns:
            Probabilities, dtype of `element`, of shape `(batch, num_angles)`.
        """
        place = element * (self.num_angles / 360)
        steps = torch.arange(self.num_angles, device=element.device)
        distance = (steps - place) % self.num_angles
        return (1 - torch.minimum(distance, self.num_angles - distance)).clamp(min=0)

    def _polar(self, x: Tensor) -> Tensor:
        polar = to_polar(
            x,
            num_radii=self.num_radii,
            num_angles=self.num_angles,
            max_radius=self.max_radius,
        )
        return polar.flatten(1, 2)

    def _exact_polar(self, x: Tensor) -> Tensor:
        return self._polar(as_float64(x))

    def _check(self, x: Tensor) -> None:
        if x.shape[1:] != (self.in_channels, *self.spatial_size):
            raise ValueError(
                f"Expected `x` to have shape (batch, {self.in_channels}, "
                f"{', '.join(map(str, self.spatial_size))}), but got {tuple(x.shape)}."
            )


def _to_steps(angle: Tensor) -> Tensor:
    return torch.round(angle.double() * _STEPS_PER_DEGREE) / _STEPS_PER_DEGREE
