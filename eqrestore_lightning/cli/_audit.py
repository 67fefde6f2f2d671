"""The command `eqrestore audit`."""

from pathlib import Path


def run(
    model: str,
    picture: Path | None = None,
    image_size: int = 224,
    channels: int = 3,
    seed: int = 0,
) -> None:
    """Report which layers of a network lose translation equivariance, why, and how much of it.

    Args:
        model: Name of a torchvision model, which gets random weights; a checkpoint (.ckpt) of a
            ClassifierModule; or package.module:name of a network, or of a function without
            arguments that returns one.
        picture: File to draw the table into, ending in .png.
        image_size: Height and width, in pixels, of the random noise that the network is given, as
            it is and shifted circularly by one pixel.
        channels: Number of channels of that noise.
        seed: Determines the noise and the random weights.
    """
    import torch
    from torchvision.models import get_model, list_models

    from eqrestore_lightning.cli._checks import check_at_least, check_output_file
    from eqrestore_lightning.testing import audit
    from eqrestore_lightning.testing._audit import audit_table, draw_audit
    from eqrestore_lightning.training import load_classifier

    check_at_least(1, image_size=image_size, channels=channels)
    if picture is not None:
        check_output_file(picture, ".png", "picture")
    torch.manual_seed(seed)
    known = model in list_models()
    network = get_model(model, weights=None) if known else load_classifier(model)
    x = torch.rand(1, channels, image_size, image_size)
    try:
        layers = audit(network, x)
    except RuntimeError as error:
        raise ValueError(
            f"Expected {model} to take images of shape {tuple(x.shape)}, but got: {error}"
        ) from error
    print(audit_table(layers))  # noqa: T201
    lost = next((layer for layer in layers if layer.reason), None)
    print(  # noqa: T201
        f"\nEquivariance is first lost at {lost.name} ({lost.kind}), because of {lost.reason}: a "
        f"shift by one pixel leads to a relative error of {lost.error:.2g}."
        if lost
        else "\nNo layer loses translation equivariance."
    )
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_audit(picture, layers, title=f"{model}: layers in red lose equivariance")
        print(f"Wrote {picture}.")  # noqa: T201
