"""Images of one source, such as crops of one photograph, and splits that keep them together."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from eqrestore_lightning.data._module import Split

SourceRule: TypeAlias = Literal["auto", "folder", "prefix", "file"]
_NUMBER = re.compile(r"[\s_.-]+(?:[a-z]?\d+|\(\d+\))$", re.IGNORECASE)
_SHARE = 10  # a tenth of the images is for validation, and a tenth for testing


def check_source_rule(rule: str) -> None:
    """Check that `rule` is one of `SourceRule`.

    Raises:
        ValueError: If it is not.
    """
    if rule not in get_args(SourceRule):
        raise ValueError(
            f"Expected `sources` to be one of {get_args(SourceRule)}, but got {rule!r}."
        )


def source_prefix(stem: str) -> str:
    """Return what precedes the numbers at the end of a file name.

    A number is set off by a space, `_`, `-` or `.`, and may follow one letter or be in parentheses.
    A name of digits alone loses its last number only.

    Args:
        stem: File name without its extension.

    >>> [source_prefix(name) for name in ("china_001", "china-12", "china 3", "china_x64_y128")]
    ['china', 'china', 'china', 'china']
    >>> [source_prefix(name) for name in ("china", "0007", "12_034", "left_eye", "ward3_a")]
    ['china', '0007', '12', 'left_eye', 'ward3_a']
    """
    shorter = _NUMBER.sub("", stem)
    while shorter and shorter != stem and re.search(r"[^\W\d_]", shorter):
        stem, shorter = shorter, _NUMBER.sub("", shorter)
    return shorter or stem


def find_sources(
    files: Sequence[Path], folder: Path, rule: SourceRule = "auto", *, classes: bool
) -> tuple[list[str], str]:
    """Return the source of each file, and how it was recognized.

    Args:
        files: Images below `folder`.
        folder: Where they were looked for.
        rule: `"folder"`: files of one folder are of one source; `"prefix"`: files whose names have
            one `source_prefix`, in whatever folder; `"file"`: each file is its own. `"auto"`: by
            folder if there are at least three and they are not just class folders, otherwise by
            prefix. For `"auto"`, a prefix that all files have of each folder where it occurs
            (`IMG_0001`, `IMG_0002`, …) is not informative: each of these files is its own source.
        classes: For `"auto"`, whether the folders directly below `folder` are classes.

    Returns:
        Names of sources, as many as files, and one of `"folder"`, `"file-name prefix"` and
        `"file"`, the last if no two files share a source.
    """
    paths = [path.relative_to(folder) for path in files]
    by_folder = rule == "folder" or (rule == "auto" and _folders_are_sources(paths, classes))
    if by_folder:
        names = [path.parent.as_posix() for path in paths]
    elif rule == "prefix":
        names = [source_prefix(path.stem) for path in paths]
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
    """Return the prefix of each file, or its path where the prefix is not informative."""
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
    """Split images at random into training and `missing` splits, each source in one of them.

    Each of the missing splits gets about a tenth of the images and at least one source; sources of
    more images than that stay in training as long as there are others.

    Args:
        sources: Source of each image.
        missing: Which of `"val"` and `"test"` to take from the training images.
        seed: Determines the split.
        folder: Named in messages.
        noun: What the images are called in messages.

    Returns:
        Positions of the images of `"train"` and of each missing split.

    Raises:
        ValueError: If there are fewer sources than splits.
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
