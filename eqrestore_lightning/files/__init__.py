"""Files that are written whole, by one process at a time, and read with one clear error."""

from eqrestore_lightning.files._markdown import markdown_table
from eqrestore_lightning.files._reading import reading
from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file

__all__ = ["markdown_table", "only_process", "reading", "remove_parts", "whole_file"]
