import os
from pathlib import Path

import pytest
import torch

# Tests fork processes; a process that has started OpenMP threads cannot be forked safely.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    root = os.environ.get("EQRESTORE_DATA")
    if root is None:
        pytest.skip("needs MNIST: set EQRESTORE_DATA to the folder that holds MNIST/raw")
    return Path(root)


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    root = Path(os.environ.get("EQRESTORE_DATA", "missing"))
    if not (list(root.glob("cifar*")) or (root / "train").is_dir()):
        pytest.skip("needs CIFAR-10: set EQRESTORE_DATA to the folder that holds it")
    return root
