"""Hyperparameters: a frozen model with working defaults, whose fields may say the range to search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from modelkeep.errors import ModelkeepError


class HyperparameterInvalid(ModelkeepError):
    """A hyperparameter is unknown, or its value is of the wrong type or out of bounds."""


def search(
    default: Any, *, low: float | None = None, high: float | None = None, log: bool = False, choices: tuple = ()
) -> Any:
    """A field with a default and the range that `tune` searches: low … high (both included), or one of `choices`."""
    bounds = {"low": low, "high": high, "log": log or None, "choices": list(choices) or None}
    given: Any = {name: value for name, value in bounds.items() if value is not None}
    return Field(default, json_schema_extra={"search": given})


class Hyperparameters(BaseModel):
    """What every problem's training can be told; a problem's own class adds to it and sets other defaults.

    `learning_rate` None means the optimizer's own; `patience` counts epochs without a better validation loss
    before training stops and the best weights are taken back, None means that every epoch is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "rmsprop"
    learning_rate: PositiveFloat | None = None
    patience: PositiveInt | None = None

    @field_validator("epochs", "batch_size")
    @classmethod
    def _is_positive(cls, value: int) -> int:
        # Not in the annotation: a problem that gives its own default replaces that.
        if value < 1:
            raise ValueError("should be greater than 0")
        return value

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Defaults with `settings` over them; raises HyperparameterInvalid naming every setting that does not fit."""
        try:
            return cls(**settings)
        except ValidationError as invalid:
            raise HyperparameterInvalid(
                "; ".join(_explain(error) for error in invalid.errors()),
                expected=", ".join(f"{name}={field.default!r}" for name, field in cls.model_fields.items()),
                received=", ".join(f"{name}={value!r}" for name, value in settings.items()),
                next_step="correct the value; what is shown above are the names with their defaults",
            ) from None


class FineTuned(Hyperparameters):
    """For a problem that begins with pretrained weights: `frozen_epochs` that leave them as they are, and then others
    in which some of them learn too, at `thawed_learning_rate` (Chollet, DLWP 2nd ed. §8.3.2).

    The optimizer begins anew when layers are thawed, and patience counts from there. Where nothing pretrained is
    loaded, or no epoch is frozen, there is one stage only.
    """

    frozen_epochs: int = 0
    thawed_learning_rate: float = 1e-4

    @field_validator("frozen_epochs", "thawed_learning_rate")
    @classmethod
    def _is_in_bounds(cls, value: float, field: ValidationInfo) -> float:
        if field.field_name == "frozen_epochs" and value < 0:
            raise ValueError("should not be less than 0")
        if field.field_name == "thawed_learning_rate" and value <= 0:
            raise ValueError("should be greater than 0")
        return value

    def thawed(self) -> Self:
        return self.model_copy(update={"learning_rate": self.thawed_learning_rate})


def _explain(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"there is no hyperparameter {name!r}"
    return f"hyperparameter {name!r}: {error['msg'].lower()}, received {error['input']!r}"
