"""Command lines that cannot work, and what they are tried on."""

import contextlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
from _damaged import NETWORK, save_checkpoint

from eqrestore_lightning import (
    ClassifierModule,
    QuarterTurnEstimator,
    TranslationEstimator,
    cli,
    save_estimator,
)


def prepare(folder: Path) -> Path:
    """Write good and bad images, weights and signals into a folder, and return it."""
    random = np.random.default_rng(0)
    for name, count, sizes in (
        ("images", 12, [(12, 12)]),
        ("classes/a", 6, [(12, 12)]),
        ("classes/b", 6, [(12, 12)]),
        ("mixed", 12, [(12, 12), (13, 12)]),
        ("two", 2, [(12, 12)]),
        ("broken", 11, [(12, 12)]),
        ("tiny", 12, [(1, 1)]),
        ("empty", 0, []),
        ("full", 1, [(12, 12)]),
    ):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (*sizes[number % len(sizes)], 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{chr(97 + number)}.png")
    (folder / "broken" / "z.png").write_bytes((folder / "images" / "a.png").read_bytes()[:200])
    (folder / "linked").mkdir()
    (folder / "linked" / "all").symlink_to(folder / "images")
    (folder / "a file").write_text("no image, no weights")
    save_estimator(TranslationEstimator(3, (12, 12), **NETWORK), folder / "good.safetensors")
    save_estimator(TranslationEstimator(2, (9,), **NETWORK), folder / "signals.safetensors")
    save_estimator(QuarterTurnEstimator(3, (12, 12), **NETWORK), folder / "turns.safetensors")
    whole = (folder / "good.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.ckpt").write_bytes(b"PK\3\4")
    save_checkpoint(ClassifierModule(3, 2), folder / "classifier.ckpt")
    np.save(folder / "signals.npy", random.random((30, 9)))
    np.save(folder / "words.npy", np.array(["a"] * 30))
    (folder / "words.csv").write_text("a,b\nc,d\n")
    return folder


def bad_commands(folder: Path) -> list[list[str]]:
    """Return command lines that must end with one clear message, after `prepare`."""
    lines = [
        *_anywhere(folder),
        *_fit(folder),
        *_restore(folder),
        *_evaluate(folder),
        *_looking(folder),
    ]
    return [[str(word).replace("@", f"{folder}/") for word in line] for line in lines]


GOOD = {
    "fit": ["@images", "@out.safetensors", "--network=seam", "--epochs=1"],
    "restore": ["@good.safetensors", "@images", "@out"],
    "evaluate": ["@classifier.ckpt", "@classes", "@good.safetensors", "--max_shift=1"],
    "inspect": ["@images"],
    "audit": ["@classifier.ckpt", "--image_size=16"],
    "export": ["photo", "@out.onnx"],
}
"""A command line of each command that works, but for the options that are added to it."""

NUMBERS = {
    "fit": ["image_size", "epochs", "minutes", "batch_size", "max_shift", "seed"],
    "restore": ["min_margin", "prior", "batch_size"],
    "evaluate": ["max_shift", "min_margin", "prior", "image_size", "batch_size", "seed"],
    "inspect": ["image_size"],
    "audit": ["image_size", "channels", "seed"],
    "export": ["height", "width"],
}
"""Options that take a number."""

_SIGNED = {"min_margin": (), "seed": (), "max_shift": ("-1",), "prior": ("-1", "2", "nan")}
_ZERO = ("image_size", "minutes", "batch_size", "channels")


def _anywhere(folder: Path) -> Iterable[list[str]]:
    """Yield lines with unknown names, too few or too many words, and numbers out of range."""
    del folder
    yield from ([], ["fits"], ["--fit"], ["restore", "--help=x"], ["--config=@nothing.yaml", "fit"])
    for command, words in GOOD.items():
        yield [command]
        yield [command, *words, "--unknown=1"]
        yield [command, *words, "one", "too", "many"]
        yield [command, *words, f"--config={'@a file'}"]
        for name in NUMBERS[command]:
            bad = _SIGNED.get(name, ("-1", "0") if name in _ZERO else ("-1",))
            for value in ("x", "[1]", "", *bad):
                yield [command, *words, f"--{name}={value}"]
        if command not in ("inspect", "audit"):
            yield [command, words[0]]


def _fit(folder: Path) -> Iterable[list[str]]:
    del folder
    options = GOOD["fit"][2:]
    for data in ("@nothing", "@empty", "@mixed", "@two", "@broken", "@a file", "@words.npy",
                 "@words.csv", "@cut.ckpt", "@linked", "@tiny"):  # fmt: skip
        yield ["fit", data, "@out.safetensors", *options]
    for output in ("@out.pt", "@full", "/dev/null/out.safetensors", "@a file/out.safetensors"):
        yield ["fit", "@images", output, *options]
    for more in ("--network=x", "--network=rotation --axes=[-1]", "--axes=[5]", "--axes=x",
                 "--axes=[]", "--crop_sizes=[]", "--crop_sizes=[0]", "--crop_sizes=[999]",
                 "--crop_sizes=[8] --image_size=8", "--fill=x", "--corners=x", "--corners=zeros",
                 "--sources=x", "--start=x", "--start=@nothing.ckpt", "--start=@cut.safetensors",
                 "--start=digits", "--start=@signals.safetensors", "--max_shift=99"):  # fmt: skip
        yield ["fit", "@images", "@out.safetensors", *options, *more.split()]
    yield ["fit", "@images", "@out.safetensors", "--network=photo-turn", "--max_shift=3"]
    yield ["fit", "@signals.npy", "@out.safetensors", "--network=photo", "--epochs=1"]


def _restore(folder: Path) -> Iterable[list[str]]:
    del folder
    for weights in ("x", "@nothing.safetensors", "@a file", "@cut.safetensors", "@cut.ckpt", "",
                    "@classifier.ckpt", "@images", "@signals.safetensors", "digits"):  # fmt: skip
        yield ["restore", weights, "@images", "@out"]
    for images in ("@nothing", "@empty", "@mixed", "@broken", "@a file", "@linked", "@tiny"):
        yield ["restore", "@good.safetensors", images, "@out"]
    for output in ("@full", "@a file", "/dev/null/out", "@images"):
        yield ["restore", "@good.safetensors", "@images", output]
    yield ["restore", "photo", "@tiny", "@out"]


def _evaluate(folder: Path) -> Iterable[list[str]]:
    del folder
    for classifier in ("x", "@nothing.ckpt", "@cut.ckpt", "@a file", "os:nothing", "no.module:x",
                       "os:path", "os:getcwd", "@good.safetensors", ":", "x:"):  # fmt: skip
        yield ["evaluate", classifier, "@classes", "@good.safetensors"]
    for images in ("@nothing", "@empty", "@images", "@mixed", "@broken", "@linked"):
        yield ["evaluate", "@classifier.ckpt", images, "@good.safetensors"]
    for restorer in ("x", "@cut.safetensors", "@signals.safetensors", "digits"):
        yield ["evaluate", "@classifier.ckpt", "@classes", restorer]
    words = ["evaluate", *GOOD["evaluate"]]
    yield [*words, "--kind=x"]
    yield [*words, "--kind=crop", "--max_shift=6"]
    yield [*words[:3], "@turns.safetensors"]
    yield [*words, "--grayscale=true"]


def _looking(folder: Path) -> Iterable[list[str]]:
    del folder
    for images in ("@nothing", "@empty", "@mixed", "@broken", "@a file", "@linked"):
        yield ["inspect", images]
    for model in ("x", "@nothing.ckpt", "@cut.ckpt", "os:nothing", "no.module:x", "os:path", ""):
        yield ["audit", model]
    yield ["audit", "@classifier.ckpt", "--channels=1"]
    yield ["audit", "@classifier.ckpt", "--image_size=16", "--picture=@full"]
    yield ["audit", "@classifier.ckpt", "--image_size=16", "--picture=/dev/null/x.png"]
    for weights in ("x", "digits", "@good.safetensors", "@cut.safetensors", "@nothing.ckpt"):
        yield ["export", weights, "@out.onnx"]
    for output in ("@out.pt", "@full", "/dev/null/out.onnx", "@nothing/out.onnx"):
        yield ["export", "photo", output]


def run_command(arguments: list[str]) -> tuple[str, str]:
    """Run a command line in this process; return what happened, see `Tally`, and what it said.

    It is refused clearly if it ends with status 2 and one line that begins with the command's name.
    """
    told = io.StringIO()
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(told),
        ):
            cli.eqrestore(arguments)
    except SystemExit as end:
        lines = told.getvalue().strip().splitlines()
        own = [line for line in lines if line.startswith("eqrestore: ")]
        clear = end.code == 2 and len(own) == 1 and lines[-1] == own[0]
        return "refused" if clear else "unclear", f"{end.code}: {told.getvalue()[-300:]}"
    except BaseException as error:
        return "unclear", f"{type(error).__name__}: {error}"
    return "accepted", ""
