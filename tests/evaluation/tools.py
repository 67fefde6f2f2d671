"""What the tests of `evaluate` share."""

import torch
from torch import nn

from eqrestore_lightning import RestoreTransform, TranslationEstimator
from eqrestore_lightning.evaluation import evaluate, shift_motions


class TopLeft(nn.Module):
    """Class 1 where the first pixel is bright: correct for unmoved images only."""

    def forward(self, x):
        bright = x.flatten(2)[:, 0, 0] > 0.5
        return torch.stack([~bright, bright], dim=1).float()


class Answering(nn.Module):
    """A classifier that is a function."""

    def __init__(self, answer):
        super().__init__()
        self.forward = answer


def corners(count=40, size=(8, 8)):
    """Return batches of images whose first pixel is bright, all of class 1."""
    images = torch.zeros(count, 1, *size)
    images.flatten(2)[:, :, 0] = 1.0
    return [(images[:25], torch.ones(25).long()), (images[25:], torch.ones(count - 25).long())]


def brightest(size=(8, 8), **options):
    """Return the restorer that puts the brightest pixel first."""
    estimator = TranslationEstimator(1, size, hidden_channels=[], kernel_size=1, **options)
    estimator.layers[0].weight.data.fill_(1.0)  # scores are the image
    return RestoreTransform(estimator)


def evaluated(classifier, batches, restorers=None, motions=None, **options):
    """Call `evaluate` without a progress bar, by default for shifts of 0 and 1."""
    return evaluate(
        classifier,
        batches,
        restorers=restorers or {},
        motions=shift_motions((0, 1)) if motions is None else motions,
        progress=False,
        **options,
    )
