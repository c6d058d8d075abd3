"""The query extension's conditions, checked on an item: static catalogs cannot, and not every API does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_Operator = Callable[[Any, Any], bool]
_OPERATORS: dict[str, _Operator] = {
    "eq": lambda value, wanted: bool(value == wanted),
    "neq": lambda value, wanted: bool(value != wanted),
    "lt": lambda value, wanted: bool(value < wanted),
    "lte": lambda value, wanted: bool(value <= wanted),
    "gt": lambda value, wanted: bool(value > wanted),
    "gte": lambda value, wanted: bool(value >= wanted),
    "in": lambda value, wanted: value in wanted,
    "startsWith": lambda value, wanted: str(value).startswith(str(wanted)),
    "endsWith": lambda value, wanted: str(value).endswith(str(wanted)),
    "contains": lambda value, wanted: str(wanted) in str(value),
}


def is_cql2(query: Mapping[str, Any]) -> bool:
    """Tell a filter in CQL2 JSON from the query extension's conditions."""
    return isinstance(query.get("op"), str) and isinstance(query.get("args"), list)


def check_query(query: Mapping[str, Any]) -> None:
    """Check that a query is a filter in CQL2 JSON, or conditions of the query extension.

    Raises:
        ValueError: it is neither, or an operator is unknown.
    """
    if is_cql2(query):
        return
    for name, conditions in query.items():
        if not isinstance(conditions, Mapping) or not conditions:
            raise ValueError(f"{name} has no {{operator: value}}, and there are no op and args of CQL2")
        unknown = sorted(set(conditions) - set(_OPERATORS))
        if unknown:
            raise ValueError(f"{name}: unknown operator {', '.join(unknown)}; known are {', '.join(_OPERATORS)}")


def find_unmet(properties: Mapping[str, Any], query: Mapping[str, Any]) -> str | None:
    """Find the first condition that an item does not meet.

    Args:
        properties: Of the item; one that it does not have meets no condition.
        query: The query extension's conditions.

    Returns:
        The condition in words, such as ``view:off_nadir lte 20``, or None.
    """
    for name, conditions in query.items():
        for operator, wanted in conditions.items():
            value = properties.get(name)
            try:
                is_met = value is not None and _OPERATORS[operator](value, wanted)
            except TypeError:
                is_met = False
            if not is_met:
                return f"{name} {operator} {wanted}"
    return None
