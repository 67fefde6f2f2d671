import gzip
import io
import pickle
import re
import struct
import tarfile

import h5py
import pytest
import torch
from torchvision.datasets import CIFAR10
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import (
    CIFAR10DataModule,
    DigitsDataModule,
    ImageFolderDataModule,
    MNIST3DDataModule,
    MNISTDataModule,
)


def test_digits_are_enlarged_within_a_clear_border():
    data = DigitsDataModule(seed=3)
    sizes = [len(data.dataset(split)) for split in ("train", "val", "test")]
    assert sizes == [1000, 300, 497]
    images = torch.cat([data.dataset(split).images for split in ("train", "val", "test")])
    assert images.shape == (1797, 1, 32, 32)
    assert images[..., 4:-4, 4:-4].sum() == images.sum()
    assert images.max() > 240
    labels = torch.cat([data.dataset(split).labels for split in ("train", "val", "test")])
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def _write_mnist(folder, count=5_010):
    """Write files in MNIST's format with images that are told apart by one pixel."""
    folder.mkdir(parents=True)
    for name, size in (("train", count), ("t10k", 7)):
        images = torch.zeros(size, 28, 28, dtype=torch.uint8)
        images[:, 3, 4] = torch.arange(size).remainder(256).to(torch.uint8)
        labels = torch.arange(size).remainder(10).to(torch.uint8)
        header = struct.pack(">4i", 0x803, size, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images.numpy().tobytes())
        header = struct.pack(">2i", 0x801, size)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.numpy().tobytes())


def test_mnist_is_padded_or_resized(tmp_path):
    _write_mnist(tmp_path / "MNIST" / "raw")
    data = MNISTDataModule(tmp_path)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [10, 5000, 7]
    test = data.dataset("test")
    assert test.images.shape == (7, 1, 32, 32)
    assert test.images[:, 0, 5, 6].tolist() == list(range(7))
    assert test.labels.tolist() == list(range(7))
    resized = MNISTDataModule(tmp_path, enlarge="resize").dataset("val").images
    assert resized.shape == (5000, 1, 32, 32)
    assert not torch.equal(resized, data.dataset("val").images)


def test_mnist_tells_where_it_looked(tmp_path):
    message = f"Expected the files of MNIST in {tmp_path / 'MNIST' / 'raw'}, but found none"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        MNISTDataModule(tmp_path).setup()
    with pytest.raises(ValueError, match=r"Expected `enlarge` to be one of \('pad', 'resize'\)"):
        MNISTDataModule(tmp_path, enlarge="crop")


def test_real_mnist_has_its_center_of_mass_in_one_window(mnist_root):
    images = MNISTDataModule(mnist_root).dataset("test").images.double()
    assert images.shape == (10_000, 1, 32, 32)
    position = torch.arange(32, dtype=torch.float64)
    for axis in (2, 3):
        mass = images.sum((1, 5 - axis))
        center = (mass * position).sum(1) / mass.sum(1)
        assert ((center >= 15.5) & (center < 16.5)).all()


def test_mnist_in_three_dimensions_is_extruded(tmp_path):
    _write_mnist(tmp_path / "MNIST" / "raw")
    data = MNIST3DDataModule(tmp_path)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [4509, 501, 7]
    volumes = data.dataset("test").images
    assert volumes.shape == (7, 1, 32, 32, 32)
    assert volumes[..., 8:-8, 8:-8, 8:-8].sum() == volumes.sum() > 0
    occupied = volumes.flatten(3).sum(3)[6, 0].nonzero().flatten()
    assert occupied.tolist() == list(range(13, 19))  # six voxels thick, in the middle
    assert torch.equal(volumes[:, :, 13], volumes[:, :, 18])
    assert MNIST3DDataModule(tmp_path, padding=0).dataset("test").images.shape[2:] == (16, 16, 16)


def test_the_published_3d_mnist_is_read(tmp_path):
    path = tmp_path / "full_dataset_vectors.h5"
    rows = torch.rand(30, 4096)
    with h5py.File(path, "w") as file:
        file["X_train"], file["y_train"] = rows[:20].numpy(), [n % 10 for n in range(20)]
        file["X_test"], file["y_test"] = rows[20:].numpy(), range(10)
    data = MNIST3DDataModule(path, padding=1)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [18, 2, 10]
    test = data.dataset("test")
    expected = (rows[20:] * 255).round().reshape(10, 1, 16, 16, 16)
    assert torch.equal(test.images[..., 1:-1, 1:-1, 1:-1].float(), expected)
    assert test.labels.tolist() == list(range(10))
    with h5py.File(path, "w") as file:
        file["X_train"], file["y_train"] = rows[:, :5].numpy(), range(30)
    with pytest.raises(ValueError, match=r"Expected rows of 4096 occupancies, but got .*\(30, 5\)"):
        MNIST3DDataModule(path).setup()
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="to be an HDF5 file with X_train, y_train"):
        MNIST3DDataModule(path).setup()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="Expected the HDF5 file of 3D-MNIST at"):
        MNIST3DDataModule(path).setup()


def _cifar_pixels(seed, count):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def _write_batches(folder, monkeypatch):
    """Write files in the format of CIFAR-10's authors."""
    folder.mkdir()
    files = [(f"data_batch_{number}", 1_004) for number in range(1, 6)] + [("test_batch", 6)]
    for seed, (name, count) in enumerate(files):
        entry = {
            "data": _cifar_pixels(seed, count).flatten(1).numpy(),
            "labels": [number % 10 for number in range(count)],
        }
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)


def test_cifar_10_as_torchvision_reads_it(tmp_path, monkeypatch):
    _write_batches(tmp_path / "cifar-10-batches-py", monkeypatch)
    data = CIFAR10DataModule(tmp_path)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [20, 5000, 6]
    test = data.dataset("test")
    assert test.images.shape == (6, 3, 40, 40)
    assert torch.equal(test.images[..., 4:-4, 4:-4], _cifar_pixels(5, 6))
    assert test.images.sum() == _cifar_pixels(5, 6).sum()
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.source == str(tmp_path / "cifar-10-batches-py")
    everything = torch.cat([data.dataset(split).images for split in ("train", "val")])
    first = _cifar_pixels(0, 1_004)[0]
    assert (everything[..., 4:-4, 4:-4] == first).flatten(1).all(1).sum() == 1


def _write_classes(folder, count, names="abcdefghij"):
    for number in range(count):
        picture = torch.full((3, 32, 32), number % 256, dtype=torch.uint8)
        _save(folder / names[number % len(names)] / f"{number:05}.png", picture)


def test_cifar_10_as_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr("eqrestore_lightning.data._cifar10._VAL_SIZE", 5)
    folder = tmp_path / "folders"
    _write_classes(folder / "train", 30)
    _write_classes(folder / "test", 10)
    path = tmp_path / "cifar10-png.tar.xz"
    _archive(path, folder)
    data = CIFAR10DataModule(tmp_path, padding=0)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [25, 5, 10]
    for split in ("train", "test"):
        part = data.dataset(split)
        assert torch.equal(part.images[:, 0, 0, 0] % 10, part.labels)
    assert data.source == str(path)


def _archive(path, folder):
    with tarfile.open(path, "w:xz") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.add(file, file.relative_to(folder), recursive=False)


def test_what_is_no_cifar_10_is_refused(tmp_path):
    message = "Expected cifar-10-batches-py or one archive cifar10*.tar* in"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        CIFAR10DataModule(tmp_path).setup()
    with pytest.raises(ValueError, match="Expected `padding` to be at least 0, but got -1"):
        CIFAR10DataModule(tmp_path, padding=-1)
    _write_classes(tmp_path / "train", 30, names="abc")
    _write_classes(tmp_path / "test", 10, names="abc")
    _archive(tmp_path / "cifar10.tar", tmp_path)
    with pytest.raises(ValueError, match=r"Expected 10 classes in .* but got \['a', 'b', 'c'\]"):
        CIFAR10DataModule(tmp_path).setup()
    _save(tmp_path / "test" / "a" / "1.png", _picture(0))
    _archive(tmp_path / "cifar10.tar", tmp_path)
    with pytest.raises(ValueError, match=r"3 × 32 × 32 .* but got 30 and 11, .*\(3, 12, 14\), \(3"):
        CIFAR10DataModule(tmp_path).setup()


def _picture(seed, size=(12, 14), channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator)


def _save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    TF.to_pil_image(picture).save(path)


def test_image_folder_with_splits_and_classes(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                _save(tmp_path / split / name / f"{number}.png", _picture(100 * label + number))
    data = ImageFolderDataModule(tmp_path)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [8, 4, 6]
    assert data.classes == ["cat", "dog"]
    assert data.num_classes == 2
    assert data.spatial_size == (12, 14)
    train = data.dataset("train")
    assert train.labels.tolist() == [0] * 4 + [1] * 4
    assert torch.equal(train.images[5], _picture(101))


def test_image_folder_of_images_only_is_dealt_out(tmp_path):
    for number in range(30):
        _save(tmp_path / f"{number:02}.png", _picture(number))
    data = ImageFolderDataModule(tmp_path, grayscale=True, image_size=8)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [24, 3, 3]
    assert data.dataset("train").images.shape == (24, 1, 8, 8)
    assert data.num_classes == 1
    again = ImageFolderDataModule(tmp_path, grayscale=True, image_size=8)
    assert torch.equal(again.dataset("test").images, data.dataset("test").images)
    other = ImageFolderDataModule(tmp_path, grayscale=True, image_size=8, seed=1)
    assert not torch.equal(other.dataset("test").images, data.dataset("test").images)


def test_image_folder_refuses_what_it_cannot_use(tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected a folder of images, but found none at"):
        ImageFolderDataModule(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="but found none below"):
        ImageFolderDataModule(tmp_path).setup()
    for number in range(10):
        _save(tmp_path / f"{number}.png", _picture(number))
    ImageFolderDataModule(tmp_path).setup()
    _save(tmp_path / "9.png", _picture(9, size=(12, 15)))
    with pytest.raises(ValueError, match=re.escape("but got (12, 15) in ")):
        ImageFolderDataModule(tmp_path).setup()
    (tmp_path / "9.png").write_bytes(gzip.compress(b"no image"))
    with pytest.raises(ValueError, match=r"9\.png to be a readable image, but got"):
        ImageFolderDataModule(tmp_path).setup()
    (tmp_path / "9.png").unlink()
    (tmp_path / "class").mkdir()
    (tmp_path / "8.png").rename(tmp_path / "class" / "8.png")
    data = ImageFolderDataModule(tmp_path)  # some images lie in no folder: folders are no classes
    assert data.dataset("train").labels.tolist() == [0] * 7
    assert data.classes == []


def _tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")])
def test_archives_that_are_cut_are_refused(ending, mode, tmp_path):
    picture = io.BytesIO()
    TF.to_pil_image(torch.full((3, 32, 32), 9, dtype=torch.uint8)).save(picture, "png")
    members = [(tarfile.TarInfo(f"train/cat/{n}.png"), picture.getvalue()) for n in range(40)]
    path = tmp_path / f"cifar10-cut.{ending}"
    _tar(path, *members, mode=mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    with pytest.raises(ValueError, match=r"^Expected .*cifar10-cut.*, but got"):
        CIFAR10DataModule(tmp_path).setup()


def test_damage_to_a_compressed_archive_is_noticed_after_its_last_image(tmp_path):
    picture = io.BytesIO()
    TF.to_pil_image(torch.full((3, 32, 32), 9, dtype=torch.uint8)).save(picture, "bmp")
    members = [(tarfile.TarInfo(f"test/a/{n}.bmp"), picture.getvalue()) for n in range(5)]
    path = tmp_path / "cifar10.tar.gz"
    _tar(path, *members, mode="w:gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="but got: CRC check failed"):
        CIFAR10DataModule(tmp_path).setup()
