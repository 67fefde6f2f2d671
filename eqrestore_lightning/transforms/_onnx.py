"""Write a restorer, and what comes after it, as a file for other runtimes."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.nn._separable import SeparableShiftEstimator
from eqrestore_lightning.transforms._restore import RestoreTransform


def export_onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    images: Tensor,
    *,
    dynamic: Sequence[int] = (0,),
) -> None:
    """Write a module that contains a `RestoreTransform` as an ONNX file, to run without Python.

    onnxruntime on a CPU restores images to the same bits as this package does, for every shift,
    unless the best scores of an image are exactly equal: this package then decides by content,
    which ONNX has no operator for, and the file by the lowest index. Such images repeat themselves,
    or are blank.

    Args:
        module: `RestoreTransform("photo")`, or an `nn.Sequential` of it and a classifier.
        path: Where to; an older file there is replaced.
        images: Images of the shape and dtype that the module takes, such as uint8
            `(2, 3, 224, 224)`. Their values do not matter; there must be at least two.
        dynamic: The axes of `images` whose size may change: 0 for any number of images,
            `(0, 2, 3)` for any height and width as well, where all of `module` allows that.

    Raises:
        ImportError: If onnx or onnxscript is missing.
        TypeError: If `module` contains no `RestoreTransform`.
        ValueError: If its estimator is not for images of any size: others need spectra in float64.
    """
    estimators = [each.estimator for each in module.modules() if isinstance(each, RestoreTransform)]
    if not estimators:
        raise TypeError(
            f"Expected `module` to be or to contain a RestoreTransform, "
            f"but got {type(module).__name__}."
        )
    _check(estimators)
    try:
        from onnxscript import opset18 as op
    except ImportError as error:
        raise ImportError(
            "Expected onnx and onnxscript to be installed: pip install 'eqrestore-lightning[onnx]'"
        ) from error

    def largest(scores: Any, image: Any) -> Any:
        del image
        return op.ArgMax(op.Flatten(scores, axis=1), axis=1, keepdims=0)

    def remainder(x: Any, divisor: Any) -> Any:  # torch's own takes no size that may change
        return op.Mod(x, op.CastLike(divisor, x))

    sizes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    with _quiet():
        program = torch.onnx.export(
            nn.Sequential(module).eval(),  # whose `forward` takes images, as `(images,)` says
            (images,),
            dynamo=True,
            dynamic_shapes=(sizes,),
            input_names=["images"],
            output_names=["output"],
            custom_translation_table={
                torch.ops.eqrestore.best_index.default: largest,
                torch.ops.aten.remainder.Scalar: remainder,
            },
            verbose=False,
        )
    assert program is not None  # with `dynamo`  # noqa: S101
    path = Path(path)
    with whole_file(path) as part:
        program.save(part)


def _check(estimators: Sequence[Estimator]) -> None:
    for estimator in estimators:
        if not isinstance(estimator, SeparableShiftEstimator):
            raise ValueError(
                f"Expected an estimator for images of any size, such as `photo`, but got a "
                f"{type(estimator).__name__}, whose spectra in float64 ONNX has no operators for."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch's exporter says of its own progress and internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
