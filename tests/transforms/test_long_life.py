"""Many images, threads and processes: the same bits, and no growing memory."""

import gc
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from eqrestore_lightning import RestoreTransform
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.weights import bundled_weights


def _images(restore, count):
    size = restore.estimator.spatial_size or (40, 40)
    generator = torch.Generator().manual_seed(0)
    shape = (count, restore.estimator.in_channels, *size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", bundled_weights())
def test_eight_threads_give_the_bits_of_one(name):
    restore = RestoreTransform(name)
    parts = _images(restore, 16).split(2)
    expected = [restore(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        for part, restored in zip(expected * 2, pool.map(restore, parts * 2), strict=True):
            assert torch.equal(restored, part)


class _Restored(Dataset):
    def __init__(self, name):
        self.restore = RestoreTransform(name)
        self.images = _images(self.restore, 12)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.restore(self.images[index])


@pytest.mark.parametrize(
    "method", ["fork", *(pytest.param(m, marks=pytest.mark.slow) for m in ("spawn", "forkserver"))]
)
@pytest.mark.parametrize("name", ["digits", "photo"])
def test_workers_of_a_loader_give_the_bits_of_one_process(name, method):
    dataset = _Restored(name)
    loader = DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context=method)
    assert torch.equal(torch.cat(list(loader)), dataset.restore(dataset.images))


@pytest.mark.slow
def test_memory_stays_flat_over_a_million_images():
    restore = RestoreTransform("mnist")
    images = _images(restore, 1000)
    expected = restore(images)
    peaks = []
    for number in range(1000):
        shift = random_shift(1000, (32, 32), generator=torch.Generator().manual_seed(number))
        assert torch.equal(restore(circular_shift(images, shift)), expected)
        if number % 100 == 50:
            gc.collect()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # MiB
    assert peaks[-1] - peaks[0] < 20, peaks
