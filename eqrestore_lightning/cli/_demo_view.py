"""What `eqrestore demo` shows of one image, moved and restored."""

from collections.abc import Mapping
from dataclasses import dataclass

import PIL.Image
import PIL.ImageDraw
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning.cli._demo_inputs import Classify
from eqrestore_lightning.functional import circular_shift, rotate
from eqrestore_lightning.transforms import RestoreTransform

_RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_PICTURE = 256  # pixels, of the longer side
_MARK = (220, 0, 0)


@dataclass(frozen=True)
class View:
    """One image, moved and restored, in pictures that are enlarged where they are small.

    Attributes:
        moved: The image as a classifier would get it.
        scores: Picture of the scores of all motions; the largest is marked.
        restored: The image moved back by what was found.
        found: What was found, and how sure that is; a sentence or two.
        classes: Probabilities of the classes of the moved image, and of the restored one; `None`
            without a classifier.
    """

    moved: PIL.Image.Image
    scores: PIL.Image.Image
    restored: PIL.Image.Image
    found: str
    classes: tuple[dict[str, float], dict[str, float]] | None = None


def view(
    image: Tensor,
    restore: RestoreTransform,
    *,
    down: int = 0,
    right: int = 0,
    angle: float = 0.0,
    classify: Classify | None = None,
) -> View:
    """Turn an image, shift it circularly, restore it, and describe what happened.

    Args:
        image: uint8 of shape `(channels, height, width)`, as `restore` takes it.
        restore: Finds how it was moved.
        down: Shift, pixels.
        right: Shift, pixels.
        angle: Degrees, counter-clockwise; what enters at the corners is the color of the border.
        classify: Classifies the moved and the restored image.

    >>> image = torch.zeros(1, 32, 32, dtype=torch.uint8)
    >>> image[0, 8:25, 13:20] = 200
    >>> view(image, RestoreTransform("mnist"), down=5, right=-3).found.split(".")[0]
    'Found: 5 down, 3 left'
    """
    turned = rotate(image.unsqueeze(0), torch.tensor([float(angle)]), fill="border")
    moved = circular_shift(turned, torch.tensor([[down, right]]))[0]
    found = restore.find(moved, scores=True)
    restored = restore.undo(moved, found)
    differing = int((restored != restore(image)).any(0).sum())
    told = f"differs, at {differing:,} of {image[0].numel():,} pixels, from"
    if differing == 0:
        told = "equals, in every bit,"
    return View(
        moved=_enlarged(TF.to_pil_image(moved)),
        scores=score_picture(found.scores if found.scores is not None else torch.zeros(1)),
        restored=_enlarged(TF.to_pil_image(restored)),
        found=f"Found: {sentence(found.motion)}. Margin: {float(found.margin):.1f}. "
        f"The restored image {told} what the unmoved image is restored to.",
        classes=(classify(moved), classify(restored)) if classify is not None else None,
    )


def sentence(motion: Mapping[str, Tensor]) -> str:
    """Say how one image was moved.

    Args:
        motion: Fields of one image, without a batch axis.

    >>> sentence({"angle": torch.tensor(-12.25), "shift": torch.tensor([0, -7])})
    'turned by -12.2°, 0 down, 7 left'
    """
    parts = []
    if "mirrored" in motion and int(motion["mirrored"]):
        parts.append("mirrored")
    if "quarters" in motion:
        parts.append(f"turned by {90 * int(motion['quarters'])}°")
    if "angle" in motion:
        parts.append(f"turned by {float(motion['angle']):.1f}°")
    if "shift" in motion:
        words = (("up", "down"), ("left", "right"))[-motion["shift"].numel() :]
        for pixels, (back, forward) in zip(motion["shift"].tolist(), words, strict=True):
            parts.append(f"{abs(pixels)} {back if pixels < 0 else forward}")
    return ", ".join(parts)


def score_picture(scores: Tensor) -> PIL.Image.Image:
    """Draw scores, and mark the largest: as a map for shifts, else as a curve.

    Args:
        scores: Shape `(height, width)`, place 0 at the top left, or `(num_elements,)`.
    """
    low, high = float(scores.min()), float(scores.max())
    share = ((scores - low) / (high - low if high > low else 1)).float().cpu()
    best = int(share.argmax())
    return _map(share, best) if share.ndim == 2 else _curve(share.flatten(), best)


def _map(share: Tensor, best: int) -> PIL.Image.Image:
    ramp = torch.tensor(_RAMP, dtype=torch.float32)
    place = share * (len(_RAMP) - 1)
    lower = place.long().clamp(max=len(_RAMP) - 2)
    rest = (place - lower).unsqueeze(-1)
    colors = ramp[lower] * (1 - rest) + ramp[lower + 1] * rest
    height, width = share.shape
    factor = _PICTURE / max(height, width)
    picture = _enlarged(TF.to_pil_image(colors.round().byte().movedim(2, 0)))
    x, y = (best % width + 0.5) * factor, (best // width + 0.5) * factor
    draw = PIL.ImageDraw.Draw(picture)
    for radius, color in ((9, (255, 255, 255)), (7, _MARK)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=2)
    return picture


def _enlarged(picture: PIL.Image.Image) -> PIL.Image.Image:
    factor = _PICTURE / max(picture.size)
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, PIL.Image.Resampling.NEAREST)


def _curve(share: Tensor, best: int) -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", (_PICTURE, _PICTURE), _RAMP[0])
    draw = PIL.ImageDraw.Draw(picture)
    step = _PICTURE / len(share)
    for place, value in enumerate(share.tolist()):
        top = (_PICTURE - 20) * (1 - value) + 10
        color = _MARK if place == best else _RAMP[-1]
        draw.rectangle((place * step, top, (place + 1) * step - (step > 3), _PICTURE), fill=color)
    return picture
