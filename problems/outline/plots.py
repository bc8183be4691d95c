"""Pictures of errors and of learning, in one quiet style.

Text is drawn in INK, lines to compare with in MUTED, the model in FIRST and what it is compared with in SECOND, on
no background: a page can put its own colours in their place, and so have them right in light and dark.
matplotlib is imported only when a picture is drawn, and never through pyplot: figures may be drawn in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, FIRST, SECOND = "#1f2937", "#6b7280", "#d5d9e0", "#2563eb", "#b45309"

WIDTH_INCHES = 4.7
MOST_POINTS = 1000
MOST_MOMENTS = 400
MOST_LISTED_CLASSES = 20
MOST_COUNTED_CLASSES = 12
_NO_METRICS = ("loss", "epochs", "learning_rate")


@dataclass(frozen=True)
class Plot:
    """A picture with its title, one sentence on how to read it, and an alt text that says what it shows."""

    title: str
    note: str
    alt: str
    figure: Figure


def predicted_against_true(truth: np.ndarray, guess: np.ndarray, unit: str) -> Plot:
    import numpy as np

    figure, axes = _figure()
    shown = _some(len(truth))
    ends = [min(truth.min(), guess.min()), max(truth.max(), guess.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
    axes.scatter(truth[shown], guess[shown], s=14, color=FIRST, alpha=0.55, linewidths=0)
    _label(axes, _with_unit("true value", unit), _with_unit("predicted value", unit))
    # A constant has no correlation.
    correlation = np.corrcoef(truth, guess)[0, 1] if np.ptp(truth) and np.ptp(guess) else 0.0
    return Plot(
        "Predicted against true values",
        "Each point is a test row; on the dashed line the prediction is exact, above it too high, below it too low."
        + _sampled(len(truth)),
        f"Scatter of predicted against true values of {len(truth)} test rows: true values from {truth.min():.3g} to "
        f"{truth.max():.3g} {unit}, predictions from {guess.min():.3g} to {guess.max():.3g}, "
        f"correlation {correlation:.2f}.",
        figure,
    )


def residuals(truth: np.ndarray, guess: np.ndarray, unit: str) -> Plot:
    figure, axes = _figure()
    shown, errors = _some(len(truth)), guess - truth
    axes.axhline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.scatter(guess[shown], errors[shown], s=14, color=FIRST, alpha=0.55, linewidths=0)
    _label(axes, _with_unit("predicted value", unit), _with_unit("prediction minus truth", unit))
    return Plot(
        "Errors over the range of predictions",
        "A good model's points lie around the dashed line without a trend; a funnel or a bend shows where it is weak."
        + _sampled(len(truth)),
        f"Scatter of prediction minus truth against the prediction: mean error {errors.mean():.2g} {unit}, from "
        f"{errors.min():.3g} to {errors.max():.3g}.",
        figure,
    )


def error_sizes(errors: np.ndarray, baseline_errors: np.ndarray, unit: str) -> Plot:
    import numpy as np

    figure, axes = _figure()
    shares = np.linspace(0, 1, 201)
    for name, sizes, colour, style in (("model", errors, FIRST, "-"), ("baseline", baseline_errors, SECOND, "--")):
        axes.plot(np.quantile(sizes, shares), shares * 100, color=colour, linestyle=style, label=name)
    _label(axes, _with_unit("error at most", unit), "share of test rows, %")
    _legend(axes)
    within = np.quantile(errors, 0.9)
    return Plot(
        "How large the errors are",
        "The further a curve lies to the upper left, the more rows have a small error.",
        f"Share of test rows whose error is at most a given size: half of the model's errors are at most "
        f"{np.median(errors):.3g} {unit} and 90 % at most {within:.3g}; of the baseline's "
        f"{np.median(baseline_errors):.3g} and {np.quantile(baseline_errors, 0.9):.3g}.",
        figure,
    )


def error_quantiles(truth: np.ndarray, guess: np.ndarray, unit: str) -> Plot:
    """The errors in their order against those of a normal distribution of the same mean and deviation (Q-Q plot)."""
    import numpy as np
    from scipy.stats import norm

    errors = np.sort(guess - truth)
    normal = norm.ppf((np.arange(len(errors)) + 0.5) / len(errors), errors.mean(), errors.std() or 1)
    figure, axes = _figure()
    shown = _some(len(errors))
    ends = [normal[0], normal[-1]]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
    axes.scatter(normal[shown], errors[shown], s=14, color=FIRST, alpha=0.55, linewidths=0)
    _label(axes, _with_unit("error if they were normal", unit), _with_unit("error (prediction minus truth)", unit))
    deviation = errors.std() or 1.0
    far = np.mean(np.abs(errors - errors.mean()) > 3 * deviation)
    return Plot(
        "Whether errors are as even as chance makes them",
        "Points on the dashed line are normally distributed errors; ends that leave it are errors larger than an "
        "average lets one expect." + _sampled(len(errors)),
        f"Quantiles of the errors against those of a normal distribution of their deviation, {deviation:.3g} {unit}: "
        f"the lowest is {errors[0]:.3g} where {normal[0]:.3g} would be normal, the highest {errors[-1]:.3g} where "
        f"{normal[-1]:.3g} would; {far:.1%} lie beyond three deviations, of normal ones 0.3 %.",
        figure,
    )


def importance(columns: Mapping[str, Sequence[float]], label: str) -> Plot:
    """`columns` holds, for each column, the values of its repeats; the first is drawn at the top, twenty at most."""
    import numpy as np

    listed = list(columns)[:MOST_LISTED_CLASSES]
    figure, axes = _figure(height=max(2.2, 1.1 + 0.26 * len(listed)))
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    for place, name in enumerate(listed):
        axes.hlines(place, 0, np.mean(columns[name]), color=FIRST, linewidth=3)
        axes.scatter(columns[name], np.full(len(columns[name]), place), color=SECOND, s=12, marker="D", zorder=3)
    axes.set_yticks(range(len(listed)), listed)
    axes.set_ylim(len(listed) - 0.5, -0.5)
    _label(axes, label, "")
    told = ", ".join(f"{name} {np.mean(columns[name]):.3g}" for name in listed[:5])
    return Plot(
        "How much each column matters",
        "A bar is what is lost, on average, when the values of a column are dealt out anew among the rows; each point "
        "is one dealing. Columns that tell the same share what they matter: each can look small."
        + (f" The first {len(listed)} of {len(columns)} columns." if len(columns) > len(listed) else ""),
        f"Bars of {len(listed)} columns, {label}, the largest first: {told}.",
        figure,
    )


def importance_of_settings(shares: Mapping[str, float]) -> Plot:
    """`shares` of the variance between trials (0 … 1) by hyperparameter, the largest first."""
    figure, axes = _figure(height=max(1.8, 1.0 + 0.3 * len(shares)))
    axes.barh(range(len(shares)), [100 * share for share in shares.values()], height=0.6, color=FIRST)
    axes.set_yticks(range(len(shares)), list(shares))
    axes.set_ylim(len(shares) - 0.5, -0.5)
    _label(axes, "share of what the trials differ by, %", "")
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return Plot(
        "Which settings matter",
        "How much of the difference between the finished trials each setting explains by itself and together with "
        "others (fANOVA, Hutter et al. 2014), within the ranges that were searched.",
        f"Bars of {len(shares)} settings: {told}.",
        figure,
    )


def search_history(values: Sequence[float | None], label: str, greater_is_better: bool) -> Plot:
    """`values` of the trials in their order; None for one that was ended early or failed."""
    import numpy as np

    found = np.array([np.nan if value is None else value for value in values])
    best = (np.fmax if greater_is_better else np.fmin).accumulate(found)
    numbers = np.arange(1, len(found) + 1)
    figure, axes = _figure()
    axes.step(numbers, best, where="post", color=FIRST, label="the best so far")
    axes.scatter(numbers, found, color=SECOND, s=18, marker="D", label="a trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _label(axes, "trial", f"{label}, held-out rows")
    _legend(axes)
    finished = int(np.isfinite(found).sum())
    return Plot(
        "Trial by trial",
        "The first trial is that of the settings that the search began from."
        + (f" {len(found) - finished} trials were ended early or failed and have no point." * (finished < len(found))),
        f"{label} of {finished} finished trials; the best is {best[-1]:.4g}, the first {found[0]:.4g}.",
        figure,
    )


def forecast_over_time(
    values: pd.DataFrame, unit: str, *, reach: float, is_relative: bool, is_sum: bool = False
) -> Plot:
    """`values` has the columns truth, model and baseline by moment; `reach` is drawn as a band, NaN for none."""
    import numpy as np

    shown = values.iloc[-MOST_MOMENTS:]
    figure, axes = _figure()
    if not np.isnan(reach):
        half = reach * shown["model"].abs() if is_relative else reach
        axes.fill_between(shown.index, shown["model"] - half, shown["model"] + half, color=FIRST, alpha=0.15, lw=0)
    axes.plot(shown.index, shown["truth"], color=INK, linewidth=1.2, label="truth")
    axes.plot(shown.index, shown["baseline"], color=SECOND, linewidth=0.9, linestyle="--", label="baseline")
    axes.plot(shown.index, shown["model"], color=FIRST, linewidth=1.2, label="model")
    _date(axes)
    _label(axes, "", _with_unit("sum of the rows of a moment" if is_sum else "value", unit))
    _legend(axes)
    errors = (values["model"] - values["truth"]).abs()
    return Plot(
        "Forecast and truth over time",
        "What was forecast for each moment, and what came."
        + ("" if np.isnan(reach) else " The band held 90 % of the rows that were held out before.")
        + (f" The last {MOST_MOMENTS} of {len(values)} moments." if len(values) > MOST_MOMENTS else ""),
        f"Lines of truth, model and baseline over {len(shown)} moments from {_moment(shown.index[0])} to "
        f"{_moment(shown.index[-1])}: the model is off by {errors.mean():.3g} {unit} on average and by "
        f"{errors.max():.3g} at most, which is at {_moment(errors.idxmax())}.",
        figure,
    )


def kept_and_left(
    title: str,
    moments: Sequence[Any],
    lines: Mapping[str, Sequence[float | None]],
    marks: Sequence[tuple[Any, bool]],
    label: str,
    across: str = "",
) -> Plot:
    """`lines` of kept, left and, where it is to be drawn, baseline by moment, None where undefined; `marks` are
    retrainings, and whether each was promoted."""
    import numpy as np

    names = {"kept": "kept alive", "left": "left alone", "baseline": "baseline"}
    values = {name: np.array([np.nan if one is None else one for one in line]) for name, line in lines.items()}
    figure, axes = _figure()
    for moment, promoted in marks:
        axes.axvline(moment, color=FIRST if promoted else MUTED, linewidth=0.8, linestyle="-" if promoted else ":")
    if "baseline" in values:
        axes.plot(moments, values["baseline"], color=MUTED, linewidth=0.9, linestyle="--", label=names["baseline"])
    axes.plot(moments, values["left"], color=SECOND, linewidth=1.2, label=names["left"])
    axes.plot(moments, values["kept"], color=FIRST, linewidth=1.2, label=names["kept"])
    _date(axes)
    _label(axes, across, label)
    _legend(axes)
    return Plot(
        title,
        "Upright lines are retrainings: whole ones were promoted, dotted ones were not.",
        f"{label} from {_moment(moments[0])} to {_moment(moments[-1])}, at the end "
        + ", ".join(f"{line[-1]:.3g} {names[name]}" for name, line in values.items())
        + f". {len(marks)} retrainings, {sum(promoted for _, promoted in marks)} of them promoted.",
        figure,
    )


def _date(axes: Axes) -> None:
    """Short dates below, where the axis holds any."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = axes.xaxis.get_major_locator()
    if isinstance(locator, AutoDateLocator):
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.xaxis.get_offset_text().set_color(INK)


def _moment(moment: Any) -> str:
    return f"{moment:%Y-%m-%d}" if hasattr(moment, "year") else str(moment)


def roc_curve(truth: np.ndarray, probability: np.ndarray, positive: str) -> Plot:
    from sklearn import metrics

    false_positives, true_positives, _ = metrics.roc_curve(truth, probability)
    figure, axes = _figure()
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--")
    shown = _some(len(false_positives))
    axes.plot(false_positives[shown] * 100, true_positives[shown] * 100, color=FIRST)
    _label(axes, "false alarms, % of the others", f"found, % of “{positive}”")
    return Plot(
        "Found against false alarms (ROC)",
        "Every threshold is a point: the closer the curve comes to the upper left, the better; dashed is guessing.",
        f"ROC curve with an area of {metrics.auc(false_positives, true_positives):.3f} under it.",
        figure,
    )


def precision_recall_curve(truth: np.ndarray, probability: np.ndarray, positive: str) -> Plot:
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(truth, probability)
    figure, axes = _figure()
    axes.axhline(truth.mean() * 100, color=MUTED, linewidth=1, linestyle="--")
    shown = _some(len(precision))
    axes.plot(recall[shown] * 100, precision[shown] * 100, color=FIRST)
    axes.set_ylim(0, 103)
    _label(axes, f"found, % of “{positive}” (recall)", "right, % of the alarms (precision)")
    return Plot(
        "Right alarms against found (precision and recall)",
        f"Dashed is guessing, which is right as often as “{positive}” occurs: this picture matters where that is rare.",
        f"Precision-recall curve with an average precision of "
        f"{metrics.average_precision_score(truth, probability):.3f}; {truth.mean():.1%} of the rows are {positive}.",
        figure,
    )


def reliability(probability: np.ndarray, happened: np.ndarray, name: str) -> Plot:
    """Ten groups of equally many rows in the order of their probability, with Wilson intervals (95 %)."""
    import numpy as np

    groups = [rows for rows in np.array_split(probability.argsort(kind="stable"), 10) if len(rows)]
    said = np.array([probability[rows].mean() for rows in groups]) * 100
    seen = np.array([happened[rows].mean() for rows in groups]) * 100
    reach = np.array([_wilson(int(happened[rows].sum()), len(rows)) for rows in groups]).T * 100
    figure, axes = _figure()
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--")
    errors = np.clip([seen - reach[0], reach[1] - seen], 0, None)
    axes.errorbar(said, seen, yerr=errors, color=FIRST, fmt="o-", markersize=4, linewidth=1.2, capsize=2)
    _label(axes, f"{name}, %", "how often it was so, %")
    return Plot(
        "Whether the probabilities can be believed",
        "On the dashed line what is said to happen in 70 % of the cases does so; below it the model is too sure.",
        f"Reliability diagram of {len(groups)} groups of rows: {name} from {said[0]:.0f} % to {said[-1]:.0f} %, "
        f"observed from {seen[0]:.0f} % to {seen[-1]:.0f} %, at most {np.abs(said - seen).max():.0f} points apart.",
        figure,
    )


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Plot:
    import numpy as np
    from matplotlib.patches import Rectangle

    count = len(classes)
    table = np.bincount(truth * count + predicted, minlength=count**2).reshape(count, count)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(height=max(3.6, min(5.0, 1.6 + 0.33 * count)))
    for row, column in zip(*np.nonzero(table), strict=True):
        # At most 0.6, so that the number stays readable on it.
        alpha = 0.06 + 0.54 * shares[row, column]
        colour = FIRST if row == column else SECOND
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0))
        if count <= MOST_COUNTED_CLASSES:
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=INK, fontsize=9)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))
    axes.grid(False)
    if count <= MOST_LISTED_CLASSES:
        axes.set_xticks(range(count), classes, rotation=0 if count * max(map(len, classes)) < 50 else 45)
        axes.set_yticks(range(count), classes)
    _label(axes, "predicted", "true")
    mistakes = np.where(np.eye(count, dtype=bool), 0, table)
    worst_true, worst_predicted = divmod(int(mistakes.argmax()), count)
    return Plot(
        "What is taken for what",
        "A row of the table holds the test rows of one true class; what is right lies on the diagonal.",
        f"Confusion matrix of {count} classes: {np.trace(table)} of {table.sum()} rows on the diagonal; the most "
        f"frequent mistake is {classes[worst_true]} taken for {classes[worst_predicted]}, {mistakes.max()} times.",
        figure,
    )


def class_scores(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Plot:
    """Recall and precision of each class, the worst twenty where there are more."""
    import numpy as np

    count = len(classes)
    hits, true, guessed = (
        np.bincount(numbers, minlength=count) for numbers in (truth[truth == predicted], truth, predicted)
    )
    recall, precision = hits / np.maximum(true, 1), hits / np.maximum(guessed, 1)
    listed = np.argsort(recall + precision, kind="stable")[:MOST_LISTED_CLASSES][::-1]
    figure, axes = _figure(height=1.3 + 0.26 * len(listed))
    places = np.arange(len(listed))
    axes.hlines(places, recall[listed] * 100, precision[listed] * 100, color=GRID, linewidth=3, zorder=1)
    axes.scatter(recall[listed] * 100, places, color=FIRST, s=26, label="found (recall)", zorder=2)
    axes.scatter(precision[listed] * 100, places, color=SECOND, s=26, marker="D", label="right (precision)", zorder=2)
    axes.set_yticks(places, [classes[number] for number in listed])
    _label(axes, "%", "class")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    worst = listed[-1]
    return Plot(
        "Which classes are hard",
        "Found: of the rows of a class, how many are recognised. Right: of the rows called so, how many are."
        + (f" The {len(listed)} hardest of {count} classes." if count > len(listed) else ""),
        f"Recall and precision by class; the hardest is {classes[worst]} with a recall of {recall[worst]:.0%} and a "
        f"precision of {precision[worst]:.0%}.",
        figure,
    )


def learning_curves(
    history: Mapping[str, Sequence[float]], folds: Sequence[Mapping[str, Sequence[float]]] = ()
) -> Plot:
    """The loss and the first metric over the epochs, one panel each.

    A history holds lists of equal length: `epochs` (optional, default 1, 2, …), `loss`, a metric, and the same with
    the prefix `val_` for rows that were held out. Of folds, each held-out curve is drawn thin and their mean bold.
    """
    others = [name for name in history if name not in _NO_METRICS and not name.startswith("val_")]
    names = ["loss", *others[:1]]
    figure, panels = _figure(height=2.3 * len(names) + 0.3, num_panels=len(names))
    for name, axes in zip(names, panels, strict=True):
        _draw_curves(axes, name, history, folds)
    for axes in panels:
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel("epoch", color=INK, fontsize=10)
    _legend(panels[0])
    held_out = "val_loss" in history or bool(folds)
    return Plot(
        "Learning curves",
        "Learning goes on while the loss falls; where that of the held-out rows rises again, the model learns by heart."
        if held_out
        else "The loss on the training rows, epoch by epoch.",
        _say_curves(names, history, folds),
        figure,
    )


def _draw_curves(
    axes: Axes, name: str, history: Mapping[str, Sequence[float]], folds: Sequence[Mapping[str, Sequence[float]]]
) -> None:
    drawn = [(_epochs(history), history[name])]
    axes.plot(*drawn[0], color=FIRST, label="training rows")
    if f"val_{name}" in history:
        drawn.append((_epochs(history), history[f"val_{name}"]))
        axes.plot(*drawn[-1], color=SECOND, linestyle="--", label="held-out rows")
    held_out = [fold for fold in folds if f"val_{name}" in fold]
    for fold in held_out:
        drawn.append((_epochs(fold), fold[f"val_{name}"]))
        axes.plot(*drawn[-1], color=SECOND, linewidth=0.7, alpha=0.45)
    if held_out:
        mean = _mean_curve([fold[f"val_{name}"] for fold in held_out])
        label = f"held-out rows, mean of {len(held_out)} folds"
        axes.plot(range(1, len(mean) + 1), mean, color=SECOND, linestyle="--", label=label)
    values = [value for _, curve in drawn for value in curve if value > 0]
    if values and max(values) > 30 * min(values):
        axes.set_yscale("log")
    _label(axes, "", name.replace("_", " "))


def _say_curves(
    names: Sequence[str], history: Mapping[str, Sequence[float]], folds: Sequence[Mapping[str, Sequence[float]]]
) -> str:
    said = []
    for name in names:
        text = f"{name} on the training rows goes from {history[name][0]:.3g} to {history[name][-1]:.3g}"
        held_out = [fold[f"val_{name}"] for fold in folds if f"val_{name}" in fold]
        if f"val_{name}" in history:
            held_out = [history[f"val_{name}"]]
        if held_out:
            mean = _mean_curve(held_out)
            text += f", on held-out rows from {mean[0]:.3g} to {mean[-1]:.3g}"
        said.append(text)
    return f"Curves over {len(history['loss'])} epochs: " + "; ".join(said) + "."


def _mean_curve(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """Over the epochs that all of them reached: folds may have been stopped early."""
    import numpy as np

    shortest = min(len(curve) for curve in curves)
    return np.mean([curve[:shortest] for curve in curves], axis=0)


def _epochs(history: Mapping[str, Sequence[float]]) -> Sequence[float]:
    return history.get("epochs") or range(1, len(history["loss"]) + 1)


def found_in_first(ranks: np.ndarray, baseline_ranks: np.ndarray) -> Plot:
    """Both (n,): at which place, from 1 on, each item stood that should come first."""
    import numpy as np

    figure, axes = _figure()
    lengths = np.unique(np.geomspace(1, max(ranks.max(), baseline_ranks.max()), 200).astype(int))
    found = {}
    for name, places, colour, style in (("model", ranks, FIRST, "-"), ("baseline", baseline_ranks, SECOND, "--")):
        shares = np.searchsorted(np.sort(places), lengths, side="right") / len(places) * 100
        found[name] = float((places <= 10).mean())
        axes.plot(lengths, shares, color=colour, linestyle=style, label=name)
    axes.set_xscale("log")
    _label(axes, "length of the list that is shown", "found in it, % of what was liked")
    _legend(axes)
    return Plot(
        "How much of what was liked is found",
        "The longer the list of recommendations, the more of what users liked later is in it; the higher, the better.",
        f"Share of {len(ranks)} liked test items in lists of growing length: in the first 10 the model has "
        f"{found['model']:.1%} and the baseline {found['baseline']:.1%}; half are among the first "
        f"{np.median(ranks):.0f} of the model and {np.median(baseline_ranks):.0f} of the baseline.",
        figure,
    )


def predictions_by_value(truth: np.ndarray, guess: np.ndarray, unit: str) -> Plot:
    """For targets of few values: how the predictions lie for each."""
    import numpy as np

    figure, axes = _figure()
    values = np.unique(truth)
    boxes = axes.boxplot([guess[truth == value] for value in values], whis=(5, 95), showfliers=False, widths=0.5)
    for name, colour in (("boxes", FIRST), ("whiskers", FIRST), ("caps", FIRST), ("medians", SECOND)):
        for line in boxes[name]:
            line.set_color(colour)
    axes.set_xticks(range(1, len(values) + 1), [f"{value:g}" for value in values])
    _label(axes, _with_unit("true value", unit), _with_unit("predicted value", unit))
    medians = ", ".join(f"{np.median(guess[truth == value]):.3g} for {value:g}" for value in values)
    return Plot(
        "Predictions for each true value",
        "A box holds the middle half of the predictions, its lines nine tenths, and the line across is the median.",
        f"Boxes of the predictions for each true value, {unit}: the median is {medians}.",
        figure,
    )


def variants_compared(
    values: Mapping[str, Sequence[float]], intervals: Mapping[str, Sequence[float] | None], label: str
) -> Plot:
    """`values` of each seed by variant, and the interval of their mean; the first is drawn at the top."""
    import numpy as np

    figure, axes = _figure(height=1.3 + 0.45 * len(values))
    for place, (name, seeds) in enumerate(values.items()):
        low, high = intervals[name] or (np.nan, np.nan)
        axes.hlines(place, low, high, color=FIRST, linewidth=2)
        axes.scatter(np.mean(seeds), place, color=FIRST, s=36, zorder=3, label="" if place else "mean, 95 % interval")
        axes.scatter(
            seeds, np.full(len(seeds), place + 0.22), color=SECOND, s=16, marker="D", label="" if place else "one seed"
        )
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    _label(axes, label, "")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    means = ", ".join(f"{name} {np.mean(seeds):.4g}" for name, seeds in values.items())
    others = "seeds and other test rows" if max(map(len, values.values())) > 1 else "test rows"
    return Plot(
        "The variants, the best first",
        f"A line is where the mean would lie in 95 % of the cases with other {others} of the same kind. "
        "Lines may overlap although a difference is shown: the test rows are the same for all.",
        f"Means over seeds of {label}: {means}.",
        figure,
    )


def _figure(height: float = 3.5, num_panels: int = 0) -> tuple[Figure, Any]:
    """A figure with one axes, or with a list of `num_panels` of them below each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained", facecolor="none")
    panels = [figure.add_subplot(max(num_panels, 1), 1, place + 1) for place in range(max(num_panels, 1))]
    for axes in panels:
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(colors=INK, labelsize=9, length=3)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels if num_panels else panels[0]


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across, color=INK, fontsize=10)
    axes.set_ylabel(up, color=INK, fontsize=10)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _with_unit(text: str, unit: str) -> str:
    return f"{text}, {unit}" if unit else text


def _some(count: int) -> np.ndarray:
    """At most a thousand row numbers, evenly over all, the first and the last among them."""
    import numpy as np

    return np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int)


def _sampled(count: int) -> str:
    return f" {MOST_POINTS:,} of {count:,} rows are drawn." if count > MOST_POINTS else ""


def _wilson(successes: int, count: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(method="wilson")
    return interval.low, interval.high
