"""Lightning modules that train restorers and classifiers."""

from eqrestore_lightning.training._calibrate import calibrate
from eqrestore_lightning.training._classifier import ClassifierModule
from eqrestore_lightning.training._restorer import RestorerModule

__all__ = ["ClassifierModule", "RestorerModule", "calibrate"]
