"""What can be chosen by name: estimators, presets, motions, networks, measures."""

from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(dict[str, Entry], Generic[Entry]):
    """Classes or functions by name, as a configuration or a user calls them.

    Args:
        kind: What an entry is, with its article, for errors.
        argument: The argument by which users choose an entry, for errors.

    >>> colors = Registry("a color", "color")
    >>> @colors.register
    ... def red():
    ...     return (255, 0, 0)
    >>> colors.find("red")()
    (255, 0, 0)
    """

    def __init__(self, kind: str, argument: str) -> None:
        super().__init__()
        self.kind = kind
        self.argument = argument

    def register(self, entry: Registered, *, name: str | None = None) -> Registered:
        """Add a class or function under its own name; to be used as a decorator.

        Args:
            entry: The class or function. Defined again, as in a notebook, it replaces the old one.
            name: Another name for it.

        Returns:
            The class or function itself.

        Raises:
            ValueError: If another class or function has that name already.
        """
        added: Any = entry
        name = added.__name__ if name is None else name
        known: Any = self.get(name, added)
        if (known.__module__, known.__qualname__) != (added.__module__, added.__qualname__):
            raise ValueError(
                f"Expected a new name for {self.kind}, but {name!r} is taken by "
                f"{known.__module__}.{known.__qualname__}."
            )
        self[name] = added
        return entry

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return sorted(self)

    def find(self, name: object) -> Entry:
        """Return the entry of that name.

        Raises:
            ValueError: If there is none.
        """
        if not isinstance(name, str) or name not in self:
            raise ValueError(
                f"Expected `{self.argument}` to be one of {self.names()}, but got {name!r}."
            )
        return self[name]
