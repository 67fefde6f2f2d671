"""Lightning's own command line, with the modules and data of this package by name.

    python -m eqrestore_lightning.training fit --model RestorerModule --data DigitsDataModule \
        --model.estimator eqrestore_lightning.build_preset --model.estimator.name centered \
        --model.estimator.in_channels 1 --model.estimator.spatial_size "[32, 32]" \
        --trainer.max_epochs 20

`fit --print_config` writes the settings as YAML, which `--config` reads again; they are also
written into the folder of the logs. For one command that splits images, trains and reports, see
`eqrestore fit`.
"""

import lightning
from lightning.pytorch.cli import LightningCLI

import eqrestore_lightning.data  # noqa: F401  # whose classes are known by name then
from eqrestore_lightning.training._launch import trainer_options


def main() -> LightningCLI:
    """Run a command of Lightning: `fit`, `validate`, `test` or `predict`."""
    return LightningCLI(
        lightning.LightningModule,
        lightning.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        trainer_defaults=trainer_options(),
    )


if __name__ == "__main__":
    main()
