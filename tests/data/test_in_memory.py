import re
from itertools import chain

import pytest
import torch

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
    with pytest.raises(TypeError, match=r"Expected `images` to have dtype torch\.uint8, but got"):
        ImageTensors(torch.rand(2, 1, 3, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"Expected as many labels as images, 2, but got 3\."):
        ImageTensors(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3))
