"""Transforms for images, in the manner of `torchvision.transforms.v2`."""

from eqrestore_lightning.transforms._canonical_crop import CanonicalCrop
from eqrestore_lightning.transforms._onnx import export_onnx
from eqrestore_lightning.transforms._random import RandomMotion
from eqrestore_lightning.transforms._restore import Found, RestoreTransform

__all__ = ["CanonicalCrop", "Found", "RandomMotion", "RestoreTransform", "export_onnx"]
