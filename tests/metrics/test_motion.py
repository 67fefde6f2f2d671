import lightning
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from eqrestore_lightning.functional._errors import motion_accuracy, motion_distance
from eqrestore_lightning.metrics import Consistency, MotionAccuracy, MotionDistance
from eqrestore_lightning.metrics._motion import motion_metrics
from eqrestore_lightning.motions import Field, Product, QuarterTurn, Shift, Turn

SIZE = (32, 40)
ESTIMATED = torch.tensor([[0, 0], [1, 39], [2, 0], [3, -4], [0, 48]])
TARGET = torch.tensor([[32, 0], [0, 0], [0, 0], [0, 0], [0, 8]])


def test_distance_is_the_mean_over_images_of_all_batches():
    metric = MotionDistance()
    metric.update(ESTIMATED[:1], TARGET[:1], SIZE)
    metric.update(ESTIMATED[1:], TARGET[1:], SIZE)
    assert_close(metric.compute(), torch.tensor((0 + 2**0.5 + 2 + 5 + 0) / 5))
    metric.reset()
    metric.update(ESTIMATED[3:4], TARGET[3:4], SIZE)
    assert_close(metric.compute(), torch.tensor(5.0))


def test_empty_batches_add_nothing():
    empty = torch.zeros(0, 2, dtype=torch.int64)
    metrics = MotionAccuracy(), MotionDistance()
    for metric in metrics:
        metric.update(empty, empty, SIZE)
        metric.update(ESTIMATED[3:4], TARGET[3:4], SIZE)
    assert [metric.compute() for metric in metrics] == [0, 5]


@pytest.mark.parametrize("num_columns", [0, 1, 3])
def test_metrics_are_means_of_the_functions_of_the_same_names(num_columns):
    shape = (50, num_columns) if num_columns else (50,)
    estimated, target = 300 * torch.randn(2, *shape, dtype=torch.float64)
    period = (7, 360, 20)[: num_columns or 1]
    for metric, each in (
        (MotionAccuracy(tolerance=2.5), motion_accuracy(estimated, target, period, tolerance=2.5)),
        (MotionDistance(), motion_distance(estimated, target, period)),
    ):
        for part in (slice(0, 20), slice(20, 50)):
            metric.update(estimated[part], target[part], period)
        assert_close(metric.compute(), each.float().mean())


def test_directions():
    assert MotionAccuracy().higher_is_better
    assert Consistency().higher_is_better
    assert not MotionDistance().higher_is_better


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_tolerances_that_are_refused(tolerance):
    MotionAccuracy(tolerance=0)
    message = f"Expected `tolerance` to be at least 0, but got {tolerance}."
    with pytest.raises(ValueError, match=message):
        MotionAccuracy(tolerance=tolerance)


@pytest.mark.parametrize(
    ("motion", "names"),
    [
        (Shift(), ["shift_accuracy", "shift_accuracy_1px", "shift_distance"]),
        (Turn(), ["angle_accuracy_10deg", "angle_distance"]),
        (
            QuarterTurn(mirrors=True),
            ["mirrored_accuracy", "mirrored_distance", "quarters_accuracy", "quarters_distance"],
        ),
        (
            Product(Turn(), Shift(axes=(-1,))),
            [
                "angle_accuracy_10deg",
                "angle_distance",
                "shift_accuracy",
                "shift_accuracy_1px",
                "shift_distance",
            ],
        ),
    ],
    ids=str,
)
def test_every_field_of_a_motion_has_metrics(motion, names):
    assert [name for field in motion.fields for name in motion_metrics(field)] == names


def test_tolerances_of_a_field_become_accuracies():
    metrics = motion_metrics(Field("hue", "degrees", tolerances={"_3deg": 3, "_20deg": 20}))
    for metric in metrics.values():
        metric.update(torch.tensor([350.0, 2.0]), torch.tensor([1.0, 0.0]), (360,))
    values = {name: float(metric.compute()) for name, metric in metrics.items()}
    assert values == {"hue_accuracy_3deg": 0.5, "hue_accuracy_20deg": 1.0, "hue_distance": 6.5}


class _Measure(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.accuracy = MotionAccuracy(tolerance=1)
        self.distance = MotionDistance()
        self.consistency = Consistency()

    def validation_step(self, batch, batch_idx):
        estimated, target = batch
        self.accuracy.update(estimated, target, SIZE)
        self.distance.update(estimated, target, SIZE)
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
    right = motion_accuracy(estimated, target, SIZE, tolerance=1)
    assert_close(result["accuracy"], right.float().mean().item())
    assert_close(result["distance"], motion_distance(estimated, target, SIZE).mean().item())
    same = (estimated[:, 0] == target[:, 0]).float().mean().item()
    assert_close(result["consistency"], same)


def test_a_collection_tells_tolerances_apart_after_a_perfect_first_batch():
    metrics = MetricCollection(
        {"exact": MotionAccuracy(), "near": MotionAccuracy(tolerance=1), "far": MotionDistance()}
    )
    zeros = torch.zeros(2, 2, dtype=torch.int64)
    for _ in range(2):  # also after a reset
        metrics.update(zeros, zeros, (8, 8))
        metrics.update(zeros, zeros + 1, (8, 8))
        found = {name: float(value) for name, value in metrics.compute().items()}
        assert found["exact"] == 0.5
        assert found["near"] == 1.0
        assert found["far"] > 0
        metrics.reset()
