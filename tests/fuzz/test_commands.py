"""Command lines that cannot work end with status 2 and one line, and write nothing."""

import contextlib
import io
import warnings

import numpy as np
import PIL.Image
import pytest
from fuzz.tools import NETWORK, few_or, save_checkpoint, try_all
from hypothesis.strategies import sampled_from

from eqrestore_lightning import (
    ClassifierModule,
    CopiesEstimator,
    TranslationEstimator,
    cli,
    save_estimator,
)

WORKING = {
    "fit": "@images @out.safetensors --network=seam --steps=1",
    "restore": "@good.safetensors @images @out",
    "evaluate": "@classifier.ckpt @classes @good.safetensors --max_shift=1",
    "inspect": "@images",
    "export": "photo @out.onnx",
}
"""What each command works with; `@` stands for the folder of `inputs`."""
NUMBERS = {
    "fit": "image_size steps minutes batch_size max_shift seed",
    "restore": "min_margin prior batch_size",
    "evaluate": "max_shift min_margin prior image_size batch_size seed",
    "inspect": "image_size",
    "export": "height width",
}
POSITIVE = ("image_size", "minutes", "batch_size")
BAD = {
    "fit {} @out.safetensors --network=seam --steps=1":
        "@nothing @empty @mixed @two @broken @notes @words.npy @words.csv @cut.ckpt @linked @tiny",
    "fit @images {} --network=seam --steps=1":
        "@out.pt @full /dev/null/out.safetensors @notes/out.safetensors",
    "fit @images @out.safetensors --steps=1 --network={}": "x rotation,--axes=[-1]",
    "fit @images @out.safetensors --network=seam --steps=1 {}":
        "--axes=[5] --axes=x --axes=[] --minutes=1 --corners=x --corners=zeros --sources=x "
        "--start=x --start=@nothing.ckpt --start=@cut.safetensors --start=digits "
        "--start=@signals.safetensors --max_shift=99",
    "fit @signals.npy @out.safetensors --steps=1 --network={}": "photo",
    "restore {} @images @out":
        "x @nothing.safetensors @notes @cut.safetensors @cut.ckpt @classifier.ckpt @images "
        "@signals.safetensors digits",
    "restore @good.safetensors {} @out":
        "@nothing @empty @mixed @broken @notes @linked @tiny",
    "restore @good.safetensors @images {}": "@full @notes /dev/null/out @images",
    "restore photo {} @out": "@tiny",
    "evaluate {} @classes @good.safetensors":
        "x @nothing.ckpt @cut.ckpt @notes os:nothing no.module:x os:path os:getcwd "
        "@good.safetensors : x:",
    "evaluate @classifier.ckpt {} @good.safetensors":
        "@nothing @empty @images @mixed @broken @linked",
    "evaluate @classifier.ckpt @classes {}":
        "x @cut.safetensors @signals.safetensors digits @turns.safetensors",
    "evaluate @classifier.ckpt @classes @good.safetensors {}":
        "--kind=x --grayscale=true --kind=crop,--max_shift=6",
    "inspect {}": "@nothing @empty @mixed @broken @notes @linked",
    "export {} @out.onnx": "x digits @good.safetensors @cut.safetensors @nothing.ckpt",
    "export photo {}": "@out.pt @full /dev/null/out.onnx",
    "{}": "fits --fit restore,--help=x --config=@nothing.yaml,fit",
}  # fmt: skip
"""Command lines and what stands wrongly at `{}`; a comma separates words."""


def bad_lines():
    for line, words in BAD.items():
        yield from (line.format(word.replace(",", " ")) for word in words.split())
    for command, words in WORKING.items():
        yield from (command, f"{command} {words} --unknown=1", f"{command} {words} one too many")
        for name in NUMBERS[command].split():
            least = ("-1", "0") if name in POSITIVE else ("-1",)
            bad = {"min_margin": (), "seed": (), "prior": ("-1", "2", "nan")}.get(name, least)
            yield from (f"{command} {words} --{name}={value}" for value in ("x", "[1]", "", *bad))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Write good and bad images, weights and signals into a folder."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    sides = {"images": 12, "classes/a": 12, "classes/b": 12, "full": 12, "broken": 12, "tiny": 1}
    for name, side in sides.items():
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (side, side, 3), "uint8")
            PIL.Image.fromarray(pixels).save(folder / name / f"{number}.png")
    for name in ("empty", "mixed", "two", "linked"):
        (folder / name).mkdir()
    for name in ("mixed", "two"):
        for number in range(2):
            image = PIL.Image.new("RGB", (12, 12 + number if name == "mixed" else 12))
            image.save(folder / name / f"{number}.png")
    (folder / "linked" / "all").symlink_to(folder / "images")
    whole = (folder / "images" / "0.png").read_bytes()
    (folder / "broken" / "z.png").write_bytes(whole[:200])
    (folder / "notes").write_text("no image, no weights")
    save_estimator(TranslationEstimator(3, (12, 12), **NETWORK), folder / "good.safetensors")
    save_estimator(TranslationEstimator(2, (9,), **NETWORK), folder / "signals.safetensors")
    save_estimator(CopiesEstimator(3), folder / "turns.safetensors")
    whole = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.ckpt").write_bytes(b"PK\3\4")
    save_checkpoint(ClassifierModule(3, 2), folder / "classifier.ckpt")
    np.save(folder / "signals.npy", random.random((30, 9)))
    np.save(folder / "words.npy", np.array(["a"] * 30))
    (folder / "words.csv").write_text("a,b\nc,d\n")
    return folder


@few_or(1_000, few=20)
def test_commands_that_cannot_work_end_with_one_line(count, inputs, monkeypatch):
    monkeypatch.chdir(inputs)
    before = sorted(inputs.rglob("*"))

    def check(line):
        told = io.StringIO()
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(told),
            pytest.raises(SystemExit) as end,
        ):
            cli.eqrestore([word.replace("@", f"{inputs}/") for word in line.split()])
        lines = told.getvalue().strip().splitlines()
        own = [line for line in lines if line.startswith("eqrestore: ")]
        assert (end.value.code, len(own), lines[-1]) == (2, 1, own[0]), lines

    try_all(count, sampled_from([*bad_lines()]), check)
    assert sorted(inputs.rglob("*")) == before
