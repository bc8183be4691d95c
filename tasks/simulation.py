"""What a simulation has shown: the page and its JSON, below simulations/ in the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from problems.outline.catalogue import read_card
from problems.outline.forecast import Forecast
from store import open_store
from tasks.publish import show_link
from tasks.report_page import flatten, picture, render_page
from tasks.resampling import Key, Statistic, bootstrap, describe_method, middle, num_resamples
from tasks.simulate import World
from tasks.steps import Run, package_versions

if TYPE_CHECKING:
    import numpy as np

    from tasks.report_page import Picture

logger = logging.getLogger("modelkeep")


def tell_simulation(run: Run, world: World, every: int, seconds: float, place: str) -> dict[str, Any]:
    """Write simulation.json and the page into the store `place`. The result can be written as JSON:

    problem, unit, start, end, has_moments, num_periods, num_rows, every, seconds, settings
    metric       {name, title, greater_is_better}
    kept, left, baseline   the metric over all rows, {value, text}
    gain         of keeping alive over leaving alone: {value, text, interval, interval_text, method}
    periods      [{period, num_rows, kept, left, baseline, version, level, retrain}], each number with its _text
    retrainings  [{after, period, until, cause, outcome, version, sentence, seconds}], `until` by the calendar
    sentence, page
    """
    told = describe_world(run, world, every, seconds)
    store, folder = open_store(place), f"simulations/{run.problem}/{run.run_id}"
    told["page"] = f"{place.rstrip('/')}/{folder}/simulation.html"
    facts = flatten({"settings": told["settings"], "versions": package_versions()})
    page = render_page("simulation.html.j2", told=told, card=read_card(run.problem), pictures=_draw(world), facts=facts)
    data = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
    store.put_bytes(f"{folder}/simulation.html", page.encode(), kind="html")
    store.put_bytes(f"{folder}/simulation.json", data.encode(), kind="json")
    show_link(run, "simulation", told["page"], "The simulation")
    logger.info("simulate  %s", told["sentence"])
    return told


def describe_world(run: Run, world: World, every: int, seconds: float) -> dict[str, Any]:
    """All but `page`."""
    objective, metric, rows = world.problem.objective, world.metric, world.lived(len(world.periods))
    (start, end), values = world.span(), {name: world.measure(name, rows) for name in world.forecasts}
    texts = {name: objective.describe(value, metric) for name, value in values.items()}
    periods = [
        {**one, **{f"{name}_text": objective.describe(one[name], metric) for name in world.forecasts}}
        for one in world.told
    ]
    told = {
        "problem": run.problem,
        "unit": world.unit,
        "start": start,
        "end": end,
        "has_moments": not world.problem.wear,
        "num_periods": len(world.periods),
        "num_rows": len(rows),
        "every": every,
        "seconds": round(seconds, 1),
        "settings": dict(run.hyperparameters),
        "metric": {name: getattr(metric, name) for name in ("name", "title", "greater_is_better")},
        **{name: {"value": values[name], "text": texts[name]} for name in world.forecasts},
        "baseline_name": objective.baseline_name,
        "gain": measure_gain(world, rows),
        "periods": periods,
        "retrainings": list(world.retrainings),
    }
    return {**told, "sentence": _say(told)}


def measure_gain(world: World, rows: np.ndarray) -> dict[str, Any]:
    """By how much keeping alive is better than leaving alone, below 0 for worse; the interval is of a bootstrap that
    draws the same moments for both."""
    objective, metric = world.problem.objective, world.metric
    sign, target = 1 if metric.greater_is_better else -1, world.examples.target[rows]
    blocks = objective.blocks(world.examples.frame.iloc[rows].reset_index(drop=True))

    def compute(name: str) -> Statistic:
        forecasts = world.forecasts[name].iloc[rows].reset_index(drop=True)
        return lambda weights: metric.compute(target, forecasts, weights)

    statistics: dict[Key, Statistic] = {(name,): compute(name) for name in ("kept", "left")}
    samples = bootstrap(statistics, len(rows), num_resamples(len(rows)), 0, blocks)
    value = float(sign * (statistics["kept",](None)[0] - statistics["left",](None)[0]))
    interval = middle(sign * (samples["kept",] - samples["left",]))
    return {
        "value": value,
        "text": objective.describe_difference(abs(value), metric),
        "interval": interval,
        "interval_text": objective.describe_difference_range(interval, metric),
        "method": describe_method(blocks)["method"],
    }


def _say(told: Mapping[str, Any]) -> str:
    gain = told["gain"]
    title = told["metric"]["title"][0].lower() + told["metric"]["title"][1:]
    promoted = sum(one["outcome"] == "promoted" for one in told["retrainings"])
    better = "better" if gain["value"] >= 0 else "worse"
    return (
        f"Over {told['num_periods']} {told['unit']}s the {title} of the champion that was kept alive was "
        f"{told['kept']['text']}, of the one that was left alone {told['left']['text']}: {better} by {gain['text']} "
        f"(95 % interval of the gain {gain['interval_text']}). Retrainings: {len(told['retrainings'])}, promoted: "
        f"{promoted}."
    )


def _draw(world: World) -> list[Picture]:
    """The metric from the start to each period, and of each period by itself."""
    from problems.outline.plots import kept_and_left

    factor = 100 if world.metric.is_share else 1
    begins = [world.begin(number) for number in range(len(world.periods))]
    marks = [(begins[one["after"] + 1], one["outcome"] == "promoted") for one in world.retrainings]
    # Who guesses a class is so far away that nothing else could be told apart.
    drawn = ("kept", "left", "baseline") if isinstance(world.problem.objective, Forecast) else ("kept", "left")

    def scaled(value: float | None) -> float | None:
        return None if value is None else factor * value

    ends = range(1, len(begins) + 1)
    so_far = {name: [scaled(world.measure(name, world.lived(end))) for end in ends] for name in drawn}
    single = {name: [scaled(one[name]) for one in world.told] for name in drawn}
    titles = {"so-far": f"From the start to each {world.unit}", "periods": f"Each {world.unit} by itself"}
    return [
        picture(name, kept_and_left(titles[name], begins, lines, marks, world.metric.label, world.across))
        for name, lines in (("so-far", so_far), ("periods", single))
    ]
