"""The objective of problems that recommend: how much a user will like an item, and which items to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from modelkeep.errors import ModelkeepError
from problems.outline.objectives import Asked, Blocks, Regression, checked_outputs, flat_target

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd

    from problems.outline.metrics import Metric
    from problems.outline.plots import Plot
    from problems.outline.ranking import Order, Pairs

NUM_SUGGESTIONS = 50
_PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True, eq=False)
class Known:
    """What was known before the test rows: the ratings that were trained on, and which pairs no longer need to be
    recommended."""

    trained: Pairs
    ratings: np.ndarray
    pairs: Pairs


@dataclass(frozen=True, kw_only=True)
class Recommendation(Regression):
    """A rating per pair of a user and an item, and for each user an order of the items that the user does not know.

    The model's inputs are numbers of users and items, int32 (n,), named as the columns `user` and `item` of the frame.
    Its outputs (n, 1 + 2 d) are the rating, a vector of the user and a vector of the item, each of d numbers: items are
    ordered by the product of the vectors. Only the rating is learnt by gradient.

    Columns: user, item, prediction (float32, within `bounds`), rank (int32: the place of the item among all that the
    user did not know, test items included, from 1 on) and first_1 … first_10 (what the user would be shown).

    `labels`  columns of the frame that tell a reader what an item is; the first is its name
    `liked`   the rating from which an item was liked: these are what should come first
    `bounds`  the lowest and the highest rating
    `known`   (calibrated) what the baselines may know: the user's mean rating, and how many have rated an item
    """

    kind: ClassVar[str] = "recommendation"
    baseline_name: ClassVar[str] = "the user's mean rating; what most have rated first"
    user: str
    item: str
    labels: tuple[str, ...]
    liked: float
    bounds: tuple[float, float]
    main_metric: str = "ndcg_at_10"
    known: Known | None = field(default=None, compare=False, repr=False)

    def loss(self) -> keras.losses.Loss:
        return _squared_error

    def training_metrics(self) -> list[keras.metrics.Metric]:
        import keras

        return [keras.metrics.MeanMetricWrapper(_squared_error, name="mse")]

    def predictions(self, outputs: np.ndarray) -> pd.DataFrame:
        """The rating alone; `complete` adds the other columns."""
        import pandas as pd

        return pd.DataFrame({"prediction": _split(outputs)[0].clip(*self.bounds)})

    def complete(self, predictions: pd.DataFrame, asked: Asked) -> pd.DataFrame:
        import numpy as np

        frame = asked.examples.frame
        known, wanted = self._pairs(frame.iloc[asked.known]), self._pairs(frame.iloc[asked.rows])
        order = self._order(np.unique(wanted.users), known, asked)
        return _with_order(wanted, predictions["prediction"].to_numpy(), order)

    def keepsakes(self, asked: Asked) -> dict[str, pd.DataFrame]:
        """`catalogue`: item, its labels and vector_0 …, of every item that was rated; `suggestions`: user, place (from
        1 on), item and rating of what each user should see first, fifty at most, without what the user has rated."""
        import numpy as np
        import pandas as pd

        frame = asked.examples.frame.iloc[np.union1d(asked.known, asked.rows)]
        known = self._pairs(frame)
        order = self._order(np.unique(known.users), known, asked)
        named = frame.drop_duplicates(self.item).set_index(self.item)[list(self.labels)].loc[known.catalogue]
        vectors = pd.DataFrame(order.item_vectors).add_prefix("vector_")
        catalogue = pd.concat([named.rename_axis("item").reset_index(), vectors], axis=1)
        return {"catalogue": catalogue, "suggestions": self._suggest(order, asked)}

    def _suggest(self, order: Order, asked: Asked) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        from problems.outline.ranking import NOTHING

        first = order.first(NUM_SUGGESTIONS)
        user, place = np.nonzero(first != NOTHING)
        users, items = order.users[user], first[user, place]
        ratings = self._ask(users, items, asked)[0].clip(*self.bounds)
        return pd.DataFrame({"user": users, "place": place + 1, "item": items, "rating": ratings})

    def _order(self, users: np.ndarray, known: Pairs, asked: Asked) -> Order:
        """The model's. Its vectors of users come with any item, and those of items with any user."""
        import numpy as np

        from problems.outline.ranking import Order

        items = known.catalogue
        _, user_vectors, _ = self._ask(users, np.resize(items, len(users)), asked)
        _, _, item_vectors = self._ask(np.resize(users, len(items)), items, asked)
        return Order(users, user_vectors, item_vectors, known)

    def _ask(self, users: np.ndarray, items: np.ndarray, asked: Asked) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the model puts out for pairs (n): ratings (n,), vectors of users (n, d) and of items (n, d)."""
        import numpy as np

        parts = []
        for start in range(0, len(users), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            pairs = {self.user: users[part].astype(np.int32), self.item: items[part].astype(np.int32)}
            parts.append(_split(asked.outputs_of(pairs)))
        ratings, user_vectors, item_vectors = (np.concatenate(several) for several in zip(*parts, strict=True))
        return ratings, user_vectors, item_vectors

    def _pairs(self, frame: pd.DataFrame) -> Pairs:
        import numpy as np

        from problems.outline.ranking import Pairs

        return Pairs(frame[self.user].to_numpy(np.int64), frame[self.item].to_numpy(np.int64))

    def calibrated(
        self,
        train_target: np.ndarray,
        train_frame: pd.DataFrame,
        held_out: Sequence[tuple[np.ndarray, pd.DataFrame]],
    ) -> Recommendation:
        import numpy as np

        from problems.outline.ranking import Pairs

        trained = self._pairs(train_frame)
        parts = [predictions for _, predictions in held_out if len(predictions)]
        users = np.concatenate([trained.users, *(part["user"].to_numpy(np.int64) for part in parts)])
        items = np.concatenate([trained.items, *(part["item"].to_numpy(np.int64) for part in parts)])
        return replace(self, known=Known(trained, flat_target(train_target), Pairs(users, items)))

    def blocks(self, frame: pd.DataFrame) -> Blocks:
        """A user comes with all of the rows."""
        import numpy as np

        return Blocks(np.unique(frame[self.user].to_numpy(), return_inverse=True)[1], 1, of="users")

    def baseline(self, train_target: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
        """The mean of the user's training ratings, of all where there are none; and for everybody the order of how many
        have rated an item. Raises ModelkeepError before calibration."""
        import numpy as np
        import pandas as pd

        from problems.outline.ranking import by_popularity

        if self.known is None:
            raise ModelkeepError(
                "The baseline of a recommendation needs the training rows.",
                next_step="call calibrated() first, as tasks.evaluate.load_tested does",
            )
        known, wanted = self.known, self._pairs(frame)
        ratings = pd.Series(known.ratings).groupby(known.trained.users).mean().reindex(wanted.users)
        means = ratings.fillna(float(known.ratings.mean())).to_numpy(np.float32)
        return _with_order(wanted, means, by_popularity(np.unique(wanted.users), known.pairs, known.trained))

    def metrics(self) -> tuple[Metric, ...]:
        from problems.outline.ranking import recommendation_metrics

        size = len(self.known.pairs.catalogue) if self.known else math.nan
        return recommendation_metrics(self.unit, self.liked, size)

    def figures(
        self,
        target: np.ndarray,
        predictions: pd.DataFrame,
        frame: pd.DataFrame,
        baseline: pd.DataFrame,
    ) -> dict[str, Plot]:
        from problems.outline import plots

        truth = flat_target(target)
        is_liked = truth >= self.liked
        ranks = {
            name: one["rank"].to_numpy()[is_liked] for name, one in (("model", predictions), ("baseline", baseline))
        }
        pictures = {"found": plots.found_in_first(ranks["model"], ranks["baseline"])} if is_liked.any() else {}
        return pictures | {
            "ratings": plots.predictions_by_value(truth, predictions["prediction"].to_numpy(float), self.unit),
            "error_sizes": plots.error_sizes(
                self.row_errors(target, predictions), self.row_errors(target, baseline), self.unit
            ),
        }


def _with_order(wanted: Pairs, ratings: np.ndarray, order: Order) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from problems.outline.ranking import FIRST

    first = order.first(FIRST)[np.searchsorted(order.users, wanted.users)]
    return pd.DataFrame(
        {
            "user": wanted.users,
            "item": wanted.items,
            "prediction": ratings,
            "rank": order.ranks(wanted.users, wanted.items),
            **{f"first_{place}": first[:, place - 1] for place in range(1, FIRST + 1)},
        }
    )


def _split(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rating (n,), vector of the user (n, d) and of the item (n, d), float32. Raises PredictionsInvalid."""
    import numpy as np

    outputs = np.asarray(outputs)
    width = outputs.shape[-1] // 2
    outputs = checked_outputs(outputs, width=1 + 2 * max(width, 1))
    return outputs[:, 0], outputs[:, 1 : 1 + width], outputs[:, 1 + width :]


def _squared_error(truth: Any, outputs: Any) -> Any:
    """Of the rating, which is the first output; (n,)."""
    from keras import ops

    return ops.square(truth[:, 0] - outputs[:, 0])
