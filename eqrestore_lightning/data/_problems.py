"""What spoils training: near-blank images, duplicates, too few images or sources."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch

from eqrestore_lightning.data._in_memory import ImageTensors, raw_bytes
from eqrestore_lightning.data._module import SPLITS, DataModule, Split

_IMAGES, _SOURCES = 5_000, 20  # fewer are too few for training
_BLANK = 2 / 255  # standard deviation, of a range of values from 0 to 1
_SHOWN = 5
_CHUNK = 1_000  # images


def find_problems(data: DataModule) -> list[str]:
    """Say what is likely to spoil the training of a restorer, or to flatter its result.

    Images in memory are examined one by one; photographs that are cropped are only counted.

    >>> from eqrestore_lightning.data._digits import DigitsDataModule
    >>> find_problems(DigitsDataModule())
    ['Only 1,000 training images; 5,000 or more are recommended.']
    """
    problems: list[str] = []
    names, sources = data.names("train"), Counter(data.sources("train"))
    parts = {split: data.dataset(split) for split in SPLITS}
    held = {split: part for split, part in parts.items() if isinstance(part, ImageTensors)}
    only = f"Only {len(names):,} training {data.noun}; "
    if held:
        named = {split: data.names(split) for split in held}
        problems += [*_near_blank(held, named), *_duplicates(held, named)]
        if len(names) < _IMAGES:
            problems.append(f"{only}{_IMAGES:,} or more are recommended.")
    if len(sources) < _SOURCES and len(sources) < len(names):
        problems.append(
            f"The {len(names):,} training {data.noun} come from only {len(sources)} sources; "
            f"{_SOURCES} or more are recommended, or {data.noun} of other sources will be restored "
            f"less well."
        )
    elif len(sources) < _SOURCES and not held:
        problems.append(
            f"{only}{_SOURCES} or more are recommended, or others will be restored less well."
        )
    return problems


def _near_blank(
    parts: Mapping[Split, ImageTensors], names: Mapping[Split, list[str]]
) -> Iterator[str]:
    """Find images that hardly differ from one color: shifting them changes next to nothing."""
    blank = []
    train = parts["train"].images
    spread = 255.0 if train.dtype == torch.uint8 else float(train.max() - train.min())
    for split, part in parts.items():
        for start in range(0, len(part), _CHUNK):
            values = part.images[start : start + _CHUNK].float().flatten(2)
            deviation = values.std(2, correction=0).amax(1)
            found = (deviation < _BLANK * spread).nonzero().flatten().tolist()
            blank += [names[split][start + position] for position in found]
    if blank:
        yield (
            f"{_images(blank)} nearly blank, so that no shift can be found: {_shown(blank)}. "
            f"Remove them."
        )


def _duplicates(
    parts: Mapping[Split, ImageTensors], names: Mapping[Split, list[str]]
) -> Iterator[str]:
    """Find images that are equal, pixel by pixel."""
    groups: dict[bytes, list[tuple[Split, str]]] = defaultdict(list)
    for split, part in parts.items():
        for name, image in zip(names[split], part.images, strict=True):
            groups[hashlib.sha256(raw_bytes(image)).digest()].append((split, name))
    equal = [group for group in groups.values() if len(group) > 1]
    copies = [name for group in equal for _, name in group[1:]]
    across = [group for group in equal if len({split for split, _ in group}) > 1]
    if copies:
        pairs = [f"{group[0][1]} = {group[1][1]}" for group in across + equal]
        noun = "a copy" if len(copies) == 1 else "copies"
        message = f"{_images(copies)} {noun} of others: {_shown(list(dict.fromkeys(pairs)))}."
        if across:
            message += (
                f" {len(across)} of the images that were copied are in more than one of train, val "
                f"and test, so that results will look better than they are."
            )
        yield message


def _images(names: Sequence[str]) -> str:
    return f"{len(names):,} image{' is' if len(names) == 1 else 's are'}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
