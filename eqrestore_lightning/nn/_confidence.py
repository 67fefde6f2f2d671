"""An estimator without weights: of all turned copies, a frozen classifier is surest of one."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from eqrestore_lightning._registry import Registry
from eqrestore_lightning.functional._exact import as_float64
from eqrestore_lightning.motions import Motion, QuarterTurn, Turn
from eqrestore_lightning.nn._base import split_batch
from eqrestore_lightning.nn._turned_copies import (
    TurnedCopies,
    central_square,
    evaluating,
    inscribed_disc,
)

Confidence: TypeAlias = Callable[[Tensor], Tensor]
"""From logits `(..., num_classes)` to how sure a classifier is, `(...)`: higher is surer."""

_CONFIDENCES: Registry[Confidence] = Registry("a confidence", "confidence")


@_CONFIDENCES.register
def negative_entropy(logits: Tensor) -> Tensor:
    """Compute the negative entropy of the probabilities, nats: 0 for an answer beyond doubt."""
    log_probability = logits.log_softmax(-1)
    return (log_probability.exp() * log_probability).sum(-1)


@_CONFIDENCES.register
def log_largest_probability(logits: Tensor) -> Tensor:
    """Compute the logarithm of the largest probability."""
    return logits.log_softmax(-1).amax(-1)


@_CONFIDENCES.register
def negative_energy(logits: Tensor) -> Tensor:
    """Compute the logarithm of the sum of exponentials of the logits (Liu et al., 2020)."""
    return logits.logsumexp(-1)


class ConfidenceEstimator(TurnedCopies):
    r"""Score turns by how sure a frozen classifier is of the turned copies; nothing is trained.

    `S[g] = scale · confidence(classifier(g⁻¹ x))`: the turn is found after whose undoing the
    classifier is least uncertain. All quarter turns of an image, and its mirror images with
    `QuarterTurn(mirrors=True)`, are restored to the same image, **bit for bit**, as long as the
    classifier computes the same from the same batch; for a `Turn` if the image is square. Other
    angles interpolate pixels, so their estimates are approximate.

    The classifier sees images as they come, in their own dtype and range: give it what stands
    behind the restorer, with `Normalize`. It is neither copied nor part of the estimator's weights,
    gets no gradients, and runs in eval mode. Move it to a device yourself.

    An image costs `num_angles` passes, with mirror images twice as many. Classifying the restored
    image costs one more, which `classify` saves.

    Convention:
        `scores[b, j]` is high where image `b` looks as if turned by `360° · j / num_angles`,
        counter-clockwise as displayed; with mirror images, `scores[b, 4 + j]` where it looks as if
        mirrored left to right, then turned so.

    Args:
        classifier: From images to logits `(batch, num_classes)`.
        in_channels: Channels of the images.
        num_angles: Number of angles scored, a multiple of 4.
        motion: What is found and undone: by default a `QuarterTurn` for 4 angles, else a `Turn` by
            any angle. For a `Turn` only what lies in the inscribed circle is looked at, surrounded
            by its median color, so that corners cannot tell the angle. A larger picture still holds
            them: turn, then crop, by a classifier that begins with `CenterCrop`.
        confidence: `"negative_entropy"`, `"log_largest_probability"`, `"negative_energy"`, or a
            function from logits `(..., num_classes)` to `(...)`.
        logits: Where the classifier's output holds the logits, if it is no tensor: an attribute or
            key, such as `"logits"`, or a place, such as 0.
        look_first: For images most of which are upright: if confidence in the image as it comes is
            at least `-look_first` (an entropy, nats), it is left so after one pass; all others take
            one pass more. Invariance is lost for images of which a turned copy passes. Set it after
            `calibrate`, which needs all scores.

    Shapes:
        Input `(batch, in_channels, height, width)`, any real dtype that the classifier takes;
        output `(batch, num_angles)`, with mirror images `(batch, 8)`.

    Attributes:
        classifier: The module that was given.
        look_first: May be changed.

    Raises:
        TypeError: If `classifier` is no module.
        ValueError: If a number is out of range, or there is no such confidence.

    Source: Inverse transformation search (Schmidt and Stober, 2024) and FoCal (2025) choose by
    energies; here by entropy.

    >>> classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    >>> estimator = ConfidenceEstimator(classifier)
    >>> x = torch.rand(2, 3, 8, 8)
    >>> first, second = (
    ...     estimator.motion.undo(y, estimator.estimate(y)) for y in (x, x.rot90(1, (2, 3)))
    ... )
    >>> torch.equal(first, second)
    True
    >>> estimator.classify(x).shape
    torch.Size([2, 10])
    """

    pixels_at_once = 2**21

    def __init__(
        self,
        classifier: nn.Module,
        *,
        in_channels: int = 3,
        num_angles: int = 4,
        motion: Motion | None = None,
        confidence: str | Confidence = "negative_entropy",
        logits: str | int | None = None,
        look_first: float | None = None,
    ) -> None:
        if not isinstance(classifier, nn.Module):
            raise TypeError(
                f"Expected `classifier` to be a module, but got {type(classifier).__name__}."
            )
        if motion is None:
            motion = QuarterTurn() if num_angles == QuarterTurn().num_copies else Turn()
        super().__init__(in_channels, motion, num_angles=num_angles, sub_grid=True)
        if look_first is not None and not look_first >= 0:
            raise ValueError(f"Expected `look_first` to be at least 0, but got {look_first}.")
        self._shared = _Shared(classifier)
        self.confidence = confidence if callable(confidence) else _CONFIDENCES.find(confidence)
        self.logits = logits
        self.look_first = look_first

    @property
    def classifier(self) -> nn.Module:
        """The classifier that was given."""
        return self._shared.module

    @property
    @override
    def config(self) -> NoReturn:
        raise TypeError(
            "Expected an estimator with weights of its own, but a ConfidenceEstimator has none: "
            "save your classifier, and build ConfidenceEstimator(classifier) where it is loaded."
        )

    @override
    def score(self, x: Tensor, *, exact: bool) -> Tensor:
        scores = self._scores(*self._seen(x))
        return scores if exact else scores.to(x.device, x.dtype)

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """Classify all turned copies of images; their mean is what averaging over turns gives.

        Args:
            x: Shape `(batch, in_channels, height, width)`.

        Returns:
            Logits, float64 of shape `(batch, num_scores, num_classes)`: `[b, j]` is for image `b`
            with the turn of score `j` undone. `look_first` has no part in it.

        Raises:
            TypeError: If the classifier returns no floating logits.
            ValueError: If `x` or the logits have another shape.
        """
        self.check_input(x)
        return self.aligned(x, self._ask_all)

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Classify images as that copy of which the classifier is surest, without a further pass.

        Args:
            x: Shape `(batch, in_channels, height, width)`.

        Returns:
            Logits, float64 of shape `(batch, num_classes)`, of the copy at the best angle of the
            grid; `RestoreTransform` may turn by an angle between two.

        Raises:
            TypeError: If the classifier returns no floating logits.
            ValueError: If `x` or the logits have another shape.
        """
        self.check_input(x)
        logits, looked = self._seen(x)
        place = self.place(self._scores(logits, looked), x).to(logits.device)
        return logits.gather(1, place.reshape(-1, 1, 1).expand(-1, 1, logits.shape[2])).squeeze(1)

    @override
    def prepare(self, x: Tensor) -> Tensor:
        if isinstance(self.motion, QuarterTurn):
            return x
        square = central_square(x)
        disc = inscribed_disc(square)
        color = square.flatten(2)[:, :, disc.flatten()].median(2).values
        return torch.where(disc, square, color[..., None, None])

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of all copies, and whether each copy was looked at."""
        if self.look_first is None:
            logits = self.answers(x)
            return logits, logits.new_ones(logits.shape[:2], dtype=torch.bool)
        alone = torch.cat([self._ask(self.prepare(x)) for x in split_batch(x, self.pixels_at_once)])
        logits = alone.unsqueeze(1).repeat(1, len(self.turns), 1)
        unsure = ~(self.confidence(alone) >= -self.look_first)
        looked = unsure.unsqueeze(1).repeat(1, len(self.turns))
        looked[:, 0] = True
        if unsure.any():
            logits[unsure] = self.answers(x[unsure.to(x.device)])
        return logits, looked

    def _scores(self, logits: Tensor, looked: Tensor) -> Tensor:
        scores = self.scale.to(logits) * self.confidence(logits)
        return scores.masked_fill(~looked, -torch.inf)

    def _ask_all(self, first: Tensor) -> Tensor:
        """Classify all turns of first copies: `(batch, num_scores, num_classes)`."""
        logits = []
        for mirrored, turn in self.turns:
            copy = self.copy(first, mirrored=mirrored, turn=turn)
            if not isinstance(self.motion, QuarterTurn):
                copy = torch.where(inscribed_disc(copy), copy, first[:, :, :1, :1])
            logits.append(self._ask(copy))
        return torch.stack(logits, 1)

    def _ask(self, x: Tensor) -> Tensor:
        """Classify images: float64 of shape `(batch, num_classes)`."""
        with torch.autocast(x.device.type, enabled=False), evaluating(self.classifier):
            output: Any = self.classifier(x)
        if isinstance(self.logits, str):
            mapping = isinstance(output, Mapping)
            output = output.get(self.logits) if mapping else getattr(output, self.logits, None)
        elif self.logits is not None:
            output = output[self.logits]
        if not isinstance(output, Tensor) or not output.is_floating_point():
            raise TypeError(
                f"Expected `classifier` to return floating logits, or `logits` to name them in "
                f"what it returns, but got {getattr(output, 'dtype', type(output).__name__)}."
            )
        if output.ndim != 2 or len(output) != len(x):
            raise ValueError(
                f"Expected `classifier` to return logits of shape (batch, num_classes), "
                f"but got {tuple(output.shape)} for {len(x)} images."
            )
        return as_float64(output)


class _Shared:
    """Hold a module that is no submodule of its holder, and is not copied along with it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self
