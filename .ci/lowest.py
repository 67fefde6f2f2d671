"""Print the lowest version that pyproject.toml allows of each runtime dependency, for `pip -c`.

Runtime dependencies are those of the package, its recipes and the extra `hub`; development tools
stay as new as pip finds them.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest(requirements: Iterable[str]) -> list[str]:
    """Return `name==version` for each requirement, with the version after its `>=`."""
    constraints = []
    for text in requirements:
        requirement = Requirement(text)
        bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if len(bounds) != 1 or bounds[0] not in requirement.specifier:
            raise ValueError(
                f"Expected a dependency to have one lower bound that it allows, but got {text!r}."
            )
        constraints.append(f"{requirement.name}=={bounds[0]}")
    return constraints


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    print(*lowest([*project["dependencies"], *extras["recipes"], *extras["hub"]]), sep="\n")
