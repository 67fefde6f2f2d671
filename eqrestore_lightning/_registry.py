"""What can be chosen by name: estimators, presets, motions, networks, measures."""

from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")
Registered = TypeVar("Registered")


class Registry(dict[str, Entry], Generic[Entry]):
    """Classes or functions by name; errors say what `kind` of entry `argument` chooses."""

    def __init__(self, kind: str, argument: str) -> None:
        super().__init__()
        self.kind = kind
        self.argument = argument

    def register(self, entry: Registered, *, name: str | None = None) -> Registered:
        """Add a class or function under its own name; defined again, it replaces the old one."""
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
        """Return the entry of that name."""
        if not isinstance(name, str) or name not in self:
            raise ValueError(
                f"Expected `{self.argument}` to be one of {self.names()}, but got {name!r}."
            )
        return self[name]
