"""Crops read from disk as they are needed."""

import re
import weakref
from collections import Counter

import lightning
import PIL.Image
import pytest
import torch

from eqrestore_lightning.data import PhotoCropDataModule
from eqrestore_lightning.data._image_files import read_image

SIZES = [(40, 60), (64, 33), (50, 50), (90, 41), (41, 90), (70, 70), (45, 45), (33, 34), (48, 99)]


def _photograph(number, size):
    """An image whose pixels tell the photograph, the row and the column."""
    height, width = size
    image = torch.empty(height, width, 3, dtype=torch.uint8)
    image[..., 0] = number
    image[..., 1] = torch.arange(height).unsqueeze(1)
    image[..., 2] = torch.arange(width)
    return PIL.Image.fromarray(image.numpy())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(SIZES * 3):
        _photograph(number, size).save(root / f"{number:02}.png")
    return root


def _module(photos, **options):
    return PhotoCropDataModule(
        photos,
        **{
            "crop_sizes": [16, (8, 24)],
            "batch_size": 12,
            "train_batches": 5,
            **options,
        },
    )


def _batches(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return [images for images, _ in loader]


def test_each_batch_has_one_size_and_sizes_take_turns(photos):
    for loader in (_module(photos).train_dataloader(), _module(photos).test_dataloader()):
        shapes = [tuple(images.shape) for images in _batches(loader)]
        assert shapes[:4] == [(12, 3, 16, 16), (12, 3, 8, 24)] * 2
    assert len(_module(photos).train_dataloader()) == 5
    assert len(_module(photos).val_dataloader()) == 12
    images, labels = next(iter(_module(photos).train_dataloader()))
    assert images.dtype == torch.float32
    assert images.max() <= 1
    assert labels.tolist() == [0] * 12


def _cut(image):
    """Photograph and place of a crop, and whether its rows and columns run backwards."""
    number, rows, columns = (image * 255).round().int()
    flips = bool(rows[0, 0] > rows[-1, 0]), bool(columns[0, 0] > columns[0, -1])
    return int(number[0, 0]), int(rows.min()), int(columns.min()), *flips


def _expected(photos, cut, size):
    number, top, left, upside_down, mirrored = cut
    image = read_image(photos / f"{number:02}.png")[:, top : top + size[0], left : left + size[1]]
    axes = [axis for axis, flipped in ((1, upside_down), (2, mirrored)) if flipped]
    return image.flip(axes).float() / 255


def test_crops_are_windows_of_photographs_of_their_split(photos):
    data = _module(photos, train_batches=40)
    seen = {}
    for split, loader in {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }.items():
        cuts = []
        for images in _batches(loader):
            for image in images:
                cuts.append(_cut(image))
                assert torch.equal(image, _expected(photos, cuts[-1], image.shape[1:]))
        seen[split] = {f"{cut[0]:02}.png" for cut in cuts}
        assert seen[split] == set(data.names(split))
        assert {cut[3:] for cut in cuts} == (
            {(a, b) for a in (False, True) for b in (False, True)}
            if split == "train"
            else {(False, False)}
        )
    assert seen["train"].isdisjoint(seen["val"] | seen["test"])


def test_photographs_take_turns_and_each_serves_some_crops(photos):
    data = _module(photos, crop_sizes=[16], batch_size=15, train_batches=23)
    counts = Counter()
    for images in _batches(data.train_dataloader()):
        of_photo = Counter(_cut(image)[0] for image in images)
        assert sum(of_photo.values()) == 15
        assert len(of_photo) in (3, 4)  # 3 where one ends a round and begins the next
        counts.update(of_photo)
    assert len(counts) == 23
    assert all(12 <= count <= 16 for count in counts.values())  # 4 times 3 or 4 crops


def test_training_goes_on_to_other_crops_and_validation_does_not(photos):
    train, val = _module(photos).train_dataloader(), _module(photos).val_dataloader()
    first, second = (torch.stack(_batches(train, epoch)[::2]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert all(map(torch.equal, _batches(val, 0), _batches(val, 1)))
    again = _batches(_module(photos).train_dataloader(), 0)
    assert all(map(torch.equal, _batches(train, 0), again))
    other = _batches(_module(photos, seed=1).train_dataloader(), 0)
    assert not any(map(torch.equal, again, other))


def test_workers_change_nothing(photos):
    one = _batches(_module(photos).train_dataloader(), 2)
    two = _batches(_module(photos, num_workers=2).train_dataloader(), 2)
    assert all(map(torch.equal, one, two))


class _Place:
    def __init__(self, world_size, global_rank):
        self.world_size, self.global_rank = world_size, global_rank


@pytest.mark.parametrize("num_processes", [2, 3])
def test_a_step_sees_the_same_crops_for_any_number_of_processes(photos, num_processes):
    for name in ("train_dataloader", "test_dataloader"):
        parts = []
        for rank in range(num_processes):
            data = _module(photos)
            data.trainer = _Place(num_processes, rank)
            parts.append(_batches(getattr(data, name)(), 1))
        whole = _batches(getattr(_module(photos), name)(), 1)
        for batch, *shares in zip(whole, *parts, strict=True):
            for rank, share in enumerate(shares):
                assert torch.equal(share, batch[rank::num_processes])


class _Sums(lightning.LightningModule):
    """Learns nothing, but sums what all processes saw."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        self.log(
            "seen", batch[0].sum(), on_step=False, on_epoch=True, reduce_fx="sum", sync_dist=True
        )
        return self.layer(batch[0].mean().reshape(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val", batch[0].sum(), reduce_fx="sum", sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_two_processes_see_what_one_sees(photos, tmp_path):
    seen = []
    for devices in (1, 2):
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            max_epochs=2,
            logger=False,
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(_Sums(), datamodule=_module(photos))
        seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert seen[0].keys() == {"seen", "val"}
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert min(seen[0].values()) > 0


def test_photographs_too_small_for_a_size_are_left_out_for_it(photos):
    data = _module(photos, crop_sizes=[16, 44], batch_size=40, train_batches=2)
    small, large = _batches(data.train_dataloader())
    fitting = {number for number, size in enumerate(SIZES * 3) if min(size) >= 44}
    assert {_cut(image)[0] for image in large} <= fitting
    assert not {_cut(image)[0] for image in small} <= fitting
    message = (
        f"Expected a train photograph of at least 71 × 71 pixels below {photos}, but the largest "
        f"of 23 has 70 × 70; leave this size out, or add larger photographs."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _module(photos, crop_sizes=[16, 71]).train_dataloader()


def test_photographs_are_upright(tmp_path):
    for number in range(3):
        photograph = _photograph(number, (20, 50))
        exif = photograph.getexif()
        exif[0x0112] = 6  # shown after a quarter turn clockwise: 50 × 20
        photograph.save(tmp_path / f"{number}.png", exif=exif)
    data = PhotoCropDataModule(tmp_path, crop_sizes=[(50, 20)], grayscale=True)
    crop = data.dataset("test")[0][0][0]
    (name,) = data.names("test")
    assert torch.equal(crop, read_image(tmp_path / name, grayscale=True) / 255)


def test_the_set_is_not_held_in_memory(photos, monkeypatch):
    decoded, held = [], []

    def read(path, **options):
        image = read_image(path, **options)
        held.append(sum(earlier() is not None for earlier in decoded))
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr("eqrestore_lightning.data._photo_crops.read_image", read)
    batches = _batches(_module(photos, num_workers=0).train_dataloader())
    assert len(decoded) == 5 * 3  # batches, each of 12 crops in fours
    assert max(held) <= 1
    assert not any(earlier() is not None for earlier in decoded)
    assert all(x.untyped_storage().nbytes() == 4 * x.numel() for x in batches)


def test_fingerprints_depend_on_files_and_splits(tmp_path):
    for number in range(6):
        _photograph(number, (20, 20)).save(tmp_path / f"{number}.png")
    first = PhotoCropDataModule(tmp_path).fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert PhotoCropDataModule(tmp_path, batch_size=3).fingerprint() == first
    assert PhotoCropDataModule(tmp_path, seed=1).fingerprint() != first
    _photograph(7, (20, 20)).save(tmp_path / "5.png")
    assert PhotoCropDataModule(tmp_path).fingerprint() != first


def _rejects(error, message, photos, **options):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        PhotoCropDataModule(photos, **options)


def test_rejections(photos, tmp_path):
    message = "Expected `train_batches` to be at least 1, but got 0."
    _rejects(ValueError, message, photos, train_batches=0)
    for sizes in ([], [0], [16, (8,)], [(8, -1)]):
        _rejects(
            ValueError,
            f"Expected sizes of crops as numbers above 0, or pairs of height and width, "
            f"but got {sizes}.",
            photos,
            crop_sizes=sizes,
        )
    _rejects(
        FileNotFoundError,
        f"Expected a folder of images, but found none at {tmp_path / 'none'}.",
        tmp_path / "none",
    )
    (tmp_path / "no.png").write_bytes(b"no image")
    for name in "ab":
        _photograph(1, (20, 20)).save(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match=r"no\.png to be a readable image, but got"):
        PhotoCropDataModule(tmp_path, crop_sizes=[8]).setup()
