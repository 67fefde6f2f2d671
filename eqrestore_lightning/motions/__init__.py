"""Motions of images: what moves them, how to undo it, and how far apart two motions are."""

from eqrestore_lightning.motions._base import Element, Field, Motion
from eqrestore_lightning.motions._product import Product
from eqrestore_lightning.motions._quarter_turn import QuarterTurn
from eqrestore_lightning.motions._shift import Shift
from eqrestore_lightning.motions._turn import Turn

__all__ = [
    "Element",
    "Field",
    "Motion",
    "Product",
    "QuarterTurn",
    "Shift",
    "Turn",
]
