"""Whether a function is run on what tensors hold, or made into a graph."""

import torch
from torch import Tensor


def is_traced(x: Tensor) -> bool:
    """Check for a graph or `vmap`, where what is done must not depend on what `x` holds."""
    return torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(x)  # noqa: SLF001
