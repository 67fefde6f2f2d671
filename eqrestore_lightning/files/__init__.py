"""Files that are whole, written by one process at a time."""

from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file

__all__ = ["only_process", "remove_parts", "whole_file"]
