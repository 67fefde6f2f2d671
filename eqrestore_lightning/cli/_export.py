"""The command `eqrestore export`."""

from pathlib import Path


def run(
    weights: str, output: Path, height: int = 0, width: int = 0, floating: bool = False
) -> None:
    """Write a restorer as an ONNX file, to run without Python.

    Args:
        weights: Bundled weights for images of any size, such as `photo`, or a file of weights.
        output: The file to write, ending in `.onnx`; an older one there is replaced.
        height: Height of all images, pixels; any height by default.
        width: Width of all images, pixels; any width by default.
        floating: Whether images are float32 instead of uint8.
    """
    import torch

    from eqrestore_lightning.cli._checks import check_at_least, check_output_file
    from eqrestore_lightning.transforms import RestoreTransform, export_onnx

    check_output_file(output, ".onnx")
    check_at_least(0, height=height, width=width)
    restore = RestoreTransform(weights)
    dtype = torch.float32 if floating else torch.uint8
    shape = (2, restore.estimator.in_channels, height or 48, width or 64)
    dynamic = [0, *(axis for axis, size in ((2, height), (3, width)) if not size)]
    print("Writing the graph; this takes from seconds to two minutes.", flush=True)  # noqa: T201
    output.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(restore, output, torch.zeros(shape, dtype=dtype), dynamic=dynamic)
    size = " × ".join(str(size) if size else "any" for size in (height, width))
    print(  # noqa: T201
        f"{output}: takes {str(dtype).removeprefix('torch.')} images of {shape[1]} channels, "
        f"{size} pixels, any number at a time."
    )
