"""Compare: variants that were trained over seeds, ranked, with a page of their own in the store and in the Prefect UI.

The page and its JSON stand for themselves in `comparisons/`: they hold digests of what was compared, and refer to
nothing in the store that may be removed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from problems.outline.catalogue import load_problem, read_card
from problems.outline.problem import Problem
from store.artifacts import ArtifactRef
from store.steps import Lease, StepRecord
from tasks.comparison import rank
from tasks.evaluate import load_tested
from tasks.publish import show_comparison, show_link, show_picture
from tasks.report import source_origins
from tasks.report_page import flatten, picture, render_page
from tasks.resampling import num_resamples
from tasks.steps import Products, Run, digests, do_once, package_versions

if TYPE_CHECKING:
    from problems.outline.plots import Plot

logger = logging.getLogger("modelkeep")


@task(name="compare", cache_policy=NO_CACHE, task_run_name="compare {runs[0].problem}")
def compare(
    runs: Sequence[Run], examples: StepRecord, prepared: StepRecord, fitted: Sequence[StepRecord]
) -> dict[str, Any]:
    """Rank the variants of `runs`, each trained with the same seeds; `fitted` are their products in the same order.

    The result of `tasks.comparison.rank` with the name of the comparison, where its page is, what was asked for, and
    what each variant cost: {seconds, num_parameters, peak_memory_bytes}.
    """
    problem, run = load_problem(runs[0].problem), runs[0]
    record = do_once(
        run,
        "compare",
        lambda lease: _compare(problem, runs, examples, prepared, fitted, lease),
        module=__name__,
        inputs=[
            *digests(examples),
            *digests(prepared),
            *(digest for one in fitted for digest in (one.products["predictions"].sha256, one.facts["weights_digest"])),
        ],
        parameters={"asked": _asked(runs)},
    )
    store = run.open_store()
    comparison: dict[str, Any] = json.loads(store.read_bytes(record.products["comparison"]))
    place = f"comparisons/{run.problem}/{run.run_id}"
    pages = {name: store.copy(ref, f"{place}/{ref.name}") for name, ref in record.products.items()}
    page = f"{run.store.rstrip('/')}/{place}/{pages['page'].name}"
    _show(run, comparison, store.read_bytes(pages["picture"]).decode(), page)
    return {"comparison": run.run_id, "page": page, **comparison}


def _compare(
    problem: Problem,
    runs: Sequence[Run],
    ingested: StepRecord,
    prepared: StepRecord,
    fitted: Sequence[StepRecord],
    lease: Lease,
) -> Products:
    store = runs[0].open_store()
    tested = [load_tested(problem, store, ingested, prepared, [], one) for one in fitted]
    ranked = rank(
        tested[0].objective,
        target=tested[0].target,
        frame=tested[0].frame,
        predictions=_by_variant(runs, [one.predictions for one in tested]),
        baseline=tested[0].baseline,
        resamples=num_resamples(len(tested[0].target)),
    )
    costs = {name: _cost(records) for name, records in _by_variant(runs, fitted).items()}
    comparison = {
        "problem": problem.name,
        **ranked,
        "variants": {name: {**told, "cost": costs[name]} for name, told in ranked["variants"].items()},
        "asked": _asked(runs),
        "used": _used(ingested, runs, fitted),
    }
    logger.info("compare   %d models of %d variants on %d test rows", len(fitted), len(costs), ranked["num_test_rows"])
    return Products(_write(comparison, ingested, lease), {"best": comparison["best"]})


def _by_variant(runs: Sequence[Run], several: Iterable[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for run, one in zip(runs, several, strict=True):
        grouped.setdefault(run.variant, []).append(one)
    return grouped


def _asked(runs: Sequence[Run]) -> dict[str, Any]:
    run = runs[0]
    return {
        "variants": {one.variant: dict(one.hyperparameters) for one in runs},
        "seeds": sorted({one.seed for one in runs}),
        "sample": run.sample,
        "data": run.data,
        "full": run.full,
        "backend": run.backend,
    }


def _used(ingested: StepRecord, runs: Sequence[Run], fitted: Sequence[StepRecord]) -> dict[str, Any]:
    """What can tell later whether something is the same: the data, the weights and the surroundings."""
    return {
        "data_digests": {name: ref.sha256 for name, ref in ingested.products.items()},
        "weights_digests": _by_variant(runs, [one.facts["weights_digest"] for one in fitted]),
        "num_examples": ingested.facts["num_examples"],
        "sources": ingested.facts["sources"],
        "devices": sorted({one.facts["device"] for one in fitted}),
        "versions": package_versions(),
    }


def _cost(records: Sequence[StepRecord]) -> dict[str, Any]:
    return {
        "seconds": round(sum(record.facts["seconds"] for record in records) / len(records), 1),
        "num_parameters": records[0].facts["num_parameters"],
        "peak_memory_bytes": max(record.facts["peak_memory_bytes"] for record in records),
    }


def _write(comparison: Mapping[str, Any], ingested: StepRecord, lease: Lease) -> dict[str, ArtifactRef]:
    drawn = picture("comparison", _plot(comparison))
    made = {
        **comparison["asked"],
        "values": {name: variant["values"] for name, variant in comparison["variants"].items()},
        **comparison["used"],
    }
    page = render_page(
        "comparison.html.j2",
        comparison=comparison,
        card=read_card(comparison["problem"]),
        picture=drawn,
        sources=source_origins(ingested),
        facts=flatten(made),
    )
    data = json.dumps(comparison, indent=1, ensure_ascii=False, allow_nan=False)
    return {
        "comparison": lease.put_bytes("comparison.json", data.encode(), kind="json"),
        "picture": lease.put_bytes("comparison.svg", drawn.svg.encode(), kind="svg"),
        "page": lease.put_bytes("comparison.html", page.encode(), kind="html"),
    }


def _plot(comparison: Mapping[str, Any]) -> Plot:
    from problems.outline.plots import variants_compared

    metric, factor = comparison["metric"], 100 if comparison["metric"]["is_share"] else 1
    unit = "%" if metric["is_share"] else metric["unit"]
    return variants_compared(
        {name: [value * factor for value in one["values"]] for name, one in comparison["variants"].items()},
        {
            name: one["interval"] and [end * factor for end in one["interval"]]
            for name, one in comparison["variants"].items()
        },
        f"{metric['title']}, {unit}" if unit else metric["title"],
    )


def _show(run: Run, comparison: Mapping[str, Any], svg: str, page: str) -> None:
    show_comparison(run, comparison)
    show_picture(run, "comparison-picture", svg, comparison["sentence"])
    show_link(run, "comparison-page", page, "The comparison")
