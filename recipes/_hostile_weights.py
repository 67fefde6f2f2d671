"""Files of weights that were made to do harm: to run code, to take memory, to pass for others."""

import functools
import io
import json
import os
import pathlib
import pickle
import runpy
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from _tried import Kind
from safetensors.torch import save_file

from eqrestore_lightning import (
    Estimator,
    QuarterTurnEstimator,
    RestoreTransform,
    RotationEstimator,
    RotoTranslationEstimator,
    TranslationEstimator,
)
from eqrestore_lightning.nn import ProfileEstimator, SeamRule, UprightEstimator
from eqrestore_lightning.theory import ConstructedEstimator, TemplateEstimator
from eqrestore_lightning.weights import estimator_config

FULL: dict[str, Any] = {"hidden_channels": [2], "kernel_size": ["full", 1]}

Maker = Callable[[Random, Path], Path]


def _load_weights(path: Path) -> object:
    return RestoreTransform(path).estimator.config  # loads as `load_estimator` does


def weights_kinds() -> list[Kind]:
    """Return kinds of hostile `.safetensors` files."""
    makers: dict[str, Maker] = {
        "header: length that lies": _lying_length,
        "header: no JSON, no UTF-8, nested, names twice": _odd_header,
        "tensors that overlap or lie outside": _odd_offsets,
        "tensors whose type or shape lies": _odd_tensors,
        "configuration: no JSON": _odd_json,
        "configuration: sizes up to 10^12": _huge_sizes,
        "configuration: millions of layers": _many_layers,
        "configuration: values of other types": _odd_values,
        "configuration: other classes": _other_classes,
        "tensors missing, renamed, not finite": _other_tensors,
        "no file of weights at all": _no_weights,
    }
    return [Kind(f"weights, {name}", make, _load_weights) for name, make in makers.items()]


@functools.cache
def _examples() -> list[Estimator]:
    return [
        TranslationEstimator(1, (6, 7), **FULL),
        QuarterTurnEstimator(1, (6, 6), **FULL),
        RotationEstimator(1, (6, 7), num_radii=3, num_angles=8, **FULL),
        RotoTranslationEstimator(
            1, (6, 7), translation=FULL, rotation={"num_radii": 3, "num_angles": 8, **FULL}
        ),
        UprightEstimator(1, resolution=16, num_copies=1, scorer_options={"channels": [2]}),
        ProfileEstimator(1, channels=2, features=2, profile_channels=2),
        TemplateEstimator(1, (2, 3), num_templates=2),
        ConstructedEstimator(1, (2, 3), num_templates=2, num_bits=2),
        SeamRule(1),
    ]


def _write(
    folder: Path, estimator: Estimator, config: object = None, *, text: str | None = None
) -> Path:
    """Write weights with another configuration."""
    path = folder / "hostile.safetensors"
    described = json.dumps(estimator_config(estimator) if config is None else config)
    notes = {"format": "eqrestore-estimator", "config": described if text is None else text}
    save_file({k: v.clone() for k, v in estimator.state_dict().items()}, path, notes)
    return path


def _raw(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path = folder / "hostile.safetensors"
    told = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", told) + header + data)
    return path


def _parts(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return header and data of a good file."""
    content = _write(folder, _examples()[0]).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _lying_length(random: Random, folder: Path) -> Path:
    header, data = _parts(folder)
    length = random.choice([0, 1, 7, random.randrange(2**20), 2**31, 2**62, 2**64 - 1])
    return _raw(folder, json.dumps(header).encode(), data, length)


def _odd_header(random: Random, folder: Path) -> Path:
    header, data = _parts(folder)
    text = json.dumps(header)
    name = next(name for name in header if name != "__metadata__")
    several = text[:-1] + f', "{name}": {json.dumps(header[name])}' + "}"
    odd_type = text.replace('"F32"', random.choice(["1e999", "null", "[]", '"F33"']))
    many = {
        f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        for number in range(random.randrange(1_000, 9_000))
    }
    choices = [
        text.encode().replace(b"kind", b"ki\xff\xfe", 1),
        text.encode("utf-16"),
        b"[" * random.randrange(10**4, 10**6),
        b'{"a":' * random.randrange(10**4, 10**5),
        several.encode(),
        text[:-1].encode(),
        (text[:-1] + ', "__metadata__": {}}').encode(),
        odd_type.encode(),
        json.dumps(many).encode(),
        b"{}" + b" " * random.randrange(10**6, 2 * 10**7),
    ]
    return _raw(folder, random.choice(choices), data)


def _odd_offsets(random: Random, folder: Path) -> Path:
    header, data = _parts(folder)
    names = [name for name in header if name != "__metadata__"]
    first, second = header[names[0]], header[random.choice(names[1:])]
    start, end = first["data_offsets"]
    first["data_offsets"] = random.choice(
        [second["data_offsets"], [end, start], [-4, end], [start, end + 10**12], [start + 4, end],
         [2**63, 2**64 - 1], [start, end - 4], [0.5, end]]
    )  # fmt: skip
    return _raw(folder, json.dumps(header).encode(), data)


def _odd_tensors(random: Random, folder: Path) -> Path:
    header, data = _parts(folder)
    entry = header[random.choice([name for name in header if name != "__metadata__"])]
    if random.random() < 0.5:
        entry["dtype"] = random.choice(["F64", "I32", "BF16", "BOOL", "F8_E4M3", "U64", "C64"])
    else:
        entry["shape"] = random.choice(
            [[10**12], [10**6, 10**6], [2**62, 4], [0], [-1], [1] * 100, [], [1.5], "x"]
        )
    return _raw(folder, json.dumps(header).encode(), data)


def _odd_json(random: Random, folder: Path) -> Path:
    good = json.dumps(estimator_config(_examples()[0]))
    texts = [
        "", "null", "3", '"x"', "[]", "{", good[:-1], good + "}", "\ufeff" + good, "{" * 20_000,
        "[" * random.randrange(1_000, 10**6), '{"a":' * 3_000 + "1" + "}" * 3_000,
        good.replace('"in_channels": 1', '"in_channels": ' + random.choice(
            ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5_000, "01", "0x1", "1_0"])),
        good[:-1] + ', "in_channels": 1}',
        good[:-1] + ', "kind": "TranslationEstimator"}',
        good.replace("kind", "kind\\u0000"),
        good.replace('"kind"', '"\\ud800kind"'),
    ]  # fmt: skip
    return _write(folder, _examples()[0], text=random.choice(texts))


def _change(random: Random, config: dict[str, Any], value: Callable[[Any], Any]) -> None:
    """Change one argument, also inside those that are dictionaries."""
    optional = ("kind", "axes", "max_radius")
    name = random.choice([name for name in config if name not in optional])
    if isinstance(config[name], dict) and config[name]:
        _change(random, config[name], value)
    else:
        config[name] = value(config[name])


def _huge_sizes(random: Random, folder: Path) -> Path:
    """Claim sizes that the tensors do not have; those that need no tensors are left alone."""
    huge = 10 ** random.randint(4, 12)
    sized = {
        0: ("in_channels", "spatial_size", "hidden_channels"),
        1: ("in_channels", "spatial_size", "hidden_channels"),
        2: ("in_channels", "num_radii", "num_angles", "hidden_channels"),
        4: ("in_channels", "num_angles", "resolution", "scorer_options"),
        5: ("in_channels", "channels", "features", "profile_channels"),
        6: ("in_channels", "spatial_size", "num_templates"),
        7: ("in_channels", "spatial_size", "num_templates", "num_bits"),
    }
    number = random.choice(list(sized))
    estimator = _examples()[number]
    config = json.loads(json.dumps(estimator_config(estimator)))
    name = random.choice(sized[number])
    if name == "scorer_options":
        config[name] = {"channels": [huge]}
    else:
        config[name] = [huge] * len(config[name]) if isinstance(config[name], list) else huge
    return _write(folder, estimator, config)


def _many_layers(random: Random, folder: Path) -> Path:
    estimator = random.choice(_examples()[:3])
    layers = random.choice([3_000, 9_000, 10**5, 10**6, 10**7])
    text = json.dumps({**estimator_config(estimator), "hidden_channels": "LAYERS"})
    return _write(folder, estimator, text=text.replace('"LAYERS"', f"[{'1,' * layers}1]"))


def _odd_values(random: Random, folder: Path) -> Path:
    """Give an argument a value that no argument takes."""
    odd = [None, "x", -1, 1.5, [], [[1]], {"x": 1}, "a" * 1_000, 2**70, [None], ["full"] * 5]
    estimator = random.choice(_examples())
    config = json.loads(json.dumps(estimator_config(estimator)))
    if random.random() < 0.2:
        config[random.choice(["__class__", "self", "device", "more", ""])] = random.choice(odd)
    else:
        _change(random, config, lambda old: random.choice([x for x in odd if x != old]))
    return _write(folder, estimator, config)


def _other_classes(random: Random, folder: Path) -> Path:
    estimator = random.choice(_examples())
    kind: Any = random.choice(
        ["os.system", "Estimator", "torch.nn.Linear", "__import__('os')", "../../x", "", None, 3,
         ["TranslationEstimator"], {"kind": "SeamRule"}, "translationestimator", "eval", "Module"]
    )  # fmt: skip
    return _write(folder, estimator, {**estimator_config(estimator), "kind": kind})


def _other_tensors(random: Random, folder: Path) -> Path:
    estimator = random.choice(_examples()[:8])
    path = _write(folder, estimator)
    state = {name: value.clone() for name, value in estimator.state_dict().items()}
    name = random.choice([name for name, value in state.items() if value.is_floating_point()])
    bad = state.pop(name)
    other = {
        "missing": {},
        "renamed": {f"{name}.": bad},
        "added": {name: bad, "more": torch.zeros(3)},
        "another shape": {name: torch.zeros(*bad.shape, 2)},
        "integers": {name: torch.ones(bad.shape, dtype=torch.int64)},
        "not finite": {name: torch.full(bad.shape, random.choice([torch.nan, torch.inf]))},
    }
    notes = {"format": "eqrestore-estimator", "config": json.dumps(estimator_config(estimator))}
    save_file(state | other[random.choice(list(other))], path, notes)
    return path


def _no_weights(random: Random, folder: Path) -> Path:
    contents = [b"", b"\0" * 8, b"PK\3\4", pickle.dumps({}), random.randbytes(1_000), b"{}",
                b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n"]  # fmt: skip
    path = folder / "hostile.safetensors"
    path.write_bytes(random.choice(contents) * random.randint(1, 3))
    return path


class _Payload:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def payloads(canary: Path) -> list[_Payload]:
    """Return objects that write a file when they are unpickled."""
    script = canary.with_name("script.py")
    script.write_text(f"open({str(canary)!r}, 'w')")
    code = f"open({str(canary)!r}, 'w')"
    return [
        _Payload(os.system, f"touch {canary}"),
        _Payload(eval, code),
        _Payload(exec, code),
        _Payload(open, str(canary), "w"),
        _Payload(subprocess.call, ["touch", str(canary)]),
        _Payload(pathlib.Path.touch, canary),
        _Payload(runpy.run_path, str(script)),
        _Payload(shutil.copy, str(script), str(canary)),
        _Payload(torch.save, {}, str(canary)),
        _Payload(functools.partial(eval, code)),
        _Payload(os.mkdir, str(canary)),
        _Payload(io.FileIO, str(canary), "w"),
    ]
