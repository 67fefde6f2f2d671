"""The images of a folder, split so that those of one source, such as a photograph, are together."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, Unpack, get_args

import torch
from typing_extensions import override

from eqrestore_lightning.data._image_files import find_images
from eqrestore_lightning.data._module import SPLITS, DataModule, LoaderOptions, Split, check_split

SourceRule: TypeAlias = Literal["auto", "file"]
_NUMBER = re.compile(r"[\s_.-]+(?:[a-z]?\d+|\(\d+\))$", re.IGNORECASE)
_SHARE = 10  # a tenth of the images is for validation, and a tenth for testing
_SHOWN = 5


@dataclass(frozen=True)
class FolderSplit:
    """The folder of each split, its files, and the source of each; and what was done, in words."""

    folders: dict[Split, Path]
    files: dict[Split, list[Path]]
    sources: dict[Split, list[str]]
    sentence: str


class FolderDataModule(DataModule):
    """Base of data modules that read the images below a folder."""

    has_classes = False  # whether folders directly below a split are classes

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        sources: SourceRule = "auto",
        **options: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(**options)
        if sources not in get_args(SourceRule):
            raise ValueError(
                f"Expected `sources` to be one of {get_args(SourceRule)}, but got {sources!r}."
            )
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"Expected a folder of images, but found none at {self.root.absolute()}."
            )
        self.source_rule: SourceRule = sources

    @cached_property
    def folder_split(self) -> FolderSplit:
        """Which files are for training, validation and test, and why."""
        return _split_folder(
            self.root, self.source_rule, classes=self.has_classes, noun=self.noun, seed=self.seed
        )

    @override
    def describe_split(self) -> str:
        return self.folder_split.sentence

    @override
    def names(self, split: Split) -> list[str]:
        check_split(split)
        return [str(path.relative_to(self.root)) for path in self.folder_split.files[split]]

    @override
    def sources(self, split: Split) -> list[str]:
        check_split(split)
        return self.folder_split.sources[split]


def _split_folder(
    root: Path, rule: SourceRule, *, classes: bool, noun: str, seed: int
) -> FolderSplit:
    """Split the images below a folder, by its folders train, val and test or else by source."""
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders:
        folders = {"train": root}
    files, sources, how = {}, {}, ""
    for split, folder in reversed(folders.items()):  # `how` is that of train, the first
        files[split] = find_images(folder)
        sources[split], how = _find_sources(files[split], folder, rule, classes=classes)
    missing = [split for split in SPLITS if split not in folders]
    if missing:
        folder, all_files, all_sources = folders["train"], files["train"], sources["train"]
        chosen = split_by_source(all_sources, missing, seed=seed, folder=folder, noun=noun)
        for split, positions in chosen.items():
            folders[split] = folder
            files[split] = [all_files[i] for i in positions]
            sources[split] = [all_sources[i] for i in positions]
    sources = {split: sources[split] for split in SPLITS}
    return FolderSplit(folders, files, sources, _describe(sources, how if missing else "", noun))


def _describe(sources: Mapping[Split, Sequence[str]], how: str, noun: str) -> str:
    """Say how images were split; `how` sources were recognized, empty for folders of their own."""
    rules = {
        "": "Split by the folders train, val and test",
        "file": "Split at random, each file its own source",
    }
    counts = []
    for split, names in sources.items():
        found = list(dict.fromkeys(names))
        shown = f" ({', '.join(found[:_SHOWN])}{', …' if len(found) > _SHOWN else ''})"
        by_source = how not in rules and len(found) < len(names)
        counts.append(f"{split} {len(names):,} {noun}{shown if by_source else ''}")
    rule = rules.get(how, f"Split by source ({how}), so that none is in two parts")
    return f"{rule}: {', '.join(counts)}."


def source_prefix(stem: str) -> str:
    """Return what precedes the numbers at the end of a file name without its ending.

    A number is set off by a space, `_`, `-` or `.`, and may follow one letter or be in parentheses.
    A name of digits alone loses its last number only.

    >>> [source_prefix(name) for name in ("china_001", "china-12", "china 3", "china_x64_y128")]
    ['china', 'china', 'china', 'china']
    >>> [source_prefix(name) for name in ("china", "0007", "12_034", "left_eye", "ward3_a")]
    ['china', '0007', '12', 'left_eye', 'ward3_a']
    """
    shorter = _NUMBER.sub("", stem)
    while shorter and shorter != stem and re.search(r"[^\W\d_]", shorter):
        stem, shorter = shorter, _NUMBER.sub("", shorter)
    return shorter or stem


def _find_sources(
    files: Sequence[Path], folder: Path, rule: SourceRule, *, classes: bool
) -> tuple[list[str], str]:
    """Return the source of each file, and how it was recognized: `"file"` if no two share one.

    Files of one folder are of one source if there are at least three folders and they are not just
    class folders; otherwise those of one `source_prefix`, in whatever folder.
    """
    paths = [path.relative_to(folder) for path in files]
    by_folder = rule == "auto" and _folders_are_sources(paths, classes)
    if by_folder:
        names = [path.parent.as_posix() for path in paths]
    elif rule == "file":
        names = [path.as_posix() for path in paths]
    else:
        names = _informative_prefixes(paths)
    if len(set(names)) == len(names):
        return names, "file"
    return names, "folder" if by_folder else "file-name prefix"


def _folders_are_sources(paths: Sequence[Path], classes: bool) -> bool:
    folders = {path.parent for path in paths}
    groups = {folder.parts[:1] for folder in folders} if classes else {()}
    return len(folders) >= 3 and len(folders) > len(groups)


def _informative_prefixes(paths: Sequence[Path]) -> list[str]:
    """Return the prefix of each file, or its path where all files of each folder have the prefix.

    `IMG_0001`, `IMG_0002`, … tell nothing about sources.
    """
    prefixes = [source_prefix(path.stem) for path in paths]
    of_folder: dict[Path, set[str]] = defaultdict(set)
    for path, prefix in zip(paths, prefixes, strict=True):
        of_folder[path.parent].add(prefix)
    beside_others = set().union(*(found for found in of_folder.values() if len(found) > 1))
    numbered = {prefix for path, prefix in zip(paths, prefixes, strict=True) if prefix != path.stem}
    informative = beside_others & numbered
    return [
        prefix if prefix in informative else path.as_posix()
        for path, prefix in zip(paths, prefixes, strict=True)
    ]


def split_by_source(
    sources: Sequence[str], missing: Sequence[Split], *, seed: int, folder: Path, noun: str
) -> dict[Split, list[int]]:
    """Return positions for training and for `missing` splits at random, each source in one of them.

    Each of the missing splits gets about a tenth of the images and at least one source; sources of
    more images than that stay in training as long as there are others.
    """
    members: dict[str, list[int]] = {}
    for position, source in enumerate(sources):
        members.setdefault(source, []).append(position)
    if len(members) <= len(missing):
        raise ValueError(_too_few(members, missing, folder, noun))
    share = max(1, len(sources) // _SHARE)
    names = list(members)
    generator = torch.Generator().manual_seed(seed)
    order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
    sizes = {name: len(positions) for name, positions in members.items()}
    order.sort(key=lambda name: sizes[name] if sizes[name] > share else 0, reverse=True)
    parts: dict[Split, list[int]] = {}
    for others, split in reversed(list(enumerate(missing, start=1))):
        chosen: list[str] = []
        count = 0
        while not chosen or (
            len(order) > others and abs(count + sizes[order[-1]] - share) < abs(count - share)
        ):
            chosen.append(order.pop())
            count += sizes[chosen[-1]]
        parts[split] = [i for name in reversed(chosen) for i in members[name]]
    return {
        "train": [i for name in order for i in members[name]],
        **{split: parts[split] for split in missing},
    }


def _too_few(
    members: Mapping[str, Sequence[int]], missing: Sequence[Split], folder: Path, noun: str
) -> str:
    found = ", ".join(f"{name} ({len(positions)})" for name, positions in members.items())
    where = " and ".join(missing)
    splits = f"train{',' if len(missing) > 1 else ' and'} {where}"
    return (
        f"Expected {noun} of at least {len(missing) + 1} sources below {folder}, so that {splits} "
        f"share none, but got {len(members)}: {found}. Add {noun} of other sources, or folders "
        f'{where} of your own; or set `sources="file"` if no two files show the same scene.'
    )
