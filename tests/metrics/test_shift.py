import lightning
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from eqrestore_lightning.metrics import CircularShiftDistance, ShiftAccuracy, ShiftConsistency

ESTIMATED = torch.tensor([[0, 0], [1, 31], [2, 0], [3, -4], [0, 40]])
TARGET = torch.tensor([[32, 0], [0, 0], [0, 0], [0, 0], [0, 8]])


def test_shift_accuracy_counts_by_tolerance_on_every_axis():
    for tolerance, share in ((0, 2 / 5), (1, 3 / 5), (2, 4 / 5), (4, 1.0)):
        metric = ShiftAccuracy((32, 32), tolerance=tolerance)
        metric.update(ESTIMATED, TARGET)
        assert_close(metric.compute(), torch.tensor(share))
    with pytest.raises(ValueError, match=r"Expected `tolerance` to be at least 0, but got -1\."):
        ShiftAccuracy((32, 32), tolerance=-1)


def test_circular_shift_distance_is_the_mean_over_batches():
    metric = CircularShiftDistance((32, 32))
    metric.update(ESTIMATED[:1], TARGET[:1])
    metric.update(ESTIMATED[1:], TARGET[1:])
    assert_close(metric.compute(), torch.tensor((0 + 2**0.5 + 2 + 5 + 0) / 5))
    metric.reset()
    metric.update(ESTIMATED[3:4], TARGET[3:4])
    assert_close(metric.compute(), torch.tensor(5.0))


def test_shift_consistency_takes_logits_and_classes():
    metric = ShiftConsistency()
    metric.update(torch.eye(4), torch.tensor([0, 1, 2, 0]))
    metric.update(torch.tensor([5]), torch.tensor([5]))
    assert_close(metric.compute(), torch.tensor(4 / 5))


class _Measure(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.accuracy = ShiftAccuracy((32, 32), tolerance=1)
        self.distance = CircularShiftDistance((32, 32))
        self.consistency = ShiftConsistency()

    def validation_step(self, batch, batch_idx):
        estimated, target = batch
        self.accuracy.update(estimated, target)
        self.distance.update(estimated, target)
        self.consistency.update(estimated[:, 0], target[:, 0])
        self.log("accuracy", self.accuracy)
        self.log("distance", self.distance)
        self.log("consistency", self.consistency)


@pytest.mark.filterwarnings("ignore")  # Lightning and torch warn about forking, not about metrics
def test_metrics_are_right_over_two_processes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    estimated, target = torch.randint(-2, 3, (2, 24, 2), generator=generator)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    data = DataLoader(TensorDataset(estimated, target), batch_size=4)
    (result,) = trainer.validate(_Measure(), data, verbose=False)
    expected = ShiftAccuracy((32, 32), tolerance=1), CircularShiftDistance((32, 32))
    for metric in expected:
        metric.update(estimated, target)
    same = (estimated[:, 0] == target[:, 0]).float().mean().item()
    assert_close(result["accuracy"], expected[0].compute().item())
    assert_close(result["distance"], expected[1].compute().item())
    assert_close(result["consistency"], same)
