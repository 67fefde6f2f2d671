import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    root = os.environ.get("EQRESTORE_DATA")
    if root is None:
        pytest.skip("needs MNIST: set EQRESTORE_DATA to the folder that holds MNIST/raw")
    return Path(root)
