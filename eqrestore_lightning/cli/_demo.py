"""The command `eqrestore demo`."""

import os


def run(weights: str = "photo", classifier: str | None = None, port: int = 7860) -> None:
    """Serve a page to play with on this machine: move an image, and see it restored.

    Args:
        weights: Name of bundled weights, or a .safetensors or .ckpt file.
        classifier: Show what a classifier says of the moved and of the restored image: name of a
            torchvision model, whose weights are downloaded; checkpoint (.ckpt) of a
            ClassifierModule; or package.module:name of a network, or of a function without
            arguments that returns one, for images of 0 to 1.
        port: Where to serve the page: http://127.0.0.1:PORT, for this machine alone.
    """
    from eqrestore_lightning.cli._checks import check_is_for_images
    from eqrestore_lightning.cli._demo_page import build_page, theme
    from eqrestore_lightning.cli._demo_view import classify_with, size_of
    from eqrestore_lightning.transforms import RestoreTransform

    restore = RestoreTransform(weights)
    check_is_for_images(restore.estimator)
    shape = (restore.estimator.in_channels, *size_of(restore.estimator))
    classify = None if classifier is None else classify_with(classifier, shape)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        page = build_page(restore, weights, classify)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected gradio to be installed, but it is not: "
            "pip install 'eqrestore-lightning[demo]' installs it."
        ) from error
    page.launch(
        prevent_thread_lock=True,
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        footer_links=[],
        theme=theme(),
    )
    print(f"http://127.0.0.1:{port} shows the page; Ctrl-C ends it.", flush=True)  # noqa: T201
    page.block_thread()
