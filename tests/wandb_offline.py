"""Read back what an offline W&B run would show: its file holds LevelDB log records."""

import struct
from pathlib import Path

from wandb.proto import wandb_internal_pb2

_HEADER, _BLOCK = 7, 32 * 1024


def read_records(path: Path) -> list:
    data, records, pending, position = path.read_bytes(), [], b"", _HEADER
    while position + 7 <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        pending += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pending)
            records.append(record)
            pending = b""
    return records


def read_history(path: Path) -> dict[str, list[str]]:
    """Give every logged key with its values, as JSON, in order."""
    history: dict[str, list[str]] = {}
    for record in read_records(path):
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            history.setdefault(key, []).append(item.value_json)
    return history
