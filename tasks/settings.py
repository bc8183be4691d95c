"""Where artifacts are kept, where raw files are looked for and what runs the steps; from MODELKEEP_* variables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from modelkeep.errors import ModelkeepError


class Settings(BaseSettings):
    """`store`   a path or `s3://bucket/prefix`
    `mirror`  a directory, `http(s)://` or `s3://` prefix searched for raw files before their public URL; "" for none
    `runner`  `threads`, `dask://…` or `ray://…`
    `studies` where `tune` keeps its studies, as SQLAlchemy writes it (`postgresql://…`); "" for a file on this machine
    `devices` how many devices of this machine share each batch of a training, or `all`
    `precision`  how problems that allow mixed precision are trained: `mixed_bfloat16`, `float32`, or `auto`, which
              mixes on GPUs that have bfloat16 only
    `checkpoint_seconds`  the time between two checkpoints of a training, at least
    `serve_token`  what those who ask `serve` must know; "" lets everybody ask
    `model_threads`  threads of a model in ONNX Runtime; 0 for as many as there are cores
    `serve_rows`, `serve_bytes`, `serve_seconds`  what a request to `serve` may have: rows, bytes, time until the answer
    `serve_queue`  rows that wait for a model of `serve`, at most
    `webhook`  the address that is told of drift, bad data, promotions and failed runs; "" for none
    `notify`  the Prefect block that is told of the same, as `type/name`; "" for none
    """

    model_config = SettingsConfigDict(env_prefix="MODELKEEP_", frozen=True)

    store: str = "./modelkeep-store"
    mirror: str = ""
    runner: str = "threads"
    studies: str = ""
    devices: Literal["all"] | PositiveInt = 1
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    checkpoint_seconds: float = 5.0
    serve_token: SecretStr = SecretStr("")
    model_threads: int = Field(default=0, ge=0)
    serve_rows: int = Field(default=1024, ge=1)
    serve_bytes: int = Field(default=8 << 20, ge=1)
    serve_seconds: float = Field(default=10.0, gt=0)
    serve_queue: int = Field(default=4096, ge=1)
    webhook: SecretStr = SecretStr("")
    notify: str = ""


def load_settings() -> Settings:
    """The settings of this process. Raises ModelkeepError naming the variable that cannot be read."""
    try:
        return Settings()
    except ValidationError as invalid:
        fault = invalid.errors()[0]
        name = f"MODELKEEP_{str(fault['loc'][0]).upper()}"
        raise ModelkeepError(
            f"The variable {name} cannot be read: {fault['msg'].lower()}.",
            received=f"{name}={fault['input']}",
            next_step="correct it or leave it out",
        ) from None
