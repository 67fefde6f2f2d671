"""The command `eqrestore demo`."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from eqrestore_lightning.cli._demo_inputs import Classify
    from eqrestore_lightning.transforms import RestoreTransform

_TOP = 5  # classes shown


def run(
    weights: str = "photo",
    classifier: str | None = None,
    min_margin: float = 0.0,
    port: int = 7860,
) -> None:
    """Serve a page to play with on this machine: move an image, and see it restored.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        classifier: Show what a classifier says of the moved and of the restored image: name of a
            torchvision model, whose weights are downloaded; checkpoint (.ckpt) of a
            ClassifierModule; or package.module:name of a network, or of a function without
            arguments that returns one, for images of 0 to 1.
        min_margin: Leave images unchanged whose margin is smaller than this.
        port: Where to serve the page: http://127.0.0.1:PORT, for this machine alone.
    """
    from eqrestore_lightning.cli._demo_inputs import classify_with, size_of
    from eqrestore_lightning.transforms import RestoreTransform

    restore = RestoreTransform(weights, min_margin=min_margin)
    if (dims := restore.estimator.num_spatial_dims) != 2:
        raise ValueError(
            f"Expected weights for images, with two spatial axes, but {weights} are for {dims}."
        )
    shape = (restore.estimator.in_channels, *size_of(restore.estimator))
    classify = None if classifier is None else classify_with(classifier, shape)
    _check_gradio()
    page = build_page(restore, weights, classify)
    page.launch(
        prevent_thread_lock=True,
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        footer_links=[],
        theme=_theme(),
    )
    print(f"http://127.0.0.1:{port} shows the page; Ctrl-C ends it.", flush=True)  # noqa: T201
    page.block_thread()


def build_page(restore: "RestoreTransform", weights: str, classify: "Classify | None") -> Any:
    """Build the page, not yet served.

    Args:
        restore: Restores images with two spatial axes.
        weights: How to call it.
        classify: Classifies moved and restored images; the page has no such part without it.

    Returns:
        `gradio.Blocks`.
    """
    import gradio as gr

    with gr.Blocks(title="eqrestore demo", analytics_enabled=False) as page:
        gr.Markdown(f"# Move an image, and see it restored by `{weights}`")
        with gr.Row():
            with gr.Column():
                picture = _picker(restore)
            with gr.Column():
                sliders = _sliders(restore)
        with gr.Row():
            shown: list[Any] = [
                gr.Image(label=label, format="png", height=330, interactive=False, buttons=[])
                for label in ("moved", "scores of all motions, the largest marked", "restored")
            ]
        shown.append(gr.Markdown())
        with gr.Row(visible=classify is not None):
            shown += [
                gr.Label(label=f"classes of the {name} image", num_top_classes=_TOP)
                for name in ("moved", "restored")
            ]
        gr.on(
            [page.load, picture.change, *(slider.change for slider in sliders)],
            _updates(restore, classify),
            [picture, *sliders],
            shown,
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return page


def _updates(restore: "RestoreTransform", classify: "Classify | None") -> Callable[..., list[Any]]:
    """Return what computes all that is shown from a picture and the sliders."""
    from eqrestore_lightning.cli._demo_inputs import cut
    from eqrestore_lightning.cli._demo_view import view

    def update(picture: "Image | None", down: float, right: float, angle: float) -> list[Any]:
        if picture is None:
            return [None, None, None, "", None, None]
        image = cut(picture, restore.estimator)
        shown = view(
            image, restore, down=int(down), right=int(right), angle=angle, classify=classify
        )
        return [
            shown.moved,
            shown.scores,
            shown.restored,
            shown.found,
            *(shown.classes or [None] * 2),
        ]

    return update


def _picker(restore: "RestoreTransform") -> Any:
    """Add a choice of images, and a place to drop others; return the latter."""
    import gradio as gr

    from eqrestore_lightning.cli._demo_inputs import samples

    choices = samples(restore.estimator)
    first = next(iter(choices), None)
    name = gr.Dropdown(list(choices), value=first, label="Choose an image …")
    picture = gr.Image(
        choices.get(first or ""),
        label="… or drop one of yours",
        type="pil",
        format="png",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=220,
    )
    name.input(choices.get, name, picture)
    return picture


def _sliders(restore: "RestoreTransform") -> list[Any]:
    """Add sliders for shift and angle; they say which of them the weights do not undo."""
    import gradio as gr

    from eqrestore_lightning.cli._demo_inputs import size_of

    fields = {field.name for field in restore.estimator.motion.fields}
    height, width = size_of(restore.estimator)
    step = 90 if "quarters" in fields else 1
    angle = step * (30 // step or 1) if fields & {"angle", "quarters"} else 0
    down, right = (height // 5, -width // 4) if "shift" in fields else (0, 0)
    ranges = {  # smallest, largest, first value, step, and which fields undo it
        "down, pixels": (-(height // 2), (height - 1) // 2, down, 1, {"shift"}),
        "right, pixels": (-(width // 2), (width - 1) // 2, right, 1, {"shift"}),
        "angle, degrees counter-clockwise": (-180, 180, angle, step, {"angle", "quarters"}),
    }
    return [
        gr.Slider(
            low,
            high,
            first,
            step=by,
            label=label,
            info=None if fields & needed else "Not undone by these weights.",
        )
        for label, (low, high, first, by, needed) in ranges.items()
    ]


def _theme() -> Any:
    """Return Gradio's theme with fonts of the system, so that none is fetched."""
    import gradio as gr

    return gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def _check_gradio() -> None:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected gradio to be installed, but it is not: "
            "pip install 'eqrestore-lightning[demo]' installs it."
        ) from error
