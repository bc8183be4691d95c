"""Expectations that image and text data sets need and Great Expectations does not have.

They read the per-example summaries of `validation.summaries`: a digest, a label, a part (train or test).
Import this module inside functions only, because it imports Great Expectations. What needs no class of its own:
blank images are `ExpectColumnValuesToBeBetween(column="std", min_value=0, strict_min=True)`, pixels that were
scaled to 0..1 too early are `ExpectColumnMaxToBeBetween(column="max", min_value=2)`, token ids beyond the
vocabulary are a range of the column max, and empty texts are a range of the column length.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import (
    ColumnAggregateExpectation,
    ColumnMapExpectation,
    ColumnPairMapExpectation,
)
from great_expectations.expectations.metrics.map_metric_provider.column_condition_partial import (
    column_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_map_metric_provider import (
    ColumnMapMetricProvider,
)
from great_expectations.expectations.metrics.map_metric_provider.column_pair_condition_partial import (
    column_pair_condition_partial,
)
from great_expectations.expectations.metrics.map_metric_provider.column_pair_map_metric_provider import (
    ColumnPairMapMetricProvider,
)


class _FirstOfItsValue(ColumnMapMetricProvider):
    condition_metric_name = "column_values.first_of_their_value"
    condition_value_keys = ()

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series[Any], **_arguments: Any) -> pd.Series[bool]:
        return ~column.duplicated()


class _OnePartnerPerValue(ColumnPairMapMetricProvider):
    condition_metric_name = "column_pair_values.one_partner_per_value"
    condition_domain_keys = ("batch_id", "table", "column_A", "column_B", "row_condition", "ignore_row_if")
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series[Any], column_B: pd.Series[Any], **_arguments: Any) -> pd.Series[bool]:
        pairs = pd.DataFrame({"value": column_A.to_numpy(), "partner": column_B.to_numpy()}, index=column_A.index)
        repeated = pairs["value"].duplicated(keep=False)
        num_partners = pairs[repeated].groupby("value")["partner"].transform("nunique")
        return num_partners.reindex(pairs.index, fill_value=1) <= 1


class ExpectNoDuplicateExamples(ColumnMapExpectation):
    """No example twice, by its digest.

    Counts what would have to go: each copy after the first, where ExpectColumnValuesToBeUnique counts all of them.
    """

    column: str = "digest"
    map_metric: ClassVar[str] = "column_values.first_of_their_value"
    success_keys: ClassVar[tuple[str, ...]] = ("mostly",)
    args_keys: ClassVar[tuple[str, ...]] = ("column",)


class ExpectPartsToBeDisjoint(ColumnPairMapExpectation):
    """No example, and no group, in two parts of the data: `column_A` is its digest or group, `column_B` its part.

    An example that is in both train and test makes the test score too good (Barz & Denzler 2020, arXiv 1902.00423,
    found 3.3 % of CIFAR-10's and 10 % of CIFAR-100's test images so, near copies included; this finds exact ones).
    """

    column_A: str = "digest"
    column_B: str = "part"
    ignore_row_if: str = "either_value_is_missing"
    map_metric: ClassVar[str] = "column_pair_values.one_partner_per_value"
    success_keys: ClassVar[tuple[str, ...]] = ("column_A", "column_B", "ignore_row_if", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column_A", "column_B")


class ExpectOneLabelPerExample(ColumnPairMapExpectation):
    """Copies of an example agree on their label: `column_A` is its digest, `column_B` its label."""

    column_A: str = "digest"
    column_B: str = "label"
    ignore_row_if: str = "either_value_is_missing"
    map_metric: ClassVar[str] = "column_pair_values.one_partner_per_value"
    success_keys: ClassVar[tuple[str, ...]] = ("column_A", "column_B", "ignore_row_if", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column_A", "column_B")


class ExpectClassShareToBeBetween(ColumnAggregateExpectation):
    """Every one of `classes` is there, with a share of the labelled rows within bounds, and no other class is.

    `observed` holds the classes that break this with their shares.
    """

    column: str = "label"
    classes: list[Any]
    min_value: float = 0.0
    max_value: float = 1.0
    metric_dependencies: ClassVar[tuple[str, ...]] = ("column.value_counts",)
    success_keys: ClassVar[tuple[str, ...]] = ("classes", "min_value", "max_value")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "classes", "min_value", "max_value")

    def _validate(self, metrics: dict[str, Any], *_: Any, **_arguments: Any) -> dict[str, Any]:
        counts = metrics["column.value_counts"]
        total = max(int(counts.sum()), 1)
        shares = dict.fromkeys(self.classes, 0.0) | {found: int(n) / total for found, n in counts.items()}
        outside = {
            str(name): round(share, 6)
            for name, share in shares.items()
            if name not in self.classes or share == 0 or not self.min_value <= share <= self.max_value
        }
        return {"success": not outside, "result": {"observed_value": outside or None}}
