import copy
import json
import math
import re
from pathlib import Path

import lightning
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    DigitsDataModule,
    Product,
    QuarterTurn,
    RestorerModule,
    RestoreTransform,
    Shift,
    TranslationEstimator,
    Turn,
    circular_shift,
    load_estimator,
)
from eqrestore_lightning.functional._shift import zero_fill_shift
from eqrestore_lightning.theory import ConstructedEstimator
from eqrestore_lightning.training._callbacks import RestoredImageGrid
from eqrestore_lightning.training._draw import draw_for_batch

SIZE = (12, 14)


def _estimator(**options):
    arguments = {"hidden_channels": [3], "kernel_size": ["full", 1], "bias": True}
    return TranslationEstimator(1, SIZE, **{**arguments, **options})


def _blobs(count=96):
    """Images with a bright corner of random height: they show where they belong."""
    images = 0.2 * torch.rand(count, 1, *SIZE)
    images[:, :, 2:5, 3:9] += 0.5 + 0.3 * torch.rand(count, 1, 3, 6)
    return images


def test_five_lines_on_ones_own_loader_restore(tmp_path, build_trainer):
    images = _blobs()
    module = RestorerModule(_estimator(), learning_rate=1e-2)
    build_trainer(max_epochs=30).fit(module, DataLoader(images, batch_size=32))
    restore = RestoreTransform(module.estimator)
    moved = images.roll((5, -3), (2, 3))
    assert torch.equal(restore(moved), images)
    with Image.open(tmp_path / "restored.png") as grid:
        width, height = 8 * (SIZE[1] + 2) + 2, 3 * (SIZE[0] + 2) + 2
        assert grid.size == (6 * width + 80, 6 * height)  # enlarged, with names beside the rows


def test_metrics_are_logged_for_every_stage(build_trainer):
    trainer = build_trainer(max_epochs=3)
    module = RestorerModule(_estimator(), motion=Shift(max_shift=3))
    loader = DataLoader(_blobs(), batch_size=32)
    trainer.fit(module, loader, loader)
    assert set(trainer.callback_metrics) == {
        "train/loss",
        "train/constant_scores",
        "val/loss",
        "val/shift_accuracy",
        "val/shift_accuracy_1px",
        "val/shift_distance",
    }
    (result,) = trainer.test(module, loader, verbose=False)
    assert 0 <= result["test/shift_accuracy"] <= result["test/shift_accuracy_1px"] <= 1


def test_every_batch_draws_new_shifts_also_under_accumulation(build_trainer):
    drawn = []

    class _Watched(RestorerModule):
        def _moved(self, batch, step):
            x, element = super()._moved(batch, step)
            drawn.append(element["shift"].tolist())
            return x, element

    trainer = build_trainer(max_epochs=2, accumulate_grad_batches=3)
    trainer.fit(
        _Watched(_estimator(), motion=Shift(max_shift=5)), DataLoader(_blobs(), batch_size=32)
    )
    assert len(drawn) == 6
    assert len({str(shift) for shift in drawn}) == 6


def test_hyper_parameters_changed_before_fit_count(build_trainer):
    module = RestorerModule(_estimator())
    module.hparams["learning_rate"] = 1e-12
    before = copy.deepcopy(module.estimator.state_dict())
    build_trainer(max_epochs=1).fit(module, DataLoader(_blobs(), batch_size=32))
    for name, value in module.estimator.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=1e-6)


class _WriteRates(lightning.Callback):
    def on_train_batch_end(self, trainer, *args):
        path = Path(trainer.default_root_dir) / f"rates-{trainer.global_rank}.txt"
        with path.open("a") as file:
            file.write(f"{trainer.optimizers[0].param_groups[0]['lr']}\n")


def test_processes_agree_how_much_time_has_passed(tmp_path, build_trainer):
    trainer = build_trainer(
        devices=2,
        strategy="ddp_fork",
        max_epochs=None,
        max_time={"seconds": 2},
        callbacks=[_WriteRates()],
    )
    trainer.fit(RestorerModule(_estimator()), DataLoader(_blobs(), batch_size=8))
    first, second = ((tmp_path / f"rates-{rank}.txt").read_text().splitlines() for rank in range(2))
    assert first == second
    assert len(first) > 2


@pytest.mark.parametrize("channels", [1, 2])
def test_pictures_need_one_or_three_channels(channels, tmp_path, build_trainer):
    module = RestorerModule(TranslationEstimator(channels, SIZE, kernel_size=3))
    loader = DataLoader(_blobs().expand(-1, channels, -1, -1), batch_size=32)
    build_trainer(max_epochs=1).fit(module, loader, [loader])
    assert (tmp_path / "restored.png").is_file() == (channels == 1)


@pytest.mark.parametrize(
    ("fill", "move"), [("circular", circular_shift), ("zeros", zero_fill_shift)]
)
def test_targets_move_along_with_the_images(fill, move):
    module = RestorerModule(_estimator(), motion=Shift(max_shift=4, fill=fill))
    images = _blobs(16)
    moved, element = module._moved(images, 7)
    shift = element["shift"]
    assert shift.abs().max() <= 4
    assert len(shift.unique(dim=0)) > 5
    assert torch.equal(moved, move(images, shift))
    assert torch.equal(module._moved(images, 7)[1]["shift"], shift)
    assert not torch.equal(module._moved(images, 8)[1]["shift"], shift)
    scores = torch.zeros(16, *SIZE)
    for row, place in enumerate(shift.tolist()):
        scores[(row, *place)] = 50.0  # negative places count from the end, as shifts do
    assert module.estimator.loss(scores, element) < 1e-6


def test_circular_shifts_of_training_images_do_not_change_the_loss():
    images = _blobs(16)
    estimator = _estimator()
    plain = RestorerModule(estimator).training_step(images, 0)
    module = RestorerModule(estimator, motion=Shift(max_shift=5))
    shifted = module.training_step((images, torch.zeros(16)), 0)
    assert_close(shifted, plain, rtol=1e-4, atol=1e-5)


def test_two_processes_reach_the_weights_of_one(build_trainer):
    weights, starts = [], []
    for devices in (1, 2):
        lightning.seed_everything(0, verbose=False)
        module = RestorerModule(
            TranslationEstimator(1, (32, 32), hidden_channels=[2], kernel_size=["full", 1]),
            motion=Shift(max_shift=3, fill="zeros"),
        )
        trainer = build_trainer(
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            max_epochs=2,
        )
        starts.append(copy.deepcopy(module.estimator.state_dict()))
        trainer.fit(module, datamodule=DigitsDataModule(batch_size=200))
        weights.append(module.estimator.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(starts[0][name], starts[1][name])
        assert (value - starts[0][name]).abs().max() > 1e-2
        assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


def test_checkpoints_resume_and_restore(tmp_path, build_trainer):
    loader = DataLoader(_blobs(), batch_size=32)
    motion = Shift(max_shift=2, fill="zeros")
    module = RestorerModule(_estimator(), motion=motion, learning_rate=2e-3, seed=5)
    trainer = build_trainer(max_epochs=3)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    loaded = RestorerModule.load_from_checkpoint(tmp_path / "e.ckpt", weights_only=True)
    assert loaded.motion == motion
    assert dict(loaded.hparams) == dict(module.hparams)
    assert json.loads(json.dumps(dict(module.hparams)))["estimator"]["kind"]
    x = _blobs(4)
    assert torch.equal(loaded(x), module(x))
    assert torch.equal(load_estimator(tmp_path / "e.ckpt")(x), module.estimator(x))
    more = build_trainer(max_epochs=5)
    more.fit(loaded, loader, ckpt_path=tmp_path / "e.ckpt", weights_only=True)
    assert more.current_epoch == 5


def test_the_factor_of_the_loss_moves_into_the_estimator(build_trainer):
    module = RestorerModule(_estimator())
    x = _blobs(4)

    class _Look(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            self.scores = pl_module(x).detach()
            self.log_scale = pl_module.log_scale.item()

    look = _Look()
    build_trainer(max_epochs=3, callbacks=[look]).fit(module, DataLoader(_blobs(), batch_size=32))
    assert look.log_scale != 0
    assert module.log_scale.item() == 0
    assert_close(module.estimator(x), look.scores)


def test_a_dead_network_is_told(build_trainer):
    estimator = _estimator(kernel_size="full")
    estimator.layers[0].weight.data.zero_()
    estimator.layers[0].bias.data.fill_(0.3)  # a constant map, but for the rounding of spectra
    module = RestorerModule(estimator, learning_rate=1e-12)
    trainer = build_trainer(max_epochs=1)
    with pytest.warns(UserWarning, match="all scores were equal for 96 training images"):
        trainer.fit(module, DataLoader(_blobs(), batch_size=32))
    assert trainer.callback_metrics["train/constant_scores"] == 96


def test_predictions_are_shifts_and_margins(build_trainer):
    module = RestorerModule(_estimator())
    images = _blobs(5)
    predictions = build_trainer().predict(module, DataLoader(images, batch_size=5))
    restore = RestoreTransform(module.estimator)
    found = restore.find(images)
    assert torch.equal(predictions[0]["shift"], found.motion["shift"])
    assert torch.equal(predictions[0]["margin"], found.margin)


def test_ones_own_picture_takes_the_place_of_the_default(tmp_path, build_trainer):
    module = RestorerModule(_estimator())
    own = RestoredImageGrid("own.png")
    trainer = build_trainer(max_epochs=1, callbacks=[own])
    trainer.fit(module, DataLoader(_blobs(), batch_size=32))
    assert [path.name for path in tmp_path.glob("*.png")] == ["own.png"]
    assert sum(isinstance(callback, RestoredImageGrid) for callback in trainer.callbacks) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"motion": Shift(max_shift=13)},
            "Expected `max_shift` to be from 0 to the size of the image, 12, but got 13.",
        ),
        (
            {"motion": Shift(axes=(-3, -2, -1))},
            "Expected images with at least 3 spatial axes, but got (12, 14).",
        ),
        (
            {"motion": Turn()},
            "Expected `motion` to have the fields that the estimator finds, ['shift'], but got "
            "['angle'].",
        ),
        ({"motion": {"kind": "Hop"}}, "Expected `config['kind']` to be one of"),
    ],
)
def test_values_that_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RestorerModule(_estimator(), **options)


def test_types_that_are_refused():
    with pytest.raises(TypeError, match="Expected `estimator` to be an Estimator or its"):
        RestorerModule(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="Expected `motion` to be a motion, its configuration or"):
        RestorerModule(_estimator(), motion=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'shift_max'"):
        RestorerModule(_estimator(), shift_max=4)
    with pytest.raises(
        TypeError, match="Expected a batch to be images, or a tuple that begins with them"
    ):
        RestorerModule(_estimator()).training_step(["image"], 0)
    constructed = ConstructedEstimator(1, SIZE, num_templates=2)
    with pytest.raises(ValueError, match="Expected `estimator` to have weights to train, but a C"):
        RestorerModule(constructed)


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        (
            [{"image": torch.rand(1, *SIZE)}],
            TypeError,
            "a dictionary of 'image'; a `collate_fn` of",
        ),
        (
            [(3, torch.rand(1, *SIZE))],
            ValueError,
            "Expected `x` to have shape (batch, 1, 12, 14), b",
        ),
        (torch.full((2, 1, *SIZE), math.nan), ValueError, "a finite loss, but got nan in epoch 0"),
        (torch.rand(2, 3, *SIZE), ValueError, "(batch, 1, 12, 14), but got (2, 3, 12, 14)."),
        (torch.rand(2, 1, 12, 13), ValueError, "(batch, 1, 12, 14), but got (2, 1, 12, 13)."),
        (torch.ones(2, 1, *SIZE, dtype=torch.uint8), TypeError, "floating, but got torch.uint8"),
        pytest.param(
            torch.rand(0, 1, *SIZE),
            ValueError,
            "Expected at least one training batch, but got none.",
            marks=pytest.mark.filterwarnings("ignore:Total length of"),
        ),
    ],
)
def test_batches_that_are_refused(batches, error, message, build_trainer):
    trainer = build_trainer(max_epochs=1)
    with pytest.raises(error, match=re.escape(message)):
        trainer.fit(RestorerModule(_estimator()), DataLoader(batches, batch_size=2))


@pytest.mark.parametrize(
    "motion",
    [
        Shift(),
        Shift(axes=(-1,), max_shift=3, fill="zeros"),
        Turn(),
        QuarterTurn(mirrors=True),
        Product(Turn(), Shift(max_shift=3)),
    ],
    ids=str,
)
def test_processes_share_what_one_would_draw(motion):
    class _Trainer:
        def __init__(self, processes, rank):
            self.world_size, self.global_rank = processes, rank

    def drawn(processes, rank, seed=5, step=7):
        trainer = _Trainer(processes, rank)
        x = torch.zeros(6 // processes, 1, *SIZE)
        element = draw_for_batch(motion, x, trainer=trainer, seed=seed, step=step)
        return torch.cat([value.reshape(len(x), -1).double() for value in element.values()], 1)

    whole = drawn(1, 0)
    shares = [drawn(3, rank) for rank in range(3)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole)
    x = torch.zeros(6, 1, *SIZE)
    alone = draw_for_batch(motion, x, trainer=None, seed=5, step=7)
    assert torch.equal(
        torch.cat([value.reshape(6, -1).double() for value in alone.values()], 1), whole
    )
    assert not torch.equal(drawn(1, 0, seed=6), whole)
    assert not torch.equal(drawn(1, 0, step=8), whole)


@pytest.mark.parametrize(
    ("size", "axes"), [((12, 14), (-1,)), ((12, 14), (-2,)), ((24,), (-1,)), ((5, 6, 8), (-3, -1))]
)
def test_shifts_along_some_axes_are_learnt(size, axes, build_trainer):
    images = 0.05 * torch.rand(64, 1, *size)
    corner = (slice(None), slice(None), *[slice(1, 1 + length // 3) for length in size])
    images[corner] += 1.0
    estimator = TranslationEstimator(1, size, axes=axes, hidden_channels=[], kernel_size="full")
    loader = DataLoader(images, batch_size=32)
    trainer = build_trainer(max_epochs=40)
    trainer.fit(RestorerModule(estimator, learning_rate=5e-2), loader, loader)
    restore = RestoreTransform(estimator)
    shift = tuple(3 + axis for axis in axes)  # below half of every axis
    moved = images.roll(shift, axes)
    assert torch.equal(restore(moved), images)
    assert restore.find(moved).motion["shift"].tolist() == [list(shift)] * 64
    assert set(trainer.callback_metrics) >= {"val/shift_accuracy", "val/shift_distance"}
