"""The guarantee, tried at random: every motion of an image is restored to the same image."""

import contextlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from eqrestore_lightning import (
    CopiesEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.functional import circular_shift
from eqrestore_lightning.functional._shift import random_shift
from eqrestore_lightning.nn import ProfileEstimator
from eqrestore_lightning.nn._seam_rule import SeamRule
from eqrestore_lightning.weights import bundled_weights

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")

IMAGES, MOTIONS = 8, 8  # of one example: 64 pairs
SMALL = {"hidden_channels": [3], "kernel_size": [5, 1], "bias": True}
FULL = {"hidden_channels": [2], "kernel_size": ["full", 1], "separable": True}
DEEP = {"hidden_channels": [3, 3, 3], "kernel_size": 3, "skip": True}
POLAR = {"num_radii": 5, "num_angles": 24, "hidden_channels": [3], "kernel_size": [5, 1]}
INTEGERS = {**POLAR, "bits": 8}


def _translation(size, **network):
    return lambda: TranslationEstimator(2, size, **network)


SHIFTED = {
    "1-D": (_translation((19,), **SMALL), (19,)),
    "2-D": (_translation((11, 8), **SMALL), (11, 8)),
    "full size": (_translation((9, 12), **FULL), (9, 12)),
    "deep": (_translation((8, 9), **DEEP), (8, 9)),
    "deep, integers": (_translation((9, 8), **DEEP, bits=8), (9, 8)),
    "3-D": (_translation((5, 6, 4), **{**SMALL, "kernel_size": [3, 1]}), (5, 6, 4)),
    "photographs": (
        lambda: ProfileEstimator(2, channels=4, features=6, profile_channels=5),
        (17, 23),
    ),
    "rule": (lambda: SeamRule(2), (16, 13)),
    "shift of both": (
        lambda: RotoTranslationEstimator(2, (10, 10), translation=SMALL, rotation=POLAR),
        (10, 10),
    ),
}
TURNED = {
    "polar": (lambda: RotationEstimator(2, (16, 16), **POLAR), (16, 16)),
    "polar, integers": (lambda: RotationEstimator(2, (16, 16), **INTEGERS), (16, 16)),
    "polar, mass": (lambda: RotationEstimator(2, (15, 15), center="mass", **POLAR), (15, 15)),
    "copies": (lambda: CopiesEstimator(2, scorer_options={"channels": [4]}), (21, 21)),
}
CONTEXTS = (
    "none",
    "autocast",
    "one thread",
    "four threads",
    "deterministic",
    "without oneDNN",
    "denormals flushed",
)
LAYOUTS = ("contiguous", "expanded", "strided", "channels last")
DTYPES = (torch.uint8, torch.int32, torch.float16, torch.bfloat16, torch.float32, torch.float64)
KINDS = ("noise", "few levels", "sparse", "periodic", "constant", "ramp", "denormal", "huge")


@contextlib.contextmanager
def _context(name):
    threads = torch.get_num_threads()
    try:
        if name in ("one thread", "four threads"):
            torch.set_num_threads(1 if name == "one thread" else 4)
        torch.use_deterministic_algorithms(name == "deterministic")
        torch.set_flush_denormal(name == "denormals flushed")
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "autocast"),
            torch.backends.mkldnn.flags(enabled=name != "without oneDNN"),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)


def _images(kind, dtype, size, generator):
    """Images whose entries are multiples of 2^-40 of the largest."""
    shape = (IMAGES, 2, *size)
    x = torch.randint(0, 256, shape, generator=generator).double()
    if kind == "few levels":
        x = (x > 128).double()
    elif kind == "sparse":
        x = x * (torch.rand(shape, generator=generator) < 0.05)
    elif kind == "periodic":
        x = torch.cat([x, x], 2)[:, :, ::2] if size[0] % 2 == 0 else x[:, :, :1].expand(shape)
    elif kind == "constant":
        x = x[:1, :1].flatten()[0].expand(shape).clone()
    elif kind == "ramp":
        x = torch.arange(x[0, 0].numel()).reshape(size).expand(shape) % 251
    if dtype.is_floating_point and kind in ("denormal", "huge"):
        least = torch.finfo(dtype).smallest_normal
        most = torch.finfo(dtype).max / 512
        return (x.double() * (8 * least if kind == "denormal" else most)).to(dtype)
    return (x.to(dtype) / (255 if dtype.is_floating_point else 1)).to(dtype)


def _laid_out(x, layout):
    if layout == "expanded":
        return x[:1].expand_as(x)
    if layout == "strided":
        return torch.stack([x, x], -1).flatten(-2)[..., ::2]
    if layout == "channels last" and x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x


_cases = st.tuples(
    st.sampled_from(KINDS),
    st.sampled_from(DTYPES),
    st.sampled_from(LAYOUTS),
    st.sampled_from(CONTEXTS),
    st.integers(0, 2**31),
)


def _check(build, size, case, motions):
    kind, dtype, layout, context, seed = case
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    restore = RestoreTransform(build())
    x = _laid_out(_images(kind, dtype, size, generator), layout)
    same = (
        isinstance(restore.estimator, CopiesEstimator)  # exact as its network is repeatable
        or context == "denormals flushed"  # turned images are interpolated in the same arithmetic
    )
    with _context(context if same else "none"):
        expected = restore(x)
    for moved in motions(x, generator):
        laid_out = _laid_out(moved, layout)
        with _context(context):
            assert torch.equal(restore(laid_out), expected)


def _shifts(x, generator):
    dims = x.ndim - 2
    for _ in range(MOTIONS):
        largest = [side // 2 for side in x.shape[2:]]
        shift = random_shift(len(x), largest, num_spatial_dims=dims, generator=generator)
        shift = shift[:1].expand_as(shift) if x.stride(0) == 0 else shift
        yield circular_shift(x, shift)


def _turns(x, generator):
    del generator
    for _ in range(MOTIONS // 4):
        for quarters in range(4):
            yield torch.rot90(x, quarters, (2, 3))


_quick = settings(deadline=None, max_examples=12, derandomize=True)
_long = settings(deadline=None, max_examples=160, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", SHIFTED)
@given(_cases)
@_quick
def test_all_shifts_are_restored_to_the_same_image(name, case):
    _check(*SHIFTED[name], case, _shifts)


@pytest.mark.parametrize("name", TURNED)
@given(_cases)
@_quick
def test_all_quarter_turns_are_restored_to_the_same_image(name, case):
    _check(*TURNED[name], case, _turns)


@pytest.mark.slow  # 12 kinds of estimators, 160 examples, 64 pairs: 122,880
@pytest.mark.parametrize("name", [*SHIFTED, *TURNED])
@given(_cases)
@_long
def test_over_a_hundred_thousand_pairs(name, case):
    build, size = {**SHIFTED, **TURNED}[name]
    _check(build, size, case, _shifts if name in SHIFTED else _turns)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(bundled_weights()))
def test_bundled_weights_in_batches_of_any_size(name):
    restore = RestoreTransform(name)
    size = restore.estimator.spatial_size or (37, 37)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, restore.estimator.in_channels, *size), generator=generator)
    x = x.to(torch.uint8)
    turned = set(restore.estimator.motion.periods(size)) & {"angle", "quarters"}
    expected = restore(x)
    for batch in (1, 7, 40):
        moved = next((_turns if turned == set(restore.estimator.motion.periods(size)) else _shifts)(
            x, generator
        ))  # fmt: skip
        restored = torch.cat([restore(part) for part in moved.split(batch)])
        assert torch.equal(restored, expected)
