"""Where artifacts are kept, where raw files are looked for and what runs the steps; from MODELKEEP_* variables."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`store`   a path or `s3://bucket/prefix`
    `mirror`  a directory, `http(s)://` or `s3://` prefix searched for raw files before their public URL; "" for none
    `runner`  `threads`, `dask://…` or `ray://…`
    `checkpoint_seconds`  the time between two checkpoints of a training, at least
    """

    model_config = SettingsConfigDict(env_prefix="MODELKEEP_", frozen=True)

    store: str = "./modelkeep-store"
    mirror: str = ""
    runner: str = "threads"
    checkpoint_seconds: float = 5.0
