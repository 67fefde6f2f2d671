"""Transforms for images, in the manner of `torchvision.transforms.v2`."""

from eqrestore_lightning.transforms._canonical_crop import CanonicalCrop
from eqrestore_lightning.transforms._restore import RestoreTransform

__all__ = ["CanonicalCrop", "RestoreTransform"]
