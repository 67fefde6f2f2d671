"""How `eqrestore restore` reads and writes the formats, colors and notes of images."""

import PIL
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import (
    DigitsDataModule,
    RestoreTransform,
    TranslationEstimator,
    save_estimator,
)
from eqrestore_lightning.data._image_files import read_image


def test_files_keep_their_format_on_request(tmp_path, run):
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    digit = DigitsDataModule().dataset("test").images[0].roll((5, -3), (1, 2))
    for suffix in ("png", "JPG", "jpeg", "bmp", "tiff", "webp", "pgm"):
        TF.to_pil_image(digit).save(folder / f"{suffix}.{suffix}", lossless=True)
    told = run("restore", "digits", folder, output, "--format=same")
    assert "JPEG files that were moved were compressed again (quality 95)." in told
    restore = RestoreTransform("digits")
    for path in folder.iterdir():
        expected = restore(read_image(path, grayscale=True)).int()
        written = read_image(output / path.name, grayscale=True).int()
        limit = 12 if path.suffix in (".JPG", ".jpeg") else 0
        assert (written - expected).abs().max() <= limit
        with Image.open(output / path.name) as picture, Image.open(path) as source:
            assert picture.format == source.format
    told = run("restore", "digits", folder, tmp_path / "png")
    assert "compressed" not in told
    assert {path.suffix for path in (tmp_path / "png").iterdir()} == {".png", ".csv"}


def test_pictures_are_read_upright_and_in_any_mode(tmp_path, run):
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    digit = TF.to_pil_image(DigitsDataModule().dataset("test").images[0].roll(4, 1))
    turned = digit.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    turned.save(folder / "turned.png", exif=exif)
    digit.save(folder / "gray.png")
    digit.convert("RGBA").save(folder / "alpha.png")
    digit.convert("P").save(folder / "palette.png")
    digit.convert("RGB").convert("CMYK").save(folder / "cmyk.tif")
    run("restore", "digits", folder, output)
    expected = RestoreTransform("digits")(read_image(folder / "gray.png", grayscale=True))
    for name in ("turned", "gray", "alpha", "palette", "cmyk"):
        assert torch.equal(read_image(output / f"{name}.png", grayscale=True), expected)


def test_profile_and_exif_are_kept_and_unmoved_images_are_copied(tmp_path, run, tree):
    folder, output = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Artist] = 6, "Ada"
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = "2026:11:30 12:00:00"
    save_estimator(TranslationEstimator(3, (24, 24), kernel_size=3), tmp_path / "w.safetensors")
    pixels = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8)
    for suffix in ("jpg", "png", "webp", "tiff"):
        options = {"lossless": True} if suffix == "webp" else {}
        picture = TF.to_pil_image(pixels)
        picture.save(folder / f"a.{suffix}", icc_profile=profile, exif=exif, **options)
        folder.joinpath(f"a.{suffix}").rename(folder / f"{suffix}.{suffix}")
    command = ["restore", tmp_path / "w.safetensors", folder]
    run(*command, output, "--format=same")
    for path in folder.iterdir():
        with Image.open(output / path.name) as written:
            assert written.info["icc_profile"] == profile
            kept = written.getexif()
            assert (kept[Base.Artist], kept.get(Base.Orientation, 1)) == ("Ada", 1)
            with Image.open(path) as source:  # older Pillows write no such part, and none to TIFF
                taken = source.getexif().get_ifd(IFD.Exif).get(Base.DateTimeOriginal)
            if path.suffix != ".tiff":
                assert kept.get_ifd(IFD.Exif).get(Base.DateTimeOriginal) == taken
                assert taken or PIL.__version__.startswith("11.")
    run(*command, tmp_path / "left", "--format=same", "--min_margin=1e9")
    assert {
        name: content for name, content in tree(tmp_path / "left").items() if name != "shifts.csv"
    } == tree(folder)
