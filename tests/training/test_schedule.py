"""The learning rate falls toward any end of training that is known; others are refused."""

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer
from torch.utils.data import DataLoader, IterableDataset

from eqrestore_lightning import ClassifierModule, RestorerModule, TranslationEstimator
from eqrestore_lightning.training._schedule import elapsed_share

SIZE = (8, 8)
MODULES = {
    "restorer": (lambda: RestorerModule(TranslationEstimator(1, SIZE, kernel_size=3)), 1e-2, 1e-5),
    "classifier": (lambda: ClassifierModule(1, 2), 4e-3, 1.6e-8),
}


class _Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


class _Watch(lightning.Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_end(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


class _Clock(Timer):
    """A timer by which every batch takes a twentieth of a second."""

    batches = 0

    def time_elapsed(self, stage=None):
        return self.batches / 20

    def on_train_batch_end(self, *args, **kwargs):
        self.batches += 1
        super().on_train_batch_end(*args, **kwargs)


@pytest.fixture
def fit(build_trainer):
    """Train on four batches an epoch; return the number of steps and their learning rates."""

    def run(module, *, stream=False, callbacks=(), **options):
        watch = _Watch()
        trainer = build_trainer(callbacks=[watch, *callbacks], **options)
        samples = [(torch.rand(1, *SIZE), number % 2) for number in range(16)]
        trainer.fit(module, DataLoader(_Stream(samples) if stream else samples, batch_size=4))
        return trainer.global_step, watch.rates

    return run


ENDS = [
    (False, {"max_epochs": 3}, 12),
    (False, {"max_epochs": 3, "limit_train_batches": 0.5}, 6),
    (False, {"max_epochs": 3, "max_steps": 7}, 7),
    (False, {"max_epochs": 2, "max_steps": 70}, 8),
    (False, {"max_epochs": 4, "accumulate_grad_batches": 3}, 8),
    (
        False,
        {"max_epochs": 3, "callbacks": lambda: [GradientAccumulationScheduler({0: 4, 2: 1})]},
        6,
    ),
    (False, {"max_epochs": 3, "max_time": {"hours": 9}}, 12),
    (True, {"max_steps": 7}, 7),
    (True, {"max_epochs": 3, "limit_train_batches": 2}, 6),
    (True, {"max_epochs": -1, "callbacks": lambda: [_Clock({"seconds": 1})]}, 20),
    (True, {"max_steps": 900, "callbacks": lambda: [_Clock({"seconds": 1})]}, 20),
]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(("stream", "options", "steps"), ENDS)
def test_the_learning_rate_falls_toward_the_end(name, stream, options, steps, fit):
    build, highest, lowest = MODULES[name]
    options = dict(options)
    callbacks = options.pop("callbacks", list)()
    taken, rates = fit(build(), stream=stream, callbacks=callbacks, **options)
    assert taken == steps
    assert highest / 5 < max(rates) <= highest * 1.0001
    assert rates[-1] < max(rates) / 30 or "callbacks" in options
    assert rates[-1] >= lowest * 0.99


def test_the_learning_rate_of_a_restorer_follows_max_time(fit):
    build, highest, _ = MODULES["restorer"]
    steps, rates = fit(build(), max_epochs=-1, callbacks=[_Clock({"seconds": 2})])
    assert steps == len(rates) == 40
    assert rates[0] == pytest.approx(2 / 500 * highest)  # the second of 500 steps of warm-up
    assert rates[4:11] == [highest] * 7  # from a tenth to a quarter of the time
    assert rates[11:] == sorted(rates[11:], reverse=True)
    assert rates[-1] == pytest.approx(highest * 1e-3 ** ((39 / 40 - 0.25) / 0.75))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("stream", "options", "message"),
    [
        (True, {"max_epochs": 3}, "a loader without length and `max_epochs` = 3"),
        (True, {"max_epochs": 3, "max_time": {"hours": 1}}, "a loader without length and `max_ep"),
        (False, {"max_epochs": -1}, "`max_epochs`, `max_steps` or `max_time`, toward which"),
        (True, {"max_epochs": -1}, "`max_epochs`, `max_steps` or `max_time`, toward which"),
    ],
)
def test_training_whose_end_is_not_known_is_refused(name, stream, options, message, fit):
    with pytest.raises(ValueError, match=message):
        fit(MODULES[name][0](), stream=stream, **options)


def test_without_max_time_no_share_of_it_has_passed(build_trainer):
    assert elapsed_share(build_trainer(max_epochs=1)) == 0.0
