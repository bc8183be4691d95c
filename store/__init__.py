"""Where artifacts and the model registry are kept: on local disk or in S3, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.artifacts import Store

__all__ = ["open_store"]


def open_store(uri: str | Path) -> Store:
    """The store at a path or at `s3://bucket/prefix`. Touches neither disk nor network."""
    if str(uri).startswith("s3://"):
        from store.s3 import S3Store

        return S3Store(str(uri))
    from store.local import LocalStore

    return LocalStore(uri)
