"""A Dask client whose workers are started only when something is first asked of it: a finished run asks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client


class LateClient:
    """Stands for a `Client` and becomes one at the first question."""

    def __init__(self, open_client: Callable[[], Client]) -> None:
        self._open_client = open_client
        self._client: Client | None = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            self._client = self._open_client()
        return getattr(self._client, name)
