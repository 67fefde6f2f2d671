"""Checkpoints that were made to do harm: to run code, or to take more memory than they hold."""

import functools
import io
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from random import Random
from typing import Any

import torch
from _damaged import NETWORK, classifier_content, restorer_content, save_checkpoint
from _hostile_weights import Maker, payloads
from _tried import CANARY, Kind, is_clear

from eqrestore_lightning import (
    ClassifierModule,
    RestorerModule,
    TranslationEstimator,
    load_estimator,
)

BOMB = 600  # MB that a compressed entry inflates to


def checkpoint_kinds(folder: Path) -> list[Kind]:
    """Return kinds of hostile checkpoints; what takes long to make is made once, in `folder`."""
    _good(folder)
    makers: dict[str, Maker] = {
        "code in hyper-parameters": functools.partial(_payload, folder, ("hyper_parameters",)),
        "code in the state": functools.partial(_payload, folder, ("state_dict",)),
        "code elsewhere": functools.partial(_payload, folder, _ELSEWHERE),
        "code, bare pickles": _bare_pickle,
        "code, old formats": _old_format,
        "names of functions as text": functools.partial(_names_as_text, folder),
        "compiled programs": _torchscript,
        "entries that inflate": functools.partial(_bomb, folder),
        "archives that can be read in two ways": functools.partial(_two_ways, folder),
        "objects of any size": _large_objects,
        "tensors that claim more than there is": functools.partial(_large_tensors, folder),
        "storages that claim more than there is": _large_storages,
        "tensors of other kinds": functools.partial(_odd_tensors, folder),
        "millions of empty values, circles": _many_values,
        "hyper-parameters of 10^10": functools.partial(_huge_parameters, folder),
        "parts missing or of other types": functools.partial(_odd_parts, folder),
        "no checkpoint at all": _no_checkpoint,
    }
    return [Kind(f"checkpoint, {name}", make, _load) for name, make in makers.items()]


_ELSEWHERE = ("callbacks", "optimizer_states", "lr_schedulers", "loops", "epoch",
              "pytorch-lightning_version", "digest", "more")  # fmt: skip


def _load(path: Path) -> object:
    """Try all that load checkpoints; every one must refuse."""
    told = ""
    for load in (load_estimator, restorer_content, classifier_content):
        try:
            return load.__name__, load(path)
        except ValueError as error:
            if not is_clear(error, path):
                raise
            told = str(error)
    raise ValueError(told)


def _good(folder: Path) -> None:
    estimator = TranslationEstimator(1, (6, 7), **NETWORK)
    save_checkpoint(RestorerModule(estimator), folder / "restorer.ckpt")
    save_checkpoint(ClassifierModule(1, 2), folder / "classifier.ckpt")
    for name in ("data.pkl", "data/0"):
        with zipfile.ZipFile(folder / f"bomb-{Path(name).stem}.zip", "w") as archive:
            for entry, content in (*_records(), (name, b"")):
                if entry != name or not content:
                    _entry(archive, f"a/{entry}", content, inflated=entry == name)


def _entry(archive: zipfile.ZipFile, name: str, content: bytes, *, inflated: bool) -> None:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED if inflated else zipfile.ZIP_STORED
    with archive.open(info, "w", force_zip64=True) as file:
        for _ in range(BOMB if inflated else 0):
            file.write(bytes(2**20))
        file.write(content)


def _content(folder: Path, random: Random) -> dict[str, Any]:
    name = random.choice(["restorer", "classifier"])
    content: dict[str, Any] = torch.load(folder / f"{name}.ckpt", weights_only=True)
    return content


def _save(content: Any, folder: Path, **options: Any) -> Path:
    torch.save(content, folder / "hostile.ckpt", **options)
    return folder / "hostile.ckpt"


def _payload(good: Path, places: tuple[str, ...], random: Random, folder: Path) -> Path:
    """Put code into a checkpoint that is good otherwise."""
    content = _content(good, random)
    code = random.choice(payloads(folder.parent / CANARY))
    place = random.choice(places)
    if isinstance(content.get(place), dict) and random.random() < 0.9:
        content[place][random.choice([*content[place], "more"])] = random.choice([code, [code]])
    else:
        content[place] = code
    return _save(content, folder, pickle_protocol=random.choice([2, 3, 4, 5]))


def _bare_pickle(random: Random, folder: Path) -> Path:
    code: Any = random.choice(payloads(folder.parent / CANARY))
    path = folder / "hostile.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": code}, random.randint(0, 5)))
    return path


def _old_format(random: Random, folder: Path) -> Path:
    """Use the formats of torch before 1.6, and before 0.1.10."""
    code: Any = random.choice([{}, *payloads(folder.parent / CANARY)])
    content = {"state_dict": {"x": torch.zeros(3)}, "hyper_parameters": {"estimator": code}}
    if random.random() < 0.7:
        return _save(content, folder, _use_new_zipfile_serialization=False)
    path = folder / "hostile.ckpt"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            part = pickle.dumps(code)
            member = tarfile.TarInfo(name)
            member.size = len(part)
            archive.addfile(member, io.BytesIO(part))
    return path


def _names_as_text(good: Path, random: Random, folder: Path) -> Path:
    """Name functions where older Lightning called them, and where a configuration is expected."""
    content = _content(good, random)
    name = random.choice(["os.system", "builtins.eval", "subprocess.call", "torch.load"])
    parameters = content["hyper_parameters"]
    change: dict[str, Any] = random.choice(
        [
            {"_instantiator": name},
            {"_class_path": name},
            {"architecture": name},
            {"__class__": name},
        ]
    )
    named = random.choice([name, {"kind": name}, {"class_path": name, "init_args": {}}])
    content["hyper_parameters"] = {**parameters, **change, "estimator": named}
    content["hparams_type"] = content["hparams_name"] = name
    del content["digest"]
    return _save(content, folder)


def _torchscript(random: Random, folder: Path) -> Path:
    class Program(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + random_number

    random_number = random.random()
    path = folder / "hostile.ckpt"
    program = torch.jit.trace(Program(), torch.zeros(1))  # type: ignore[no-untyped-call]
    torch.jit.save(program, path)
    return path


def _bomb(good: Path, random: Random, folder: Path) -> Path:
    """Copy an archive of 600 kB with an entry of 600 MB; the name of its folder differs."""
    content = random.choice(sorted(good.glob("bomb-*.zip"))).read_bytes()
    path = folder / "hostile.ckpt"
    path.write_bytes(content.replace(b"a/", bytes([random.randrange(97, 123)]) + b"/"))
    return path


def _records(pickled: bytes | None = None) -> list[tuple[str, bytes]]:
    """Return the entries of a small archive as `torch.save` writes it."""
    buffer = io.BytesIO()
    torch.save({"state_dict": {"x": torch.zeros(4)}, "hyper_parameters": {}}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        records = {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}
    if pickled is not None:
        records["data.pkl"] = pickled
    return list(records.items())


def _zip(folder: Path, records: list[tuple[str, bytes]]) -> Path:
    path = folder / "hostile.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            archive.writestr(f"archive/{name}", content)
    return path


def _two_ways(good: Path, random: Random, folder: Path) -> Path:
    """Hide a second directory, a second pickle, or something before or after the archive."""
    path = folder / "hostile.ckpt"
    whole = (good / "restorer.ckpt").read_bytes()
    evil = _zip(folder, _records(pickle.dumps(payloads(folder.parent / CANARY)[0], 2))).read_bytes()
    start = struct.pack("<Q", len(evil))
    choice = random.randrange(5)
    if choice == 0:
        path.write_bytes(random.randbytes(random.randint(1, 99)) + whole)
    elif choice == 1:
        path.write_bytes(evil + whole)
    elif choice == 2:
        path.write_bytes(whole + evil)
    elif choice == 3:
        path.write_bytes(whole[:-2] + b"\x05\0" + start[:5])
    else:
        names = random.sample(["data.pkl", "DATA.PKL", "Data.pkl", "x/data.pkl"], 2)
        records = [(name, content) for name, content in _records() if name != "data.pkl"]
        return _zip(folder, [(name, dict(_records())["data.pkl"]) for name in names] + records)
    return path


def _large_objects(random: Random, folder: Path) -> Path:
    """Name what `weights_only=True` allows and what makes objects of any size."""
    size = struct.pack("<i", random.randint(10**9, 2**31 - 1))
    calls = [
        b"c__builtin__\nbytearray\nJ" + size + b"\x85R",
        b"cbuiltins\nbytearray\nJ" + size + b"\x85R",
        b"ctorch\nTensor\nJ" + size + b"\x85R",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(J" + size + b"K\x01K\x01\x89tR",
        b"c_codecs\nencode\nX\x01\0\0\0aX\x06\0\0\0base64\x86R",
        b"cos\nsystem\nX\x02\0\0\0id\x85R",
    ]
    pickled = b"\x80\x02}(X\x0a\0\0\0state_dict}X\x01\0\0\0a" + random.choice(calls) + b"su."
    return _zip(folder, _records(pickled))


def _large_tensors(good: Path, random: Random, folder: Path) -> Path:
    """Expand a tensor of one entry to the shape that a configuration asks for."""
    content: dict[str, Any] = torch.load(good / "restorer.ckpt", weights_only=True)
    huge = 10 ** random.randint(5, 11)
    config = content["hyper_parameters"]["estimator"]
    config.update({"hidden_channels": [huge]} if random.random() < 0.5 else {"in_channels": huge})
    with torch.device("meta"):
        shapes = TranslationEstimator(**{k: v for k, v in config.items() if k != "kind"})
    for name, value in shapes.state_dict().items():
        content["state_dict"][f"estimator.{name}"] = torch.zeros(1).expand(value.shape)
    del content["digest"]
    return _save(content, folder)


def _large_storages(random: Random, folder: Path) -> Path:
    pickled = dict(_records())["data.pkl"]
    count = random.choice([5, 16, 1_000, 10**6, 2**31 - 1])
    claim = struct.pack("<i", count)
    changed = pickled.replace(b"K\x04tq", b"J" + claim + b"tq")
    if random.random() < 0.5:  # and use it
        changed = changed.replace(b"K\x04\x85q", b"J" + claim + b"\x85q")
    return _zip(folder, _records(changed))


def _odd_tensors(good: Path, random: Random, folder: Path) -> Path:
    content = _content(good, random)
    name = random.choice([n for n, v in content["state_dict"].items() if v.ndim > 1])
    value = content["state_dict"][name]
    flat = value.reshape(len(value), -1)
    content["state_dict"][name] = random.choice(
        [
            value.to_sparse(),
            flat.to_sparse_csr(),
            torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            value.to("meta"),
            value.to(torch.complex64),
            value.to(torch.int64),
            value[..., :0],
            list(value),
            None,
            3,
        ]
    )
    del content["digest"]
    return _save(content, folder)


def _many_values(random: Random, folder: Path) -> Path:
    """Write values of a byte each, which take much more in memory, or that hold themselves."""
    count = random.choice([99_000] * 9 + [1_900_000])
    nested = 10**5
    bodies = [
        b"](" + b"]" * count + b"e",
        b"](" + b"}" * count + b"e",
        b"](" + b"N" * count + b"e",
        b"](" + b")" * count + b"e",
        b"]q\0h\0a",
        b"]" * nested + b"a" * (nested - 1),
        b"N" + b"\x85" * nested,
        b"}q\0X\x01\0\0\0ah\0s",
        b"ccollections\nOrderedDict\nq\1](" + b"h\1)R" * (count // 4) + b"e",
    ]
    pickled = b"\x80\x02}(X\x10\0\0\0hyper_parameters}X\x09\0\0\0estimator" + random.choice(bodies)
    return _zip(folder, _records(pickled + b"sX\x0a\0\0\0state_dict}u."))


def _huge_parameters(good: Path, random: Random, folder: Path) -> Path:
    content = _content(good, random)
    parameters = content["hyper_parameters"]
    huge: Any = random.choice([10**10, 10**6, 2**70, -(10**10), float("nan"), float("inf"), 1e300])
    if "estimator" in parameters:
        names = ["in_channels", "hidden_channels", "dilation"]
        name = random.choice(names)
        parameters["estimator"][name] = [huge] if name != "in_channels" else huge
    else:
        parameters[random.choice(["in_channels", "num_classes", "width"])] = huge
    del content["digest"]
    return _save(content, folder)


def _odd_parts(good: Path, random: Random, folder: Path) -> Path:
    content: Any = _content(good, random)
    odd: list[Any] = [
        None,
        3,
        "x",
        [],
        [1],
        {},
        {1: 2},
        torch.zeros(2),
        OrderedDict(a=1),
        {"estimator": {}},
    ]
    name = random.choice(["state_dict", "hyper_parameters"])
    if random.random() < 0.3:
        del content[name]
    elif random.random() < 0.1:
        content = random.choice(odd)
    else:
        content[name] = random.choice(odd)
    return _save(content, folder)


def _no_checkpoint(random: Random, folder: Path) -> Path:
    path = folder / "hostile.ckpt"
    contents = [b"", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x80\x02}.", b"<html>404</html>",
                random.randbytes(1_000), b"version https://git-lfs.github.com/spec/v1"]  # fmt: skip
    if random.random() < 0.2:
        return _zip(folder, random.sample(_records(), 2))
    path.write_bytes(random.choice(contents))
    return path
