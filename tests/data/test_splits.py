"""Images of one source stay in one split."""

import re
from itertools import chain

import PIL.Image
import pytest
import torch
from hypothesis import given, strategies as st

from eqrestore_lightning.data import ImageFolderDataModule, PhotoCropDataModule
from eqrestore_lightning.data._folder_split import source_prefix, split_by_source

SPLITS = ("train", "val", "test")
_letters = st.text("abcxyzÄß", min_size=1, max_size=8)
_words = st.lists(_letters, min_size=2, max_size=3).map("_".join)  # "left_eye"
_separators = st.sampled_from(["_", "-", ".", " ", " - ", "__"])
_numbers = st.one_of(
    st.integers(0, 99_999).map(str),
    st.integers(0, 99_999).map("{:05}".format),
    st.integers(0, 999).map("({})".format),
    st.integers(0, 999).map("x{}".format),
)


@given(_words, st.lists(st.tuples(_separators, _numbers), min_size=1, max_size=3))
def test_numbers_at_the_end_are_no_part_of_a_prefix(name, numbers):
    assert source_prefix(name + "".join(map("".join, numbers))) == name


@given(_words)
def test_a_name_without_numbers_is_its_own_prefix(name):
    assert source_prefix(name) == name


@given(st.integers(0, 999), _separators, st.integers(0, 999))
def test_a_name_of_digits_loses_its_last_number_only(photograph, separator, crop):
    assert source_prefix(f"{photograph}") == f"{photograph}"
    assert source_prefix(f"{photograph}{separator}{crop:03}") == f"{photograph}"


@given(st.text(max_size=12))
def test_a_prefix_is_found_in_any_name(name):
    prefix = source_prefix(name)
    assert name.startswith(prefix)
    assert bool(prefix) == bool(name)
    assert source_prefix(prefix) == prefix or not any(map(str.isalpha, name))


def _fill(root, *names):
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (4, 3), number % 256).save(path)


def _crops(*sources, count=6, pattern="{}_{:03}.png"):
    return [pattern.format(source, number) for source in sources for number in range(count)]


def _splits(root, **options):
    """Names of the files of each split."""
    data = ImageFolderDataModule(root, grayscale=True, **options)
    return {split: data.names(split) for split in SPLITS}, data


def _shared(splits, source_of):
    """Sources that more than one split has."""
    found = [{source_of(name) for name in names} for names in splits.values()]
    return (found[0] & found[1]) | (found[0] & found[2]) | (found[1] & found[2])


@pytest.mark.parametrize("seed", range(4))
def test_crops_of_one_photograph_stay_together(tmp_path, seed):
    _fill(
        tmp_path,
        *_crops("china", "flower"),
        *_crops("coffee", pattern="{}-{}.png"),
        *_crops("rocket", pattern="{} {}.png"),
        *_crops("cat", pattern="{} ({}).png"),
    )
    splits, data = _splits(tmp_path, seed=seed)
    assert _shared(splits, lambda name: re.match("[a-z]+", name)[0]) == set()
    assert [len(splits[split]) for split in SPLITS] == [18, 6, 6]
    (val,), (test,) = set(data.sources("val")), set(data.sources("test"))
    train = ", ".join(dict.fromkeys(data.sources("train")))
    assert data.describe_split() == (
        f"Split by source (file-name prefix), so that none is in two parts: train 18 images "
        f"({train}), val 6 images ({val}), test 6 images ({test})."
    )
    labels = data.dataset("val").images.flatten().unique().tolist()
    assert len(labels) == 6  # the images are those of the names
    assert _splits(tmp_path, seed=seed)[0] == splits


def test_without_sources_the_split_is_random_and_the_same_for_a_seed(tmp_path):
    names = [f"IMG_{number:04}.png" for number in range(30)]
    _fill(tmp_path, *names)
    splits, data = _splits(tmp_path)
    assert [len(splits[split]) for split in SPLITS] == [24, 3, 3]
    assert sorted(chain(*splits.values())) == names
    assert _splits(tmp_path)[0] == splits
    assert _splits(tmp_path, seed=1)[0] != splits
    assert data.describe_split() == (
        "Split at random, each file its own source: train 24 images, val 3 images, test 3 images."
    )
    assert [int(name[4:8]) for name in splits["test"]] == _drawn(30)[-3:]
    assert data.dataset("test").images[:, 0, 0, 0].tolist() == _drawn(30)[-3:]


def _drawn(count):
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()


def test_too_few_sources(tmp_path):
    _fill(tmp_path, *_crops("china", "flower"))
    message = (
        f"Expected images of at least 3 sources below {tmp_path}, so that train, val and test "
        f"share none, but got 2: china (6), flower (6). Add images of other sources, or folders "
        f'val and test of your own; or set `sources="file"` if no two files show the same scene.'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _splits(tmp_path)
    assert len(_splits(tmp_path, sources="file")[0]["train"]) == 10
    _fill(tmp_path, "rocket.png")
    assert sorted(map(len, _splits(tmp_path)[0].values())) == [1, 6, 6]
    with pytest.raises(ValueError, match=r"^Expected `sources` to be one of .*, but got 'name'\.$"):
        _splits(tmp_path, sources="name")


def test_folders_of_ones_own_need_no_sources_but_those_that_are_missing(tmp_path):
    _fill(tmp_path / "train", *_crops("china"))
    _fill(tmp_path / "val", *_crops("china", count=2))
    _fill(tmp_path / "test", *_crops("flower", count=3))
    splits, data = _splits(tmp_path)
    assert [len(splits[split]) for split in SPLITS] == [6, 2, 3]
    assert data.describe_split() == (
        "Split by the folders train, val and test: train 6 images, val 2 images, test 3 images."
    )
    for path in sorted((tmp_path / "test").iterdir()):
        path.rename(tmp_path / "train" / path.name)
    (tmp_path / "test").rmdir()
    splits, data = _splits(tmp_path)
    assert _shared({**splits, "val": []}, lambda name: name.split("_")[0]) == set()
    assert data.describe_split() == (
        "Split by source (file-name prefix), so that none is in two parts: "
        "train 6 images (china), val 2 images, test 3 images (flower)."
    )


def test_in_class_folders_the_prefix_decides(tmp_path):
    patients = [f"patient{number}" for number in "abcde"]
    _fill(tmp_path, *(f"healthy/{name}" for name in _crops(*patients[:4])))
    _fill(tmp_path, *(f"ill/{name}" for name in _crops(*patients[2:])))
    splits, data = _splits(tmp_path)
    assert _shared(splits, lambda name: re.search("patient.", name)[0]) == set()
    data.setup()
    assert data.classes == ["healthy", "ill"]


def test_class_names_and_numbers_of_classes_are_no_sources(tmp_path):
    _fill(tmp_path, *(f"{name[:3]}/{name}" for name in _crops("cat", "dog", count=10)))
    assert "each file its own source" in _splits(tmp_path)[1].describe_split()
    numbered = tmp_path / "numbered"
    _fill(numbered, *(f"{label}/{number}.png" for label in "ab" for number in range(10)))
    assert "each file its own source" in _splits(numbered)[1].describe_split()
    nested = tmp_path / "nested"
    _fill(nested, *(f"{label}/images/{number}.png" for label in "abc" for number in range(10)))
    assert "each file its own source" in _splits(nested)[1].describe_split()


def test_folders_below_class_folders_are_sources(tmp_path):
    folders = [f"{label}/{photograph}" for label in "ab" for photograph in (1, 2)]
    _fill(tmp_path, *(f"{folder}/{number}.png" for folder in folders for number in range(5)))
    splits, data = _splits(tmp_path)
    assert _shared(splits, lambda name: name.rsplit("/", 1)[0]) == set()
    assert data.describe_split().startswith("Split by source (folder), so that none is in two")
    flat = tmp_path / "flat"
    _fill(flat, *(f"{folder}/{number}.png" for folder in "abc" for number in range(5)))
    assert _shared(_splits(flat)[0], lambda name: name[0]) != set()  # classes


def test_photographs_of_one_folder_stay_together_from_three_folders_on(tmp_path):
    _fill(tmp_path, *(f"{folder}/IMG_{number}.png" for folder in "ab" for number in range(5)))
    data = PhotoCropDataModule(tmp_path, crop_sizes=[2])
    assert data.describe_split() == (
        "Split at random, each file its own source: train 8 photographs, val 1 photographs, "
        "test 1 photographs."
    )
    _fill(tmp_path, *(f"c/IMG_{number}.png" for number in range(5)))
    data = PhotoCropDataModule(tmp_path, crop_sizes=[2])
    assert _shared({split: data.names(split) for split in SPLITS}, lambda name: name[0]) == set()


@given(st.lists(st.integers(1, 40), min_size=3, max_size=12), st.integers(0, 5))
def test_most_images_are_for_training_where_sources_allow(sizes, seed):
    sources = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    parts = split_by_source(sources, ["val", "test"], seed=seed, folder=None, noun="images")
    assert sorted(chain(*parts.values())) == list(range(len(sources)))
    assert _shared(parts, lambda position: sources[position]) == set()
    assert min(map(len, parts.values())) >= 1
    assert len(parts["train"]) >= len(sources) / 3
