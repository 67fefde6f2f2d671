import gzip
import re
import struct

import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule, ImageFolderDataModule, MNISTDataModule
from eqrestore_lightning.data import read_image


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


def test_real_mnist_has_its_centre_of_mass_in_one_window(mnist_root):
    images = MNISTDataModule(mnist_root).dataset("test").images.double()
    assert images.shape == (10_000, 1, 32, 32)
    position = torch.arange(32, dtype=torch.float64)
    for axis in (2, 3):
        mass = images.sum((1, 5 - axis))
        centre = (mass * position).sum(1) / mass.sum(1)
        assert ((centre >= 15.5) & (centre < 16.5)).all()


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
    with pytest.raises(ValueError, match="to lie in class folders or none, but got both"):
        ImageFolderDataModule(tmp_path).setup()
    (tmp_path / "class" / "8.png").rename(tmp_path / "8.png")
    message = "Expected at least 10 images to deal out for val and test, but got 9."
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFolderDataModule(tmp_path).setup()


def test_images_are_read_upright_and_not_cut_to_8_bits(tmp_path):
    picture = TF.to_pil_image(_picture(1))
    exif = picture.getexif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png", grayscale=False)
    assert torch.equal(image, _picture(1).rot90(-1, (1, 2)))
    PIL.Image.fromarray(torch.tensor([[0, 300]], dtype=torch.uint16).numpy()).save(
        tmp_path / "deep.png"
    )
    with pytest.raises(ValueError, match=r"Expected images of 8 bits a channel, but got mode I;16"):
        read_image(tmp_path / "deep.png", grayscale=True)


def test_padding_is_two_zeros_on_each_side(mnist_root):
    from torchvision.datasets import MNIST

    raw = MNIST(mnist_root, train=False).data[:5].unsqueeze(1)
    images = MNISTDataModule(mnist_root).dataset("test").images[:5]
    assert torch.equal(images, F.pad(raw, (2, 2, 2, 2)))
