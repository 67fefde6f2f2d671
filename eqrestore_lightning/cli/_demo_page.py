"""The page of `eqrestore demo`; gradio may be missing."""

from collections.abc import Callable
from typing import Any

from PIL.Image import Image

from eqrestore_lightning.cli._demo_view import Classify, cut, samples, size_of, view
from eqrestore_lightning.transforms import RestoreTransform

_TOP = 5  # classes shown


def build_page(restore: RestoreTransform, weights: str, classify: Classify | None) -> Any:
    """Build the page, not yet served: `gradio.Blocks`."""
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


def theme() -> Any:
    """Return Gradio's theme with fonts of the system, so that none is fetched."""
    import gradio as gr

    return gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def _updates(restore: RestoreTransform, classify: Classify | None) -> Callable[..., list[Any]]:
    """Return what computes all that is shown from a picture and the sliders."""

    def update(picture: Image | None, down: float, right: float, angle: float) -> list[Any]:
        if picture is None:
            return [None, None, None, "", None, None]
        image = cut(picture, restore.estimator)
        shown = view(
            image, restore, down=int(down), right=int(right), angle=angle, classify=classify
        )
        classes = shown.classes or (None, None)
        return [shown.moved, shown.scores, shown.restored, shown.found, *classes]

    return update


def _picker(restore: RestoreTransform) -> Any:
    """Add a choice of images, and a place to drop others; return the latter."""
    import gradio as gr

    choices = samples(restore.estimator)
    first = next(iter(choices))
    name = gr.Dropdown(list(choices), value=first, label="Choose an image …")
    picture = gr.Image(
        choices[first],
        label="… or drop one of yours",
        type="pil",
        format="png",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=220,
    )
    name.input(choices.get, name, picture)
    return picture


def _sliders(restore: RestoreTransform) -> list[Any]:
    """Add sliders for shift and angle; they say which of them the weights do not undo."""
    import gradio as gr

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
