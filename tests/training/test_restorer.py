import copy
import json
import re

import lightning
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from eqrestore_lightning import (
    DigitsDataModule,
    QuarterTurnEstimator,
    RestorerModule,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    circular_shift,
    load_estimator,
    zero_fill_shift,
)
from eqrestore_lightning.training import RestoredImageGrid, draw_for_batch, step_generator

# Lightning and torch warn about workers, forking, and each other's deprecations, not about us.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*LeafSpec",
    "ignore:.*fork",
    "ignore:.*log_every_n_steps",
    "ignore:.*ModelSummary",
    "ignore:.*litlogger",
    "ignore:.*val_dataloader",
)
SIZE = (12, 14)


def _estimator(**options):
    arguments = {"hidden_channels": [3], "kernel_size": ["full", 1], "bias": True}
    return TranslationEstimator(1, SIZE, **{**arguments, **options})


def _blobs(count=96):
    """Images with a bright corner of random height: they show where they belong."""
    images = 0.2 * torch.rand(count, 1, *SIZE)
    images[:, :, 2:5, 3:9] += 0.5 + 0.3 * torch.rand(count, 1, 3, 6)
    return images


def _trainer(folder, **options):
    arguments = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return lightning.Trainer(**{**arguments, **options})


def test_five_lines_on_ones_own_loader_restore(tmp_path):
    images = _blobs()
    module = RestorerModule(_estimator(), learning_rate=1e-2)
    _trainer(tmp_path, max_epochs=30).fit(module, DataLoader(images, batch_size=32))
    restore = RestoreTransform(module.estimator)
    moved = images.roll((5, -3), (2, 3))
    assert torch.equal(restore(moved), images)
    with Image.open(tmp_path / "restored.png") as grid:
        assert grid.size == (8 * (SIZE[1] + 2) + 2, 3 * (SIZE[0] + 2) + 2)


def test_metrics_are_logged_for_every_stage(tmp_path):
    trainer = _trainer(tmp_path)
    module = RestorerModule(_estimator(), max_shift=3)
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


def test_within_one_pixel_is_counted_apart_from_exact(tmp_path):
    estimator = TranslationEstimator(1, SIZE, hidden_channels=[], kernel_size=1)
    estimator.layers[0].weight.data.fill_(1.0)  # scores are the image: brightest place
    images = torch.zeros(8, 1, *SIZE)
    images[:4, 0, 0, 0] = 1.0
    images[4:, 0, 0, 1] = 1.0
    loader = DataLoader(images, batch_size=4)  # the first batch is right by both counts
    module = RestorerModule(estimator)
    (result,) = _trainer(tmp_path).test(module, loader, verbose=False)
    assert result["test/shift_accuracy"] == 0.5
    assert result["test/shift_accuracy_1px"] == 1.0
    assert result["test/shift_distance"] == 0.5


def test_every_batch_draws_new_shifts_also_under_accumulation(tmp_path):
    drawn = []

    class _Watched(RestorerModule):
        def _moved(self, batch, step):
            x, shift = super()._moved(batch, step)
            drawn.append(shift.tolist())
            return x, shift

    trainer = _trainer(tmp_path, max_epochs=2, accumulate_grad_batches=3)
    trainer.fit(_Watched(_estimator(), max_shift=5), DataLoader(_blobs(), batch_size=32))
    assert len(drawn) == 6
    assert len({str(shift) for shift in drawn}) == 6


def test_hyper_parameters_changed_before_fit_count(tmp_path):
    module = RestorerModule(_estimator())
    module.hparams["learning_rate"] = 1e-12
    before = copy.deepcopy(module.estimator.state_dict())
    _trainer(tmp_path, max_epochs=1).fit(module, DataLoader(_blobs(), batch_size=32))
    for name, value in module.estimator.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=1e-6)


def test_training_without_an_end_is_refused(tmp_path):
    trainer = _trainer(tmp_path, max_epochs=-1, max_time={"seconds": 1})
    with pytest.raises(ValueError, match="Expected the `Trainer` to have `max_epochs` or `max_st"):
        trainer.fit(RestorerModule(_estimator()), DataLoader(_blobs(), batch_size=32))


@pytest.mark.parametrize("channels", [1, 2])
def test_pictures_need_one_or_three_channels_and_take_loaders_in_a_list(channels, tmp_path):
    module = RestorerModule(TranslationEstimator(channels, SIZE, kernel_size=3))
    loader = DataLoader(_blobs().expand(-1, channels, -1, -1), batch_size=32)
    _trainer(tmp_path, max_epochs=1).fit(module, loader, [loader])
    assert (tmp_path / "restored.png").is_file() == (channels == 1)


@pytest.mark.parametrize(
    ("fill", "move"), [("circular", circular_shift), ("zeros", zero_fill_shift)]
)
def test_targets_move_along_with_the_images(fill, move):
    module = RestorerModule(_estimator(), max_shift=4, fill=fill)
    images = _blobs(16)
    moved, shift = module._moved(images, 7)
    assert shift.abs().max() <= 4
    assert len(shift.unique(dim=0)) > 5
    assert torch.equal(moved, move(images, shift))
    assert torch.equal(module._moved(images, 7)[1], shift)
    assert not torch.equal(module._moved(images, 8)[1], shift)
    scores = torch.zeros(16, *SIZE)
    for row, place in enumerate(shift.tolist()):
        scores[(row, *place)] = 50.0  # negative places count from the end, as shifts do
    assert module.estimator.loss(scores, shift) < 1e-6


def test_circular_shifts_of_training_images_do_not_change_the_loss():
    images = _blobs(16)
    estimator = _estimator()
    plain = RestorerModule(estimator).training_step(images, 0)
    shifted = RestorerModule(estimator, max_shift=5).training_step((images, torch.zeros(16)), 0)
    assert_close(shifted, plain, rtol=1e-4, atol=1e-5)


def test_two_processes_reach_the_weights_of_one(tmp_path):
    weights, starts = [], []
    for devices in (1, 2):
        lightning.seed_everything(0, verbose=False)
        module = RestorerModule(
            TranslationEstimator(1, (32, 32), hidden_channels=[2], kernel_size=["full", 1]),
            max_shift=3,
            fill="zeros",
        )
        trainer = _trainer(
            tmp_path,
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


def test_checkpoints_resume_and_restore(tmp_path):
    loader = DataLoader(_blobs(), batch_size=32)
    module = RestorerModule(_estimator(), learning_rate=2e-3, max_shift=2, fill="zeros", seed=5)
    trainer = _trainer(tmp_path)
    trainer.fit(module, loader)
    trainer.save_checkpoint(tmp_path / "e.ckpt")
    loaded = RestorerModule.load_from_checkpoint(tmp_path / "e.ckpt", weights_only=True)
    assert dict(loaded.hparams) == dict(module.hparams)
    assert json.loads(json.dumps(dict(module.hparams)))["estimator"]["kind"]
    x = _blobs(4)
    assert torch.equal(loaded(x), module(x))
    assert torch.equal(load_estimator(tmp_path / "e.ckpt")(x), module.estimator(x))
    more = _trainer(tmp_path, max_epochs=5)
    more.fit(loaded, loader, ckpt_path=tmp_path / "e.ckpt", weights_only=True)
    assert more.current_epoch == 5


def test_the_factor_of_the_loss_moves_into_the_estimator(tmp_path):
    module = RestorerModule(_estimator())
    x = _blobs(4)

    class _Look(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            self.scores = pl_module(x).detach()
            self.log_scale = pl_module.log_scale.item()

    look = _Look()
    _trainer(tmp_path, callbacks=[look]).fit(module, DataLoader(_blobs(), batch_size=32))
    assert look.log_scale != 0
    assert module.log_scale.item() == 0
    assert_close(module.estimator(x), look.scores)


def test_a_dead_network_is_told(tmp_path):
    estimator = _estimator(kernel_size="full")
    estimator.layers[0].weight.data.zero_()
    estimator.layers[0].bias.data.fill_(0.3)  # a constant map, but for the rounding of spectra
    module = RestorerModule(estimator, learning_rate=1e-12)
    trainer = _trainer(tmp_path, max_epochs=1, callbacks=[RestoredImageGrid()])
    with pytest.warns(UserWarning, match="all scores were equal for 96 training images"):
        trainer.fit(module, DataLoader(_blobs(), batch_size=32))
    assert trainer.callback_metrics["train/constant_scores"] == 96


def test_predictions_are_shifts_and_margins(tmp_path):
    module = RestorerModule(_estimator())
    images = _blobs(5)
    predictions = _trainer(tmp_path).predict(module, DataLoader(images, batch_size=5))
    restore = RestoreTransform(module.estimator)
    assert torch.equal(predictions[0]["shift"], restore.estimate(images))
    assert torch.equal(predictions[0]["margin"], restore.margin(images))


def test_ones_own_picture_takes_the_place_of_the_default(tmp_path):
    module = RestorerModule(_estimator())
    own = RestoredImageGrid(num_images=2, max_shift=1)
    trainer = _trainer(tmp_path, max_epochs=1, callbacks=[own])
    trainer.fit(module, DataLoader(_blobs(), batch_size=32))
    with Image.open(tmp_path / "restored.png") as grid:
        assert grid.width == 2 * (SIZE[1] + 2) + 2
    assert sum(isinstance(callback, RestoredImageGrid) for callback in trainer.callbacks) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fill": "mirror"}, "Expected `fill` to be one of ('circular', 'zeros'), but got"),
        ({"max_shift": -1}, "from 0 to the size of the image, 12, but got -1."),
        ({"max_shift": 13}, "from 0 to the size of the image, 12, but got 13."),
        ({"learning_rate": 0.0}, "Expected `learning_rate` to be above 0, but got 0.0."),
        ({"weight_decay": -0.1}, "Expected `weight_decay` to be at least 0, but got -0.1."),
        ({"gradient_clip_norm": 0}, "Expected `gradient_clip_norm` to be above 0, but got 0."),
    ],
)
def test_rejections(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RestorerModule(_estimator(), **options)
    with pytest.raises(TypeError, match="Expected `estimator` to be a TrainableEstimator or its"):
        RestorerModule(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="Expected a batch to be images or to begin with them"):
        RestorerModule(_estimator()).training_step(["image"], 0)
    with pytest.raises(ValueError, match="Expected `num_images` to be at least 1"):
        RestoredImageGrid(num_images=0)


def test_processes_share_what_one_would_draw():
    class _Trainer:
        def __init__(self, processes, rank):
            self.world_size, self.global_rank = processes, rank

    def draw(count, generator):
        return torch.rand(count, 2, generator=generator)

    def drawn(processes, rank, seed=5, step=7):
        trainer = _Trainer(processes, rank)
        return draw_for_batch(draw, 6 // processes, trainer=trainer, seed=seed, step=step)

    whole = drawn(1, 0)
    shares = [drawn(3, rank) for rank in range(3)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole)
    assert torch.equal(draw_for_batch(draw, 6, trainer=None, seed=5, step=7), whole)
    assert not torch.equal(drawn(1, 0, seed=6), whole)
    assert not torch.equal(drawn(1, 0, step=8), whole)


@pytest.mark.parametrize("max_shift", [0, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        TranslationEstimator(1, (12, 12)),
        RotationEstimator(1, (12, 12), num_angles=12),
        QuarterTurnEstimator(1, (12, 12), mirrors=True),
        RotoTranslationEstimator(1, (12, 12), translation={}, rotation={"num_angles": 12}),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_first_images_draw_the_same_however_many_follow(estimator, max_shift):
    if isinstance(estimator, RotationEstimator):
        max_shift = 0

    def draw(count):
        return estimator.random_element(count, max_shift=max_shift, generator=step_generator(3, 5))

    assert torch.equal(draw(40)[:7], draw(7))
