"""Files that are whole, written by one process at a time; tables to write into them."""

from eqrestore_lightning.files._markdown import markdown_table
from eqrestore_lightning.files._writing import only_process, remove_parts, whole_file

__all__ = ["markdown_table", "only_process", "remove_parts", "whole_file"]
