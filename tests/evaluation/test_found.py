import pytest
import torch
from torch import nn
from torch.testing import assert_close

from eqrestore_lightning import RestoreTransform, Shift, TranslationEstimator, Turn
from eqrestore_lightning.data import ImageTensors
from eqrestore_lightning.evaluation._found import (
    count_differing,
    gate_rows,
    motion_found,
    shifts_found,
)
from eqrestore_lightning.evaluation._restorers import Rule


def _brightest(size=(8, 8), **options):
    estimator = TranslationEstimator(1, size, hidden_channels=[], kernel_size=1)
    estimator.layers[0].weight.data.fill_(1.0)  # scores are the image
    return RestoreTransform(estimator, **options)


def _spots(count=40, size=(8, 8)):
    images = 0.2 * torch.rand(count, 1, *size)
    images.flatten(2)[:, :, 0] = 0.5 + 0.5 * torch.rand(count, 1)
    return images


@pytest.mark.parametrize("size", [(8, 8), (12,), (4, 5, 6)])
def test_shifts_are_found_in_batches_of_data_sets_and_iterables(size):
    images = (255 * _spots(size=size)).byte()
    restore = _brightest(size)
    off_by_one = Rule(lambda x: restore.find(x).motion["shift"] + 1)
    labels = torch.zeros(40).long()
    pairs = ((images[:30], labels[:30]), (images[30:], labels[30:]))
    for batches in (ImageTensors(images, labels), pairs, iter(pairs), [images]):
        assert shifts_found(batches, restore) == {"exact, %": 100, "≤ 1 px, %": 100}
    assert shifts_found(pairs, off_by_one) == {"exact, %": 0, "≤ 1 px, %": 100}


def test_any_motion_is_looked_for():
    images = _spots()
    motion = Shift((-1,), max_shift=2)
    right = Rule(lambda x: x[:, 0, 0].argmax(1, keepdim=True), motion=motion)
    found = motion_found([images], right, motion=motion)
    assert found == {"shift_accuracy": 1.0, "shift_accuracy_1px": 1.0, "shift_distance": 0.0}
    nothing = Rule(lambda x: torch.zeros(len(x), 1).long(), motion=motion)
    found = motion_found([images], nothing, motion=motion)
    assert 0 < found["shift_accuracy"] < found["shift_accuracy_1px"] < 1
    assert motion_found([images], nothing, motion=motion, seed=1) != found
    with pytest.raises(ValueError, match=r"a restorer that finds \{'angle': \(40,\)\}, but got"):
        motion_found([images], _brightest(), motion=Turn())
    with pytest.raises(ValueError, match="Expected `batches` to hold images, but got none"):
        shifts_found([], _brightest())


class _TopLeft(nn.Module):
    def forward(self, x):
        bright = x[:, 0, 0, 0] >= 0.5
        return torch.stack([~bright, bright], dim=1).float()


def test_gates():
    images = _spots(100)
    images[:10] = 0.3 + 0.01 * torch.rand(10, 1, 8, 8)  # nothing to be found, and small margins
    labels = torch.cat([torch.zeros(10), torch.ones(90)]).long()
    batches = [(images[:60], labels[:60]), (images[60:], labels[60:])]
    classifier = _TopLeft().train()
    restore = _brightest()
    motion = Shift(max_shift=2)
    rows = gate_rows(classifier, batches, restore, motion=motion)
    assert classifier.training
    assert rows[0] == {
        "`min_margin`": 0.0,
        "unmoved: left as they are, %": 0.0,
        "unmoved: accuracy, %": 100.0,
        "moved: left as they are, %": 0.0,
        "moved: accuracy, %": 100.0,
    }
    margins = restore.find(images).margin
    last = rows[-1]
    assert_close(last["`min_margin`"], float(margins.quantile(0.1)))
    assert last["unmoved: left as they are, %"] == last["moved: left as they are, %"] == 10
    chosen = gate_rows(classifier, batches, restore, motion=motion, min_margins=[0.05, 9])
    assert [row["`min_margin`"] for row in chosen] == [0.05, 9]
    assert chosen[1]["moved: left as they are, %"] == 100
    assert chosen[1]["moved: accuracy, %"] < 30
    gated = RestoreTransform(restore.estimator, min_margin=9)
    (_, row) = chosen
    view = motion.apply(images, motion.draw(100, (8, 8)))
    assert torch.equal(gated(view), view)
    assert row["unmoved: accuracy, %"] == 100


def test_gates_need_images_and_no_gate():
    with pytest.raises(ValueError, match=r"no gate, but its `min_margin` is 0\.5\."):
        gate_rows(_TopLeft(), [], _brightest(min_margin=0.5), motion=Shift())
    with pytest.raises(ValueError, match="Expected `batches` to hold images, but got none"):
        gate_rows(_TopLeft(), [], _brightest(), motion=Shift())


def test_gates_without_a_classifier_count_images_that_are_as_before():
    images = _spots(50)
    images[:5] = 0.3  # constant: left as they are however they are moved
    restore, motion = _brightest(), Shift(max_shift=2)
    first, last = gate_rows(None, [images], restore, motion=motion, min_margins=[0, 9], seed=4)
    assert first["unmoved: as before, %"] == first["moved: as before, %"] == 100
    draw = motion.draw(50, (8, 8), generator=torch.Generator().manual_seed(4))
    still = (motion.apply(images, draw) == images).flatten(1).all(1).double().mean()
    assert last["unmoved: as before, %"] == 100
    assert last["moved: as before, %"] == pytest.approx(100 * float(still))


def test_restored_images_that_differ_are_counted():
    images = _spots(30)

    def shifted(x):
        return (x.roll(shift, 3) for shift in range(8))

    restore = _brightest()
    assert count_differing(restore, images, shifted, batch_size=7) == {
        "images": 30,
        "pairs": 210,
        "differ": 0,
    }
    assert count_differing(nn.Identity(), images, shifted)["differ"] == 210
    images[:4] = 0.5
    assert count_differing(nn.Identity(), images, shifted)["differ"] == 26 * 7
