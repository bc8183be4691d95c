"""What counts as drift: how far new data may move away from training data before somebody should look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From which size on a difference is worth a warning, and from which it is an alert."""

    warn: float
    alert: float

    def level(self, effect: float) -> str:
        return "alert" if effect >= self.alert else "warn" if effect >= self.warn else "none"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A difference counts if it is significant after Holm's correction and large enough, both at once: with many rows
    every difference is significant, with few of them chance alone makes large ones.

    `least_rows`     a window of fewer rows is measured, but not judged
    `significance`   of the corrected p values
    `shift`          of a number: Wasserstein distance in standard deviations of the training rows
    `distance`       of a category: Jensen-Shannon distance, 0 … 1
    `unseen`         share of the window's rows with a category that no training row has
    `missing`        difference between the shares of missing values
    `separability`   area under the ROC curve of a classifier that tells training rows from the window's
    `most_set_aside` share of the rows that may fail their checks before the window as a whole is no good data
    `persistence`    (k, m): k of the last m windows of a version must be at `warn` or above before that is an alarm.
                     One window alone is at `warn` by chance in up to 5 % of the cases, two of three in 1 %. An alert
                     is an alarm at once: chance was never seen to make differences of that size (benchmarks/drift.py)
    `ignored`        columns of the frame that are expected to move, such as a running number

    The limits of `shift` and `distance` at `warn`, and of `separability`, are measured; the others are defaults.
    """

    least_rows: int = 500
    significance: float = 0.05
    shift: Limits = Limits(warn=0.1, alert=0.3)
    distance: Limits = Limits(warn=0.1, alert=0.2)
    unseen: Limits = Limits(warn=0.01, alert=0.05)
    missing: Limits = Limits(warn=0.02, alert=0.1)
    separability: Limits = Limits(warn=0.55, alert=0.7)
    most_set_aside: float = 0.05
    persistence: tuple[int, int] = (2, 3)
    ignored: tuple[str, ...] = ()
