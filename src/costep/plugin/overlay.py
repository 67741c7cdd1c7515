"""Command-line twins of the core's configuration classes, generated: there is one list of fields.

LeRobot's parser cannot tell a default from a choice.  In an overlay every leaf is therefore
``None`` until somebody chooses, and ``None`` means "as the preset says".  A leaf that can itself be
None in the core also takes the word ``unset``, which means just that.  The classes are made once,
at import, from the core's dataclasses; no field is written down twice.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal

UNSET = "unset"  # how a command line says None


@functools.cache
def overlay(core: type) -> type:
    """The mutable twin of a core dataclass: the same names, every leaf optional and None."""
    hints = typing.get_type_hints(core)
    members = [(f.name, *_member(hints[f.name])) for f in dataclasses.fields(core)]
    namespace = {"__doc__": core.__doc__, "__module__": __name__}
    made = dataclasses.make_dataclass(f"{core.__name__}Overlay", members, namespace=namespace)
    globals()[made.__name__] = made  # so that it can be pickled
    return made


def fill(chosen: Any, base: Any, complete: bool = False) -> dict[str, Any]:
    """The values of an overlay as plain data, its gaps filled from ``base``, a core instance.

    complete: the overlay was read from a file that states every value, so a None that the core
    allows is a value too and not a gap.
    """
    hints = typing.get_type_hints(type(base))
    return {
        f.name: _value(getattr(chosen, f.name), getattr(base, f.name), hints[f.name], complete)
        for f in dataclasses.fields(base)
    }


def assign(chosen: Any, core: Any) -> None:
    """Write the values of ``core`` into its overlay, nested ones too."""
    for f in dataclasses.fields(core):
        value = getattr(core, f.name)
        if dataclasses.is_dataclass(value):
            assign(getattr(chosen, f.name), value)
        else:
            setattr(chosen, f.name, value)


def _member(hint: Any) -> tuple[Any, Any]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        twin = overlay(hint)
        return twin, dataclasses.field(default_factory=twin)
    spelt = Literal[UNSET] | hint if _nullable(hint) else hint
    return spelt | None, dataclasses.field(default=None)


def _value(chosen: Any, base: Any, hint: Any, complete: bool) -> Any:
    if dataclasses.is_dataclass(base):
        return fill(chosen, base, complete)
    if chosen == UNSET and _nullable(hint):
        return None
    if chosen is None and not (complete and _nullable(hint)):
        return base
    return chosen


def _nullable(hint: Any) -> bool:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return union and type(None) in typing.get_args(hint)
