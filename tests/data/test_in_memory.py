import json
import re
import warnings
from itertools import chain
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from eqrestore_lightning.data import ImageTensors, InMemoryDataModule


class _Numbers(InMemoryDataModule):
    """Images whose one pixel and label are their number."""

    in_channels, num_classes, spatial_size = 1, 100, (1, 1)

    def load(self):
        numbers = torch.arange(100)
        whole = ImageTensors(numbers.to(torch.uint8).reshape(-1, 1, 1, 1), numbers)
        few = ImageTensors(whole.images[:11], whole.labels[:11])
        return {"train": whole, "val": few, "test": few}


class _Place:
    def __init__(self, world_size, global_rank):
        self.world_size, self.global_rank = world_size, global_rank
        self.training = False


def _labels(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return [labels.tolist() for _, labels in loader]


def test_batches_hold_images_from_0_to_1_and_labels():
    images, labels = next(iter(_Numbers(batch_size=8).train_dataloader()))
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    torch.testing.assert_close(images.flatten() * 255, labels.float())


def test_training_is_shuffled_anew_each_epoch_and_leaves_out_the_last_batch():
    loader = _Numbers(batch_size=8).train_dataloader()
    first, second = _labels(loader, 0), _labels(loader, 1)
    assert len(first) == 12
    order = list(chain(*first))
    assert sorted(order) != order
    assert first != second
    assert first == _labels(_Numbers(batch_size=8).train_dataloader(), 0)
    assert first != _labels(_Numbers(batch_size=8, seed=1).train_dataloader(), 0)


@pytest.mark.parametrize("num_processes", [2, 4])
def test_a_step_sees_the_same_images_for_any_number_of_processes(num_processes):
    one = _labels(_Numbers(batch_size=8).train_dataloader(), epoch=3)
    parts = []
    for rank in range(num_processes):
        data = _Numbers(batch_size=8)
        data.trainer = _Place(num_processes, rank)
        parts.append(_labels(data.train_dataloader(), epoch=3))
    steps = [sorted(chain(*step)) for step in zip(*parts, strict=True)]
    assert steps == [sorted(batch) for batch in one]


def test_evaluation_takes_every_image_once_over_all_processes():
    seen = []
    for rank in range(2):
        data = _Numbers(batch_size=8)
        data.trainer = _Place(2, rank)
        seen += chain(*_labels(data.test_dataloader()))
    assert sorted(seen) == list(range(11))


def test_floats_are_served_as_they_are():
    signals = torch.randn(5, 2, 7)
    served, _ = next(iter(ImageTensors(signals, torch.zeros(5).long()).loader(3)))
    assert torch.equal(served, signals[:3])


class _Named(_Numbers):
    def __init__(self, root, sizes=(3, 4), *, transform=None, table=None, **options):
        super().__init__(**options)


def _double(x):
    return 2 * x


def test_settings_are_kept_as_plain_json_types():
    data = _Named(Path("some") / "where", (5, (6, 7)), transform=_double, batch_size=9)
    assert dict(data.hparams) == {
        "root": str(Path("some") / "where"),
        "sizes": [5, [6, 7]],
        "transform": f"{__name__}._double",
        "table": None,
        "batch_size": 9,
        "seed": 0,
        "num_workers": 0,
    }
    assert data.settings == {"kind": "_Named", **data.hparams}
    assert json.loads(json.dumps(data.settings)) == data.settings
    other = _Named("x", transform=re.compile("a"), table={1: [Path("y")]}).settings
    assert other["transform"] == "re.Pattern"
    assert other["table"] == {"1": ["y"]}
    assert dict(_Numbers(seed=3).hparams) == {"batch_size": 256, "seed": 3, "num_workers": 0}


def test_checkpoints_keep_the_settings_of_their_data(tmp_path):
    class _Fitted(lightning.LightningModule):
        def __init__(self, seed):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch[0].flatten(1)).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=CSVLogger(tmp_path),  # another `seed` than the module's must not disturb it
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        log_every_n_steps=1,
    )
    with warnings.catch_warnings(action="ignore"):
        trainer.fit(_Fitted(seed=1), datamodule=_Named(tmp_path, seed=2, batch_size=50))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    loaded = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert loaded["datamodule_hyper_parameters"]["root"] == str(tmp_path)
    assert loaded["datamodule_hyper_parameters"]["seed"] == 2
    assert loaded["hyper_parameters"] == {"seed": 1}


def test_fingerprints_tell_data_apart_and_nothing_else():
    first = _Numbers().fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert _Numbers(batch_size=3, seed=5).fingerprint() == first

    class _Changed(_Numbers):
        def __init__(self, change):
            super().__init__()
            self.change = change

        def load(self):
            parts = super().load()
            return {split: self.change(split, part) for split, part in parts.items()}

    def pixel(split, part):
        images = part.images.clone()
        images[7] += split == "val"
        return ImageTensors(images, part.labels)

    def label(split, part):
        return ImageTensors(part.images, part.labels + (split == "test"))

    def shape(split, part):
        return ImageTensors(part.images.squeeze(3), part.labels)

    def order(split, part):
        return ImageTensors(part.images.flip(0), part.labels.flip(0))

    def dtype(split, part):
        return ImageTensors(part.images, part.labels.int())

    def one_less(split, part):
        first = int(split == "train")
        return ImageTensors(part.images[first:], part.labels[first:])

    changes = (pixel, label, shape, order, dtype, one_less)
    found = {_Changed(change).fingerprint() for change in changes}
    assert len(found | {first}) == len(changes) + 1
    same = _Changed(lambda split, part: ImageTensors(part.images.mT.clone().mT, part.labels))
    assert same.fingerprint() == first


def test_a_split_is_described():
    assert _Numbers().describe_split() == (
        "100 images for training, 11 for validation, 11 for testing."
    )
    assert _Numbers().names("val")[:2] == ["val image 0", "val image 1"]
    assert _Numbers().sources("val") == _Numbers().names("val")


def test_rejections():
    with pytest.raises(ValueError, match=r"Expected `batch_size` to be at least 1, but got 0\."):
        _Numbers(batch_size=0)
    message = "Expected `batch_size` to be at most the number of training images, 100, but got 101."
    with pytest.raises(ValueError, match=re.escape(message)):
        _Numbers(batch_size=101).train_dataloader()
    data = _Numbers(batch_size=9)
    data.trainer = _Place(2, 0)
    message = "Expected `batch_size` to be a multiple of the number of processes, 2, but got 9."
    with pytest.raises(ValueError, match=re.escape(message)):
        data.train_dataloader()
    data = _Numbers(batch_size=12)
    data.trainer = _Place(12, 0)
    message = "Expected at least one test image for each of 12 processes, but got 11."
    with pytest.raises(ValueError, match=re.escape(message)):
        data.test_dataloader()
    with pytest.raises(ValueError, match=r"Expected `split` to be one of .*, but got 'all'"):
        _Numbers().dataset("all")
    message = "Expected `images` to have dtype torch.uint8 or torch.float32, but got torch.float64."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ImageTensors(torch.rand(2, 1, 3, 3, dtype=torch.float64), torch.zeros(2))
    with pytest.raises(ValueError, match=r"Expected as many labels as images, 2, but got 3\."):
        ImageTensors(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3))
