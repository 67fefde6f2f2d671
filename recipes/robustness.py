"""Give every reader bad files and bad commands, and count what happens.

Parts, one by one with `--only`:

- `damaged`: files that hold a digest of their content (weights, checkpoints) or a checksum
  (compressed archives), with bits flipped, ranges overwritten, missing, twice or swapped, and cut;
- `unprotected`: the same for formats that hold neither, such as images: damage that still decodes
  cannot be noticed, and the column "accepted" says how often that is;
- `hostile`: files that were made to run code, to take memory, to point outside, or that a tensor
  cannot hold as they are. A payload that is run leaves a file behind, which is looked for;
- `commands`: command lines that cannot work.

"Refused clearly" is a `ValueError` that says what was expected and names the file; for a command,
exit status 2 and one line. Every kind is tried in a process of its own, so that a crash is counted,
and the largest amount of memory in use beyond what was before is that kind's. A damaged file may
load "as before the damage": bytes that nothing depends on, such as those between the entries of
an archive, may change.

    python recipes/robustness.py

Takes 12 minutes on 2 CPU cores (AMD EPYC) that do other work as well.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from _bad_commands import bad_commands, prepare, run_command
from _damaged import archives, protected, unprotected
from _hostile_checkpoints import checkpoint_kinds
from _hostile_data import data_kinds
from _hostile_images import image_kinds
from _hostile_weights import weights_kinds
from _run import Run
from _tried import Kind, Tally, total, try_kind
from jsonargparse import auto_cli
from tqdm import tqdm

Part = Literal["damaged", "unprotected", "hostile", "commands"]
Rows = list[dict[str, Any]]


def main(
    only: Sequence[Part] = get_args(Part),
    num_damaged: int = 2_820,
    num_archives: int = 20,
    num_unprotected: int = 500,
    num_hostile: int = 50,
    output: Path = Path("outputs/robustness"),
) -> None:
    """Run the recipe.

    Args:
        only: Parts to run.
        num_damaged: Damaged files of each kind of weights and checkpoints.
        num_archives: Damaged archives of each kind.
        num_unprotected: Damaged files of each kind without a checksum.
        num_hostile: Hostile files of each kind.
        output: Folder for tables and W&B's files.
    """
    torch.set_num_threads(1)  # processes are forked
    config = {name: value for name, value in locals().items() if name.startswith("num_")}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        tables: dict[Part, Rows] = {}
        if "damaged" in only:
            tables["damaged"] = _try(protected(_new(root, "digests")), num_damaged)
            tables["damaged"] += _try(archives(_new(root, "archives")), num_archives)
        if "unprotected" in only:
            tables["unprotected"] = _try(unprotected(_new(root, "others")), num_unprotected)
        if "hostile" in only:
            kinds = [*weights_kinds(), *checkpoint_kinds(_new(root, "checkpoints"))]
            tables["hostile"] = _try([*kinds, *image_kinds(), *data_kinds()], num_hostile)
        if "commands" in only:
            tables["commands"] = try_commands(prepare(_new(root, "commands")))
    run = Run("robustness", output, tags=["robustness"], config=config)
    for part, rows in tables.items():
        run.add_table(part, [*rows, total(rows)])
    run.close()


def _new(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def _try(kinds: Sequence[Kind], count: int) -> Rows:
    rows = []
    for kind in tqdm(kinds, desc="Trying", unit=" kinds"):
        tally = try_kind(kind, math.ceil(count * kind.share))
        for example in tally.examples if tally.unclear or tally.crashed else []:
            tqdm.write(f"{kind.name}: {example}")
        rows.append(tally.row(kind.name))
    return rows


def try_commands(folder: Path, *, every: int = 1) -> Rows:
    """Run command lines that cannot work, and count by command how they end.

    Args:
        folder: What `prepare` has written.
        every: Take every second line only, for 2, and so on.
    """
    tallies: dict[str, Tally] = {}
    for line in bad_commands(folder)[::every]:
        begun = perf_counter()
        outcome, told = run_command(line)
        name = f"eqrestore {line[0]}" if line and not line[0].startswith("-") else "eqrestore"
        tally = tallies.setdefault(name, Tally())
        tally.add(outcome, f"{' '.join(line)}: {told}")
        tally.slowest = max(tally.slowest, perf_counter() - begun)
        if outcome != "refused":
            print(tally.examples[-1])
    left_out = ("as before the damage", "crashed", "code executed", "MB above start")
    rows = [tally.row(name) for name, tally in tallies.items()]
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows]


if __name__ == "__main__":
    auto_cli(main)
