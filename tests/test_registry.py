import re

import pytest

from eqrestore_lightning._registry import Registry


def _define(registry):
    @registry.register
    def red():
        return 255

    return red


def test_entries_are_found_by_name():
    registry = Registry("a color", "color")
    red = _define(registry)
    assert registry.register(str, name="blue") is str
    assert registry.find("red") is red
    assert registry.find("blue") is str
    assert registry.names() == ["blue", "red"]


@pytest.mark.parametrize("name", ["green", None, ["red"]])
def test_unknown_names_are_refused(name):
    registry = Registry("a color", "color")
    _define(registry)
    message = f"Expected `color` to be one of ['red'], but got {name!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        registry.find(name)


def test_what_is_defined_again_replaces_the_old_one():
    registry = Registry("a color", "color")
    first, second = _define(registry), _define(registry)
    assert registry.find("red") is second is not first


def test_a_name_belongs_to_one_entry():
    registry = Registry("a color", "color")
    red = _define(registry)
    message = (
        f"Expected a new name for a color, but 'red' is taken by {__name__}.{red.__qualname__}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        registry.register(str, name="red")
    assert registry.find("red") is red
