"""What `evaluate` refuses, and what it says."""

import re

import pytest
import torch
from evaluation.tools import Answering, TopLeft, corners, evaluated

from eqrestore_lightning import Shift
from eqrestore_lightning.evaluation import shift_motions
from eqrestore_lightning.evaluation._results import NO_RESTORER

LARGEST = "Expected `crop` to be at least the largest shift, "


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"restorers": {NO_RESTORER: lambda x: x}}, ValueError, "than 'no restorer'."),
        ({"restorers": {"r": 3}}, TypeError, "to have `find` and `undo` or to be callable, but"),
        ({"motions": {}}, ValueError, "Expected `motions` to hold a motion, but got none."),
        ({"motions": {"9": Shift(max_shift=9)}}, ValueError, "0 to the size of the image, 8, "),
        ({"motions": {"x": Shift((-3,))}}, ValueError, "images with at least 3 spatial axes"),
        ({"crop": -1}, ValueError, "Expected `crop` to be at least 0, but got -1."),
        ({"crop": 4}, ValueError, "to be below half of the size of the images, (8, 8)"),
        ({"crop": 1, "motions": shift_motions((1, 2))}, ValueError, f"{LARGEST}2, so that nothing"),
        ({"crop": 1, "motions": {"x": Shift()}}, ValueError, f"{LARGEST}half of each axis, so"),
    ],
)
def test_options_that_are_refused(options, error, message):
    classifier = TopLeft().train()
    with pytest.raises(error, match=re.escape(message)):
        evaluated(classifier, corners(), **options)
    assert classifier.training


X = torch.rand(8, 1, 8, 8)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ValueError, "Expected `batches` to hold images, but got none."),
        ([(X, torch.full((8,), 2))], ValueError, "as there are 2 logits, but got 2 to 2."),
        ([(X, torch.full((8,), -1))], ValueError, "labels from 0 to 1, as there are 2 logits, but"),
        ([(X, torch.ones(8, 1).long())], ValueError, "(8,), but got (8, 1)."),
        ([(X, torch.ones(7).long())], ValueError, "(8,), but got (7,)."),
        ([(X, torch.ones(8))], TypeError, "integers, but got torch.float32."),
        ([(X, [1] * 8)], TypeError, "but got Tensor and list."),
        ([X], TypeError, "pairs of images and labels, but got a Tensor."),
        ([{"image": X}], TypeError, "images and labels, but got a dict."),
        ([(X,)], TypeError, "images and labels, but got a tuple of 1 parts."),
    ],
)
def test_batches_that_are_refused(batches, error, message):
    with pytest.raises(error, match=re.escape(message)):
        evaluated(TopLeft(), batches)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda x: x, ValueError, "(batch, num_classes), but got (25, 1, 8, 8) for 25 images."),
        (lambda x: x.flatten(1).long(), TypeError, "Expected floating logits, but got torch.int64"),
        (lambda x: x.flatten(1) * torch.nan, ValueError, "to return numbers, but got NaN."),
        (lambda x: x[:-1].flatten(1), ValueError, "but got (24, 64) for 25 images."),
        (lambda x: {"scores": x}, TypeError, "to return logits, but got NoneType."),
        (lambda x: "no", TypeError, "to return logits, but got str."),
    ],
)
def test_answers_that_are_refused(answer, error, message):
    with pytest.raises(error, match=re.escape(message)):
        evaluated(Answering(answer), corners())


def test_images_of_several_sizes_in_a_batch_are_explained():
    images = [(torch.rand(1, 8, 8 + number), 1) for number in range(4)]
    with pytest.raises(ValueError, match="Expected images of one size in each batch; resize them"):
        evaluated(TopLeft(), torch.utils.data.DataLoader(images, batch_size=4))
    one_by_one = torch.utils.data.DataLoader(images, batch_size=1)
    assert evaluated(TopLeft(), one_by_one).num_images == 4
