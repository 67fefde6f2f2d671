"""Where the commands compute."""


def default_device() -> str:
    """Return `"cuda"` if there is a GPU, otherwise `"cpu"`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
