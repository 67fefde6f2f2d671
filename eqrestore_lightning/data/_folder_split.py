"""The images of a folder, split into training, validation and test by source."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

from eqrestore_lightning.data._image_files import find_images
from eqrestore_lightning.data._module import SPLITS, DataModule, LoaderOptions, Split, check_split
from eqrestore_lightning.data._sources import (
    SourceRule,
    check_source_rule,
    find_sources,
    split_by_source,
)

_SHOWN = 5


@dataclass(frozen=True)
class FolderSplit:
    """Which files are for training, validation and test, and why.

    Args:
        folders: Folder in which the files of each split were found.
        files: Files of each split.
        sources: Source of each file of each split, see `find_sources`.
        sentence: What was done, in words.
    """

    folders: dict[Split, Path]
    files: dict[Split, list[Path]]
    sources: dict[Split, list[str]]
    sentence: str


def split_folder(
    root: Path, rule: SourceRule, *, classes: bool, noun: str, seed: int
) -> FolderSplit:
    """Split the images below a folder, by its folders train, val and test or else by source.

    Args:
        root: The folder.
        rule: How to recognize sources, see `find_sources`.
        classes: Whether folders directly below are classes.
        noun: What the images are called in messages.
        seed: Determines what is set aside for a split without a folder.

    Raises:
        FileNotFoundError: If there are no images in `root`, or in one of its three folders.
        ValueError: If there are too few images or sources.
    """
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders:
        folders = {"train": root}
    files, sources, how = {}, {}, ""
    for split, folder in reversed(folders.items()):  # `how` is that of train, the first
        files[split] = find_images(folder)
        sources[split], how = find_sources(files[split], folder, rule, classes=classes)
    missing = [split for split in SPLITS if split not in folders]
    if missing:
        folder, all_files, all_sources = folders["train"], files["train"], sources["train"]
        chosen = split_by_source(all_sources, missing, seed=seed, folder=folder, noun=noun)
        for split, positions in chosen.items():
            folders[split] = folder
            files[split] = [all_files[i] for i in positions]
            sources[split] = [all_sources[i] for i in positions]
    sources = {split: sources[split] for split in SPLITS}
    return FolderSplit(folders, files, sources, describe(sources, how, missing, noun))


def describe(
    sources: Mapping[Split, Sequence[str]], how: str, missing: Sequence[Split], noun: str
) -> str:
    """Return a sentence about a split.

    Args:
        sources: Source of each image of each split.
        how: How sources were recognized, from `find_sources`.
        missing: Splits that were taken from the training images; the others have their own folder.
        noun: What the images are called, in the plural.

    >>> parts = {"train": ["china"] * 3 + ["cat"] * 4, "val": ["rocket"], "test": ["coffee"] * 2}
    >>> describe(parts, "file-name prefix", ["val", "test"], "images").split(": ")[0]
    'Split by source (file-name prefix), so that none is in two parts'
    >>> describe(parts, "file-name prefix", ["val", "test"], "images").split(": ")[1]
    'train 7 images of 2 sources (china, cat), val 1 of 1 (rocket), test 2 of 1 (coffee).'
    """
    if not missing:
        rule = "Split by the folders train, val and test"
    elif how == "file":
        rule = "Split at random, each file counted as its own source"
    else:
        rule = f"Split by source ({how}), so that none is in two parts"
    counts = []
    for split, names in sources.items():
        text = f"{split} {len(names):,}"
        if split == "train":
            text += f" {noun}"
        if missing and how != "file" and (split == "train" or split in missing):
            found = list(Counter(names))
            text += f" of {len(found):,}"
            if split == "train":
                text += " source" if len(found) == 1 else " sources"
            text += f" ({', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''})"
        counts.append(text)
    return f"{rule}: {', '.join(counts)}."


class FolderDataModule(DataModule):
    """Base of data modules that read the images below a folder.

    Args:
        root: The folder.
        sources: What images of one source have in common, see `find_sources`.
        **options: `batch_size`, `seed` and `num_workers` of `DataModule`.

    Raises:
        FileNotFoundError: If `root` is not a folder.
        ValueError: If `sources` is unknown.
    """

    has_classes = False  # whether folders directly below a split are classes

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        sources: SourceRule = "auto",
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        check_source_rule(sources)
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"Expected a folder of images, but found none at {self.root.absolute()}."
            )
        self.source_rule: SourceRule = sources

    @cached_property
    def folder_split(self) -> FolderSplit:
        """Which files are for training, validation and test, and why."""
        return split_folder(
            self.root, self.source_rule, classes=self.has_classes, noun=self.noun, seed=self.seed
        )

    def describe_split(self) -> str:
        """Return a sentence about which images are for training, validation and test, and why."""
        return self.folder_split.sentence

    def names(self, split: Split) -> list[str]:
        """Return the path of each image of a split, relative to `root`."""
        check_split(split)
        return [str(path.relative_to(self.root)) for path in self.folder_split.files[split]]

    def sources(self, split: Split) -> list[str]:
        """Return the source of each image of a split: its folder, prefix or path."""
        check_split(split)
        return self.folder_split.sources[split]
