from .data import (
    CIFAR10DataModule as CIFAR10DataModule,
    DigitsDataModule as DigitsDataModule,
    ImageFolderDataModule as ImageFolderDataModule,
    MNIST3DDataModule as MNIST3DDataModule,
    MNISTDataModule as MNISTDataModule,
)
from .evaluation import evaluate as evaluate
from .functional import (
    circular_shift as circular_shift,
    find_between as find_between,
    rotate as rotate,
    to_polar as to_polar,
)
from .motions import (
    Product as Product,
    QuarterTurn as QuarterTurn,
    Shift as Shift,
    Turn as Turn,
)
from .nn import (
    ConfidenceEstimator as ConfidenceEstimator,
    CopiesEstimator as CopiesEstimator,
    Estimator as Estimator,
    RotationEstimator as RotationEstimator,
    RotoTranslationEstimator as RotoTranslationEstimator,
    TranslationEstimator as TranslationEstimator,
    build_preset as build_preset,
)
from .training import (
    ClassifierModule as ClassifierModule,
    RestorerModule as RestorerModule,
)
from .transforms import (
    CanonicalCrop as CanonicalCrop,
    RandomMotion as RandomMotion,
    RestoreTransform as RestoreTransform,
)
from .weights import (
    bundled_weights as bundled_weights,
    load_estimator as load_estimator,
    save_estimator as save_estimator,
)

__version__: str
