"""What an evaluation must show before a version is registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """Whether a criterion is met, and the sentence that says why."""

    passed: bool
    reason: str


class Criterion(ABC):
    """One condition on an evaluation, as `tasks.evaluate` writes it."""

    @abstractmethod
    def judge(self, evaluation: Mapping[str, Any]) -> Verdict: ...


@dataclass(frozen=True)
class Below(Criterion):
    """The metric's value on the test rows is below `limit`."""

    metric: str
    limit: float

    def judge(self, evaluation: Mapping[str, Any]) -> Verdict:
        value = evaluation["metrics"][self.metric]["value"]
        return Verdict(value < self.limit, f"{self.metric} is {value:.4g}, wanted below {self.limit:g}")


@dataclass(frozen=True)
class Above(Criterion):
    """The metric's value on the test rows is above `limit`."""

    metric: str
    limit: float

    def judge(self, evaluation: Mapping[str, Any]) -> Verdict:
        value = evaluation["metrics"][self.metric]["value"]
        return Verdict(value > self.limit, f"{self.metric} is {value:.4g}, wanted above {self.limit:g}")


@dataclass(frozen=True)
class BeatsBaseline(Criterion):
    """The main metric is better than the common-sense baseline's, by a paired bootstrap interval that excludes 0."""

    def judge(self, evaluation: Mapping[str, Any]) -> Verdict:
        comparison = evaluation["against_baseline"]
        low, high = comparison["interval"]
        return Verdict(
            low > 0,
            f"{comparison['metric']} is better than the baseline's by {comparison['gain']:.4g} "
            f"(95 % interval {low:.4g} to {high:.4g}), wanted an interval above 0",
        )
