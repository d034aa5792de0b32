"""Planted bugs in codecs."""

from __future__ import annotations

from .bug import Bug

BUGS = (
    # ---- the protocol's fine print, and values that come back
    Bug(
        "nan is null in a plain record",
        "_Expression.field",
        'finite = f"{value} - {value} == 0.0"',
        'finite = "True"',
        "test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "nan is null in a list of numbers and nothings",
        "_Expression.field",
        "                    self.floats = True\n",
        "",
        "test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "nan is null in a plain list",
        "_Expression.field",
        "{check} and {self._name(math.isfinite)}(sum({value}))",
        "{check}",
        "test_json_refuses_nan_and_infinity_wherever_they_are",
    ),
    Bug(
        "whatever is not plain is sent unseen",
        "_StructuredCodec._checked",
        "        if found is not None:\n            raise ValueError",
        "        if False:\n            raise ValueError",
        "test_what_json_has_no_type_for_is_refused_where_the_codec_names_none",
    ),
    Bug(
        "a field of another type is taken for plain",
        "_Expression.record",
        '" and ".join([f"{value}.__class__ is {self._name(info.cls)}", *known])',
        'f"{value}.__class__ is {self._name(info.cls)}"',
        "test_what_is_not_of_the_named_type_is_refused_at_the_sender",
    ),
)
