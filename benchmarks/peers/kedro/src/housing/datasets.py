"""What Kedro has no data sets for: the bytes of a file, and several files of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset


class BytesDataset(AbstractDataset[bytes, bytes]):
    def __init__(self, filepath: str) -> None:
        self._path = Path(filepath)

    def load(self) -> bytes:
        return self._path.read_bytes()

    def save(self, data: bytes) -> None:
        self._path.write_bytes(data)

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


class FilesDataset(AbstractDataset[dict[str, bytes], dict[str, bytes]]):
    def __init__(self, filepath: str) -> None:
        self._folder = Path(filepath)

    def load(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self._folder.iterdir()}

    def save(self, data: dict[str, bytes]) -> None:
        for name, content in data.items():
            (self._folder / name).write_bytes(content)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
