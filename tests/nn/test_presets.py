import re
from unittest import mock

import pytest
import torch

from eqrestore_lightning.nn import (
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
    build_preset,
    list_presets,
    register_preset,
)
from eqrestore_lightning.nn._presets import _PRESETS
from eqrestore_lightning.weights._files import build_estimator, estimator_config

SHIFTS = ["border", "centered", "paper", "seam"]


def test_the_names_are_sorted():
    names = list_presets()
    assert names == sorted(names)
    assert {*SHIFTS, "rotation", "roto-translation"} <= set(names)


@pytest.mark.parametrize("name", list_presets())
@pytest.mark.parametrize(("channels", "size"), [(1, (28, 28)), (3, (40, 33))])
def test_every_preset_builds_what_scores_images_and_can_be_saved(name, channels, size):
    estimator = build_preset(name, channels, size)
    x = torch.rand(2, channels, *size)
    scores = estimator(x)
    assert scores.isfinite().all()
    assert not estimator.constant(scores.detach()).any()
    twin = build_estimator(estimator_config(estimator))
    twin.load_state_dict(estimator.state_dict())
    assert torch.equal(twin(x), scores)


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("size", [(31,), (9, 10, 11)])
def test_presets_of_shifts_take_signals_and_volumes(name, size):
    estimator = build_preset(name, 2, size)
    assert estimator(torch.rand(2, 2, *size)).shape == (2, *size)


@pytest.mark.parametrize("name", SHIFTS)
def test_presets_of_shifts_take_axes(name):
    estimator = build_preset(name, 3, (24, 48), axes=(-1,))
    assert estimator(torch.rand(2, 3, 24, 48)).shape == (2, 48)


def test_the_networks_are_those_that_they_are_named_after():
    assert build_preset("paper", 1, (32, 32)).config == TranslationEstimator(1, (32, 32)).config
    assert isinstance(build_preset("rotation", 1, (32, 32)), RotationEstimator)
    assert isinstance(build_preset("roto-translation", 1, (32, 32)), RotoTranslationEstimator)
    border = build_preset("border", 3, (40, 41))
    assert len(border.layers) == 1
    assert border.layers[0].kernel_size == (40, 41)


def test_options_replace_those_of_the_preset():
    estimator = build_preset("seam", 1, (32, 32), hidden_channels=[4] * 5, skip=False)
    assert estimator.config["hidden_channels"] == [4] * 5
    assert estimator.config["skip"] is False
    assert estimator.config["bias"] is True
    rotation = build_preset("rotation", 1, (32, 32), num_angles=36, fill="border")
    assert (rotation.num_angles, rotation.num_radii, rotation.fill) == (36, 16, "border")
    both = build_preset(
        "roto-translation", 1, (32, 30), translation={"bias": False}, rotation={"num_radii": 5}
    )
    assert both.translation.config["bias"] is False
    assert both.translation.config["hidden_channels"] == [16] * 5
    assert both.rotation.num_radii == 5
    assert build_preset("roto-translation", 1, (32, 30), num_angles=36).rotation.num_angles == 36


def test_unknown_names_are_refused():
    message = f"Expected `name` to be one of {list_presets()}, but got 'papers'."
    with pytest.raises(ValueError, match=re.escape(message)):
        build_preset("papers", 1, (32, 32))


def test_a_preset_of_ones_own_is_named_after_its_function():
    with mock.patch.dict(_PRESETS):

        @register_preset
        def for_signals(in_channels, spatial_size, **options):
            return TranslationEstimator(in_channels, spatial_size, **{"kernel_size": 5, **options})

        assert "for-signals" in list_presets()
        assert build_preset("for-signals", 1, (9,)).config["kernel_size"] == [5] * 6
        assert build_preset("for-signals", 1, (9,), kernel_size=3).config["kernel_size"] == [3] * 6
