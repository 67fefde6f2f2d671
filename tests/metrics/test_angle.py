import pytest
import torch

from eqrestore_lightning.functional import angle_error
from eqrestore_lightning.metrics import AngleAccuracy, AngleDistance

ESTIMATED = torch.tensor([[0.0], [-179.0], [359.0], [90.0]])
TARGET = torch.tensor([[5.0], [179.0], [-1.0], [270.0]])


def test_angles_differ_by_the_shorter_way_around():
    error = angle_error(ESTIMATED, TARGET)
    assert error.flatten().tolist() == [5, 2, 0, 180]
    assert torch.equal(angle_error(TARGET, ESTIMATED), error)
    assert angle_error(ESTIMATED.double(), TARGET.double()).dtype == torch.float64
    message = r"Expected `estimated` and `target` to have one shape, but got \(4, 1\) and \(4,\)\."
    with pytest.raises(ValueError, match=message):
        angle_error(ESTIMATED, TARGET[:, 0])


def test_batches_add_up():
    accuracy, distance = AngleAccuracy(tolerance=2), AngleDistance()
    for part in (slice(0, 1), slice(1, 4)):
        accuracy.update(ESTIMATED[part], TARGET[part])
        distance.update(ESTIMATED[part], TARGET[part])
    assert accuracy.compute() == 0.5  # an error of the tolerance counts as right
    assert distance.compute() == 187 / 4


def test_rejections():
    AngleAccuracy(tolerance=0)
    for tolerance in (-1, float("nan")):
        with pytest.raises(ValueError, match=r"Expected `tolerance` to be at least 0, but got"):
            AngleAccuracy(tolerance=tolerance)
