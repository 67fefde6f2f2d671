"""The command `eqrestore upright`."""

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eqrestore_lightning.cli._device import Device, choose_device
from eqrestore_lightning.files import whole_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from eqrestore_lightning.transforms import RestoreTransform

_THUMBNAIL = 160  # pixels
_ON_SHEET = 60  # photographs


@dataclass
class _Row:
    """What was found in a photograph, and what was done."""

    file: str
    quarters: int
    margin: float
    decision: str
    done: str


def run(
    images: Path,
    output: Path,
    weights: str = "photo-upright",
    prior: float = 0.95,
    min_margin: float = 2.0,
    pixels: bool = False,
    skip_bad: bool = False,
    device: Device = "auto",
) -> None:
    """Copy a folder of photographs, and turn upright those that lie on their side or head.

    Args:
        images: Folder of photographs, at any depth. EXIF orientation is read first and respected.
        output: Folder to write to; it must be new or empty, so that nothing is overwritten.
            Photographs that are taken to be upright, given the prior, and doubtful ones are copied
            byte for byte. Beside them lie turns.csv, with a row for each (by how many quarter turns
            it was found to be turned, counter-clockwise; the margin, in log-odds; what was decided
            and done), and doubtful.png, which shows the doubtful ones as they are and as they would
            be turned.
        weights: Name of bundled weights for quarter turns, or a .safetensors or .ckpt file.
        prior: Share of the photographs that you expect to be upright already.
        min_margin: Photographs whose margin is smaller are doubtful, and left as they are.
        pixels: Whether to turn the pixels of JPEG files, and compress them again, instead of their
            EXIF orientation, which loses nothing. Files of other formats, which store pixels as
            they are, are turned without loss in any case.
        skip_bad: Whether to go on when a file cannot be read, and list it, instead of stopping
            before anything is written.
        device: Where to compute; "auto" is a GPU ("cuda") if there is one, or else the CPU.
    """
    from tqdm import tqdm

    from eqrestore_lightning.data import check_folder, find_images_or_fail
    from eqrestore_lightning.motions import QuarterTurn
    from eqrestore_lightning.transforms import RestoreTransform

    restore = RestoreTransform(weights, prior=prior, min_margin=min_margin).to(
        choose_device(device)
    )
    if restore.estimator.motion != QuarterTurn() or restore.estimator.spatial_size is not None:
        raise ValueError(
            f"Expected weights that find quarter turns of images of any size, such as "
            f"photo-upright, but {weights} finds others."
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"Expected `output` to be a new or empty folder, but got {output}.")
    files = find_images_or_fail(check_folder(images))
    rows = []
    for path in tqdm(files, desc="Looking"):
        name = str(path.relative_to(images))
        try:
            rows.append(_look(path, name, restore))
        except ValueError as error:
            if not skip_bad:
                raise
            rows.append(_Row(name, 0, 0.0, "unreadable", " ".join(str(error).split())))
    for row in tqdm(rows, desc="Writing"):
        (output / row.file).parent.mkdir(parents=True, exist_ok=True)
        if row.decision == "turned":
            row.done = _write_turned(images / row.file, output / row.file, row.quarters, pixels)
        elif row.decision != "unreadable":
            shutil.copy2(images / row.file, output / row.file)
    _write_table(output / "turns.csv", rows)
    doubtful = sorted((row for row in rows if row.decision == "doubtful"), key=lambda r: r.margin)
    if doubtful:
        _write_sheet(output / "doubtful.png", images, doubtful[:_ON_SHEET])
    print(_summary(rows, output))  # noqa: T201


def _look(path: Path, name: str, restore: "RestoreTransform") -> _Row:
    """Look at one photograph, and decide."""
    from eqrestore_lightning.data import read_image

    device = next(iter(restore.estimator.buffers())).device
    image = read_image(path, grayscale=restore.estimator.in_channels == 1).to(device)
    try:
        found = restore.find(image, scores=True)
    except ValueError as error:
        raise ValueError(f"Expected {path} to fit the weights, but got: {error}") from error
    quarters, margin = int(found.motion["quarters"]), float(found.margin)
    if quarters:
        return _Row(name, quarters, margin, "turned", "")
    best = 0 if found.scores is None else int(found.scores.argmax())
    if best and not bool(found.trusted):
        return _Row(name, best, margin, "doubtful", "copied")
    return _Row(name, 0, margin, "upright", "copied")


def _write_turned(path: Path, target: Path, quarters: int, pixels: bool) -> str:
    """Write a photograph turned back, whole or not at all; return how."""
    import PIL.Image

    from eqrestore_lightning.data import ORIENTATION, set_orientation, turned_orientation

    with PIL.Image.open(path) as picture:
        orientation = picture.getexif().get(ORIENTATION, 1)
        is_jpeg = picture.format in ("JPEG", "MPO")
        if is_jpeg and not pixels:
            turned = turned_orientation(orientation, -quarters)
            content, done = set_orientation(path.read_bytes(), turned), "EXIF orientation"
        else:
            content, done = _turned_pixels(picture, quarters), "pixels"
    with whole_file(target) as part:
        part.write_bytes(content)
        shutil.copystat(path, part)
    return done


def _turned_pixels(picture: "Image", quarters: int) -> bytes:
    """Return the file of a picture whose pixels are turned back, in its own format."""
    import PIL.Image
    import PIL.ImageOps

    back = ("ROTATE_270", "ROTATE_180", "ROTATE_90")[quarters - 1]
    upright = PIL.ImageOps.exif_transpose(picture).transpose(PIL.Image.Transpose[back])
    options: dict[str, object] = {"exif": upright.getexif()}
    if picture.format in ("JPEG", "MPO"):
        options |= {"qtables": getattr(picture, "quantization", None), "subsampling": 0}
    if picture.format == "WEBP":
        options |= {"lossless": True}
    if "icc_profile" in picture.info:
        options["icc_profile"] = picture.info["icc_profile"]
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG" if picture.format == "MPO" else picture.format, **options)
    return buffer.getvalue()


def _write_table(path: Path, rows: Sequence[_Row]) -> None:
    with (
        whole_file(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(["file", "quarters", "margin", "decision", "done"])
        for row in rows:
            table.writerow([row.file, row.quarters, f"{row.margin:.4f}", row.decision, row.done])


def _write_sheet(path: Path, images: Path, rows: Sequence[_Row]) -> None:
    """Draw photographs as they are and as they would be turned, in pairs, with names."""
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageOps

    columns, gap, text = 3, 8, 28
    width, height = 2 * _THUMBNAIL + 3 * gap, _THUMBNAIL + text + gap
    lines = -(-len(rows) // columns)
    sheet = PIL.Image.new("RGB", (columns * width + gap, lines * height + text), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    draw.text((gap, gap), "doubtful, left as they are; on the right as found", fill="black")
    for number, row in enumerate(rows):
        left, top = gap + number % columns * width, text + number // columns * height
        with PIL.Image.open(images / row.file) as picture:
            shown = PIL.ImageOps.exif_transpose(picture).convert("RGB")
        shown.thumbnail((_THUMBNAIL, _THUMBNAIL))
        for place, view in enumerate((shown, shown.rotate(-90 * row.quarters, expand=True))):
            sheet.paste(view, (left + place * (_THUMBNAIL + gap), top))
        label = f"{Path(row.file).name[-36:]}  margin {row.margin:.1f}"
        draw.text((left, top + _THUMBNAIL + 2), label, fill="black")
    with whole_file(path) as part:
        sheet.save(part)


def _summary(rows: Sequence[_Row], output: Path) -> str:
    counts = {kind: sum(row.decision == kind for row in rows) for kind in _DECISIONS}
    told = ", ".join(f"{count} {_DECISIONS[kind]}" for kind, count in counts.items() if count)
    return f"{len(rows)} photographs into {output}: {told}."


_DECISIONS = {
    "turned": "turned upright",
    "upright": "taken to be upright",
    "doubtful": "doubtful and left as they are (see doubtful.png)",
    "unreadable": "that could not be read, and are missing there (see turns.csv)",
}
