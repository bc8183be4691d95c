"""The objective of problems that look ahead in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from problems.outline.objectives import Blocks, Regression, flat_target

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.metrics import Metric
    from problems.outline.plots import Plot

COVERAGE = 0.9


@dataclass(frozen=True, kw_only=True)
class Forecast(Regression):
    """A number of the future per example, in `unit`. Column: prediction (float32).

    `time`        column of the frame: the moment that is forecast; several rows may share one (several series)
    `naive`       column of the frame: what is forecast without a model, such as the value of a season before; it is
                  the baseline (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed. §5.2)
    `naive_name`  what that is, in words
    `block`       how many consecutive moments a bootstrap draws together: their errors depend on each other
    `is_ratio`    whether 0 means none, so that an error can be told as a share of the true value
    `scale`       the naive forecast's mean absolute error on the training rows, in `unit` (calibrated)
    `reach`       how far 90 % of held-out rows lay from their prediction (calibrated): in `unit`, or as a share of
                  the prediction where the main metric is mape. It holds on average as long as errors stay as large
                  as they were
    """

    kind: ClassVar[str] = "forecast"
    time: str
    naive: str
    naive_name: str
    block: int
    is_ratio: bool = True
    scale: float = math.nan
    reach: float = math.nan

    @property
    def baseline_name(self) -> str:  # type: ignore[override]
        return self.naive_name

    @property
    def is_relative(self) -> bool:
        """Whether errors count as shares of the value."""
        return self.main_metric == "mape"

    def loss(self) -> keras.losses.Loss:
        """The one whose minimum is the main metric's."""
        import keras

        return {
            "rmse": keras.losses.MeanSquaredError,
            "mape": keras.losses.MeanAbsolutePercentageError,
        }.get(self.main_metric, keras.losses.MeanAbsoluteError)()

    def calibrated(
        self,
        train_target: np.ndarray,
        train_frame: pd.DataFrame,
        held_out: Sequence[tuple[np.ndarray, pd.DataFrame]],
    ) -> Forecast:
        import numpy as np

        from problems.outline.calibration import conformal_reach

        naive_errors = np.abs(flat_target(train_target) - train_frame[self.naive].to_numpy(float))
        misses = np.concatenate([np.zeros(0), *(self.misses(*part) for part in held_out)])
        return replace(self, scale=float(naive_errors.mean()), reach=conformal_reach(misses, COVERAGE))

    def misses(self, target: np.ndarray, predictions: pd.DataFrame) -> np.ndarray:
        """In `unit`, or as shares of the prediction."""
        errors = self.row_errors(target, predictions)
        return errors / self.half_widths(predictions, 1.0) if self.is_relative else errors

    def half_widths(self, predictions: pd.DataFrame, reach: float) -> np.ndarray:
        import numpy as np

        sizes = np.abs(predictions["prediction"].to_numpy(np.float64))
        return reach * sizes if self.is_relative else super().half_widths(predictions, reach)

    def blocks(self, frame: pd.DataFrame) -> Blocks:
        """At most a fifth of the moments is drawn together: resamples must differ from each other."""
        import numpy as np

        moments, place = np.unique(frame[self.time].to_numpy(), return_inverse=True)
        return Blocks(place, max(1, min(self.block, len(moments) // 5)))

    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """The column `naive`, whatever the training target."""
        return self.predictions(frame[self.naive].to_numpy()[:, None])

    def metrics(self) -> tuple[Metric, ...]:
        from problems.outline.metrics import forecast_metrics

        return forecast_metrics(
            self.unit, is_ratio=self.is_ratio, scale=self.scale, reach=self.reach, is_relative=self.is_relative
        )

    def figures(
        self,
        target: np.ndarray,
        predictions: pd.DataFrame,
        frame: pd.DataFrame,
        baseline: pd.DataFrame,
    ) -> dict[str, Plot]:
        from problems.outline import plots

        drawn = frame[[self.time]].assign(
            truth=flat_target(target), model=predictions["prediction"], baseline=baseline["prediction"]
        )
        # The errors of several series add up in a way that is not known: their sum has no band.
        is_sum = bool(drawn[self.time].duplicated().any())
        over_time = plots.forecast_over_time(
            drawn.groupby(self.time).sum(),
            self.unit,
            reach=math.nan if is_sum else self.reach,
            is_relative=self.is_relative,
            is_sum=is_sum,
        )
        return {"over_time": over_time, **super().figures(target, predictions, frame, baseline)}
