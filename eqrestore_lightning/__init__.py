"""Undo translations and rotations in front of any classifier, without retraining it.

Names load on first use: code that only restores images imports neither Lightning nor torchmetrics.
The names are those of `__init__.pyi`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
