"""The command `eqrestore weights`."""


def run(name: str) -> None:
    """List the bundled weights, or say what some are for, how they were made and what was measured.

    Args:
        name: One of the bundled weights, or a file that ends in `.safetensors`, whose card is
            printed; "all", which may be left out, for a table of the bundled ones.
    """
    from eqrestore_lightning.weights._card import model_card, weights_table

    print(weights_table() if name == "all" else model_card(name), end="")  # noqa: T201
