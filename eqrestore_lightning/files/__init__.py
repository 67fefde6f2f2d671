"""Files that are written whole, by one process at a time, and read with one clear error."""

__all__ = []
