"""The command `modelkeep`. Heavy libraries are imported by the commands that need them, once they know that they do."""

from __future__ import annotations

import json
import math
import sys
import traceback
from gc import set_threshold
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelkeep.addresses import has_password, without_secrets
from modelkeep.errors import ModelkeepError
from tasks.devices import Gpu

if TYPE_CHECKING:
    from tasks.requests import Request

app = typer.Typer(
    name="modelkeep",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train Keras models, prove that they are good, and keep them alive.\n\n"
    "Start with `modelkeep problems`, then `modelkeep train housing`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130

server_app = typer.Typer(no_args_is_help=True, help="The local Prefect server that runs report to.")
app.add_typer(server_app, name="server")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 for a gate that said no, 2 for a mistake or a fault of the surroundings."""
    set_threshold(50_000)  # a start makes many objects and hardly any garbage
    try:
        app(arguments, prog_name="modelkeep")
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what Typer makes of Ctrl-C
            print("modelkeep: stopped; what is done is kept, and the same command goes on from there", file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else 0
    except ModelkeepError as error:
        return _tell_fault(error, arguments)
    except OSError as fault:
        known = ModelkeepError(
            str(fault.strerror or fault),
            where=str(fault.filename or "this machine"),
            next_step="check the path, and whether you may read and write there" if fault.filename else "",
        )
        return _tell_fault(known, arguments)
    except Exception:
        # A fault of ours: shown in full, and never taken for a gate that said no.
        traceback.print_exc()
        return 2
    return 0


def _tell_fault(error: ModelkeepError, arguments: list[str] | None) -> int:
    print(f"modelkeep: {error}", file=sys.stderr)
    if "--json" in (sys.argv[1:] if arguments is None else arguments):
        print(json.dumps({"error": error.details}, indent=1, ensure_ascii=False))
    return error.exit_code


# --- options that several commands have ----------------------------------------------------------------------------


def _complete_problem(incomplete: str) -> list[str]:
    from problems.outline.catalogue import problem_names

    return [name for name in problem_names() if name.startswith(incomplete)]


ProblemArgument = Annotated[
    str, typer.Argument(help="A problem; `modelkeep problems` lists them.", autocompletion=_complete_problem)
]
SampleOption = Annotated[int | None, typer.Option(min=1, help="Use only so many examples.")]
DataOption = Annotated[str, typer.Option(help="Your own file, path or address, in place of the source.")]
FullOption = Annotated[bool, typer.Option("--full", help="Refuse a package's partial copy of the data.")]
StoreOption = Annotated[str, typer.Option("--store", help="Where artifacts are kept: a path or s3://bucket/prefix.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit trail.")]


def _request(
    problem: str,
    settings: list[str] | None,
    sample: int | None,
    data: str,
    full: bool,
    store: str,
    *,
    variant: str = "",
    seed: int = 0,
) -> Request:
    """What the options ask for. Raises UnknownProblem, and ModelkeepError for a setting that cannot be read."""
    from problems.outline.catalogue import problem_path
    from tasks.requests import Request
    from tasks.settings import load_settings

    problem_path(problem)
    return Request(
        problem=problem,
        settings=parse_settings(settings or []),
        variant=variant,
        seed=seed,
        sample=sample,
        data=_absolute(data),
        full=full,
        store=_store_uri(store),
        mirror=load_settings().mirror,
    )


def _store_uri(store: str) -> str:
    from tasks.settings import load_settings

    return store or load_settings().store


def _print(value: Any, as_json: bool, text: str) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str) if as_json else text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned columns under their names."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


# --- problems and training -----------------------------------------------------------------------------------------


@app.command()
def problems(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a table with what was measured.")] = False,
    into: Annotated[Path | None, typer.Option(help="Write that table into this file, where one stands.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the problems.

    Examples:

      modelkeep problems

      modelkeep problems --into README.md
    """
    from problems.outline.catalogue import cards_table, problem_names, read_card

    cards = {name: read_card(name) for name in problem_names()}
    if into:
        from flows.new_problem import put_table

        put_table(cards_table(cards), into)
        return
    if as_markdown:
        print(cards_table(cards))
        return
    rows = [{"problem": name, "question": card["question"] or card["title"]} for name, card in cards.items()]
    _print(cards, as_json, _table(rows))


@app.command()
def train(
    problem: ProblemArgument,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyperparameter; may be repeated.")
    ] = None,
    variant: Annotated[str, typer.Option(help="A named setting of the problem, such as mlp.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the first weights and the order of examples.")] = 0,
    sample: SampleOption = None,
    data: DataOption = "",
    full: FullOption = False,
    gpu: Annotated[
        Gpu, typer.Option(help="Whether to train on a GPU; without one, `require` fails at once.")
    ] = "prefer",
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train a model and make it champion if it is the better one. With nothing changed, nothing is done.

    Examples:

      modelkeep train housing

      modelkeep train housing --set epochs=60 --set units=32

      modelkeep train digits --variant mlp --sample 2000
    """
    from flows.local_run import run_train, show_log_lines
    from tasks.requests import find_answer

    request = _request(problem, settings, sample, data, full, store, variant=variant, seed=seed)
    answer = find_answer(request)
    if answer:
        _show_answer(answer, request.store, as_json)
        return
    show_log_lines()
    trained = run_train(request, gpu)
    _show_run(request.store, trained.run, trained.version, trained.champion, as_json)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`["epochs=10", "network=mlp"]` → `{"epochs": 10, "network": "mlp"}`: values are JSON where they can be."""
    parsed: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ModelkeepError(
                "A hyperparameter cannot be read.", expected="--set NAME=VALUE", received=f"--set {text}"
            )
        parsed[name.strip()] = _read_value(value)
    return parsed


def _read_value(text: str) -> Any:
    try:
        # NaN and Infinity are not JSON, though Python reads them: they stay text, and the hyperparameter refuses them.
        value = json.loads(text, parse_constant=str)
    except json.JSONDecodeError:
        return text
    return text if isinstance(value, float) and math.isinf(value) else value


def _absolute(data: str) -> str:
    if has_password(data):
        raise ModelkeepError(
            "An address with a password in it would be kept with the run.",
            where=without_secrets(data),
            next_step="leave user and password out and put them into ~/.netrc, or download the file first",
        )
    return data if not data or "://" in data else str(Path(data).expanduser().absolute())


def _show_answer(answer: Any, store: str, as_json: bool) -> None:
    manifest = answer.manifest
    run, decision = manifest["run"], manifest["decision"]
    if not decision["register"]:
        print(
            f"{manifest['problem']}: nothing has changed since run {run}, which ended with: {manifest['outcome']}.\n"
            f"  {decision['reason']}\n  kept in {store}/runs/{manifest['problem']}/{run}",
            file=sys.stderr,
        )
        raise typer.Exit(1)
    if not as_json:
        print(f"{manifest['problem']}: nothing has changed since run {run}; nothing was computed.")
    _show_run(store, run, answer.version, answer.champion == answer.version, as_json)


def _show_run(store: str, run: str, version: int | None, is_champion: bool, as_json: bool) -> None:
    from store import open_store
    from tasks.runs import read_manifest

    manifest = read_manifest(open_store(store), run)
    place = f"{store.rstrip('/')}/runs/{manifest['problem']}/{run}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in manifest["metrics"].items() if value is not None)
    told = {
        "problem": manifest["problem"],
        "run": run,
        "version": version,
        "champion": is_champion,
        "reason": manifest["decision"]["reason"],
        "metrics": manifest["metrics"],
        "report": f"{place}/report.html",
    }
    role = "champion" if is_champion else "registered, not champion"
    _print(
        told,
        as_json,
        f"{manifest['problem']} version {version}: {role}. {told['reason']}\n  {metrics}\n  report  {told['report']}",
    )


@app.command()
def reproduce(
    run: Annotated[str, typer.Argument(help="A run; `modelkeep models PROBLEM` lists them.")],
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train a run again and compare data, weights and metrics. Exit 1 if they differ.

    Example:  modelkeep reproduce housing-20260101T120000-1a2b3c
    """
    from flows.local_run import run_reproduce, show_log_lines

    show_log_lines()
    result = run_reproduce(_store_uri(store), run)
    same = result["same_data"] and result["same_weights"] and result["same_metrics"]
    lines = [f"{run}: {'the same data, weights and metrics' if same else 'not the same'}"]
    lines += [f"  {name:<12}{then} → {now}" for name, (then, now) in result["metrics"].items() if then != now]
    lines += [f"  {name} has changed since" for name in result["changed"]]
    _print(result, as_json, "\n".join(lines))
    if not same:
        raise typer.Exit(1)


@app.command()
def compare(
    problem: ProblemArgument,
    variants: Annotated[
        str, typer.Option(help="Variants with commas between them; all of the problem's if left out.")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained, with another seed.")] = 5,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyperparameter of all variants.")
    ] = None,
    sample: SampleOption = None,
    data: DataOption = "",
    full: FullOption = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Rank the variants of a problem over several seeds. Nothing is registered.

    Examples:

      modelkeep compare digits

      modelkeep compare digits --variants mlp,convnet --seeds 3 --set epochs=2
    """
    from flows.local_run import run_compare, show_log_lines

    request = _request(problem, settings, sample, data, full, store)
    show_log_lines()
    names = [name.strip() for name in variants.split(",") if name.strip()]
    compared = run_compare(request, names, seeds)
    rows = [_variant_row(name, variant) for name, variant in compared["variants"].items()]
    _print(compared, as_json, f"{compared['sentence']}\n\n{_table(rows)}\n\n  page    {compared['page']}")


def _variant_row(name: str, variant: dict[str, Any]) -> dict[str, Any]:
    behind, cost = variant["behind"], variant["cost"]
    return {
        "variant": name,
        "mean": variant["mean_text"],
        "95 % interval": variant["interval_text"],
        "sd over seeds": variant["sd_text"],
        "worse by": behind["value_text"] if behind else "",
        "shown": ("yes" if behind["is_shown"] else "no") if behind else "",
        "seconds": cost["seconds"],
        "parameters": f"{cost['num_parameters']:,}",
        "peak MB": round(cost["peak_memory_bytes"] / 1e6),
    }


@app.command()
def tune(
    problem: ProblemArgument,
    trials: Annotated[int, typer.Option(min=1, help="How many settings are tried, with those of earlier calls.")] = 30,
    seeds: Annotated[int, typer.Option(min=1, help="How often the best and the defaults are trained at the end.")] = 5,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyperparameter that is fixed.")
    ] = None,
    variant: Annotated[str, typer.Option(help="A named setting of the problem to begin from.")] = "",
    sample: SampleOption = None,
    data: DataOption = "",
    full: FullOption = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Search hyperparameters, and compare the best with the defaults. Nothing is registered.

    Trials are judged on rows held out of training; test rows are used once, at the end. The same command goes on with
    a search that was interrupted, and more trials may be asked for later.

    Example:  modelkeep tune churn --trials 50 --set epochs=40
    """
    from flows.local_run import run_tune, show_log_lines

    request = _request(problem, settings, sample, data, full, store, variant=variant)
    show_log_lines()
    found = run_tune(request, trials, seeds)
    _print(found, as_json, f"{found['sentence']}\n  page      {found['page']}\n  train it  {found['command']}")


@app.command()
def explore(
    problem: ProblemArgument,
    sample: SampleOption = None,
    data: DataOption = "",
    full: FullOption = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what a problem's data looks like. Columns, target, copies, and how test rows differ from training rows.

    Example:  modelkeep explore housing
    """
    from flows.local_run import run_explore, show_log_lines

    request = _request(problem, None, sample, data, full, store)
    show_log_lines()
    told = run_explore(request)
    notes = [f"  note    {note}" for note in told["notes"]]
    title = f"{problem}: {told['num_examples']:,} examples, {len(told['columns'])} columns"
    _print(told, as_json, "\n".join([title, *notes, f"  page    {told['page']}"]))


@app.command()
def predict(
    problem: ProblemArgument,
    window: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            help="A .csv, .parquet, .jsonl or .npz with an array by column (path, https:// or s3://), or a folder of "
            "pictures.",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="A folder, or a .parquet file that the others are put beside.")
    ] = "predictions",
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Ask the champion about new data. Answers go to Parquet, and those about pictures to a contact sheet too.

    What cannot be scored is set aside and listed with the reason. A table may be larger than memory; if the command is
    interrupted, the same command goes on where it stopped.

    Examples:

      modelkeep predict churn --input customers.csv --output may.parquet

      modelkeep predict photos --input holiday --output holiday-labels
    """
    from dataclasses import asdict

    from flows.local_run import run_predict, show_log_lines
    from problems.outline.catalogue import problem_path

    problem_path(problem)
    show_log_lines()
    scored = run_predict(problem, _absolute(window), _absolute(output), _store_uri(store))
    lines = [scored.sentence, f"  answers   {scored.scores}"]
    lines += [f"  set aside {scored.rejected}"] if scored.num_set_aside else []
    window = scored.window.rpartition("/")[2]
    monitor = f"modelkeep monitor {problem} --window {window}"
    lines += [f"  sheet     {scored.page}"] if scored.page else []
    lines += [f"  kept in   {scored.window}", f"  watch it  {monitor}"]
    _print(asdict(scored), as_json, "\n".join(lines))


@app.command()
def monitor(
    problem: ProblemArgument,
    window: Annotated[
        str, typer.Option(help="The id of a scored window; if left out, that whose scores were asked for last.")
    ] = "",
    data: Annotated[str, typer.Option("--input", "-i", help="What is scored first, as by `predict`.")] = "",
    labels: Annotated[
        str, typer.Option(help="A .csv or .parquet with the columns row and target, where the truth has come.")
    ] = "",
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare new data with what a version was trained on. Exit 1 if that is an alarm.

    Data is checked first. Then each column, the predictions and all columns together are compared and, where labels
    have come, how well the version does; where they have not, that is estimated. An alarm goes out as a Prefect event.

    Examples:

      modelkeep monitor churn --input customers-may.csv

      modelkeep monitor churn --labels left-in-may.csv
    """
    from dataclasses import asdict

    from flows.local_run import run_monitor, show_log_lines
    from problems.outline.catalogue import problem_path

    problem_path(problem)
    if window and data:
        raise ModelkeepError("A window is named in two ways.", expected="--window or --input, or neither")
    show_log_lines()
    known = window.rstrip("/").rpartition("/")[2]
    found = run_monitor(problem, known, _absolute(data), _absolute(labels), _store_uri(store))
    lines = [f"{problem} version {found.version}, window {found.window}: {found.sentence}"]
    lines += [f"  - {reason}" for reason in found.reasons[1:6]]
    lines += [f"  retrain: {found.retrain}"] if found.retrain else []
    lines += [f"  page    {found.page}"] if found.page else []
    _print(asdict(found), as_json, "\n".join(lines))
    if found.is_alarm:
        raise typer.Exit(1)


@app.command()
def retrain(
    problem: ProblemArgument,
    data: Annotated[str, typer.Option(help="A newer file, path or address, in place of the source.")] = "",
    reason: Annotated[str, typer.Option(help="Why; what `monitor` has found if left out.")] = "",
    cooldown_hours: Annotated[
        float, typer.Option(min=0, help="Hours that lie between two retrainings, at least; 0 does it now.")
    ] = 24.0,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train a challenger on what has come since. It becomes champion if it is not worse; else it is said why not.

    What has come are windows whose truth `monitor --labels` has brought, or a newer file. The champion's settings are
    kept, and both are tested on the same rows: those of before, and the last fifth of the new ones.

    Examples:

      modelkeep retrain churn

      modelkeep retrain bakery --data turnovers-to-june.csv --reason "the new shop"
    """
    from dataclasses import asdict

    from flows.local_run import run_retrain, show_log_lines
    from problems.outline.catalogue import problem_path

    problem_path(problem)
    show_log_lines()
    found = run_retrain(problem, _absolute(data), reason, cooldown_hours, _store_uri(store))
    roles = {"promoted": "is champion", "kept": "was registered, and the champion kept"}
    lines = [
        f"{problem} version {found.version} {roles[found.outcome]}. {found.sentence}" if found.run else found.sentence
    ]
    lines += [f"  because of {found.cause}", f"  run     {found.run}"] if found.run else []
    _print(asdict(found), as_json, "\n".join(lines))


@app.command()
def simulate(
    problem: ProblemArgument,
    start: Annotated[str, typer.Option(help="When the first period may begin; after a third if left out.")] = "",
    every: Annotated[int, typer.Option(min=0, help="Retrain each so many periods too; 0 for not.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyperparameter; may be repeated.")
    ] = None,
    variant: Annotated[str, typer.Option(help="A named setting of the problem, such as linear.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of every training.")] = 0,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Ask of the past what keeping a champion alive is worth.

    The first champion learns from what was known at the start. The rest is forecast, monitored and retrained week by
    week, or year by year where data comes more slowly; a copy of the first champion is left alone. Pictures come in
    windows of which each is turned a little more than the one before.

    Examples:

      modelkeep simulate bakery

      modelkeep simulate co2 --every 5 --variant linear

      modelkeep simulate digits --variant mlp
    """
    from flows.local_run import run_simulate, show_log_lines
    from problems.outline.catalogue import problem_path

    problem_path(problem)
    show_log_lines()
    found = run_simulate(problem, start, every, parse_settings(settings or []), variant, seed, _store_uri(store))
    _print(found, as_json, f"{found['sentence']}\n  page    {found['page']}")


@app.command()
def serve(
    problems: Annotated[str, typer.Argument(help="Problems, with commas between them.")],
    host: Annotated[str, typer.Option(help="The address to listen at; 127.0.0.1 is heard on this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 finds a free one.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that requests must bear; else MODELKEEP_SERVE_TOKEN.")
    ] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the rows, so many are kept for monitoring.")] = 1.0,
    store: StoreOption = "",
) -> None:
    """Answer requests over HTTP with the champions. Rows as plain JSON, tensors by the Open Inference Protocol v2.

    A promotion or a rollback is followed within seconds, without a restart. The documents are at /openapi.json, what
    Prometheus reads at /metrics. SIGTERM and Ctrl-C let the server finish what it is asked.

    Examples:

      modelkeep serve housing

      modelkeep serve housing,churn --port 9000 --token-file token.txt
    """
    from flows.local_run import show_log_lines
    from flows.serve import read_token
    from flows.serve import serve as run

    show_log_lines()
    names = [name.strip() for name in problems.split(",") if name.strip()]
    run(names, _store_uri(store), host=host, port=port, token=read_token(token_file), share=share)


@app.command()
def similar(
    problem: ProblemArgument,
    title: Annotated[str, typer.Argument(help="A title, a part of one, or '#' and the number of the item.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Show so many.")] = 10,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what a recommendation's champion holds for most similar.

    Example:  modelkeep similar books "The Hobbit"
    """
    from flows.recommend import find_similar

    found = find_similar(_store_uri(store), problem, title, count)
    _print(found, as_json, f"like {found['title']} (#{found['item']}):\n\n{_table(found['similar'])}")


@app.command()
def recommend(
    problem: ProblemArgument,
    user: Annotated[int, typer.Option(help="The number of a user in the data.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=50, help="Show so many.")] = 10,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what the champion recommends to a user first. With the rating that it predicts.

    Example:  modelkeep recommend books --user 314
    """
    from flows.recommend import find_suggestions

    found = find_suggestions(_store_uri(store), problem, user, count)
    _print(found, as_json, f"for user {user}:\n\n{_table(found['suggestions'])}")


# --- models --------------------------------------------------------------------------------------------------------


@app.command()
def models(
    problem: Annotated[str, typer.Argument(help="A problem; all of them if left out.")] = "",
    audit: Annotated[bool, typer.Option("--audit", help="Show who changed what, when and why, instead.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the versions of a problem's model, and which is champion.

    Examples:

      modelkeep models

      modelkeep models housing --audit
    """
    from dataclasses import asdict

    from problems.outline.catalogue import problem_path
    from store import open_store
    from store.registry import Registry

    registry = Registry(open_store(_store_uri(store)))
    if problem:
        problem_path(problem)
    names = [problem] if problem else registry.problems()
    if audit:
        rows = [{"problem": name, **asdict(entry)} for name in names for entry in registry.audit(name)]
        shown = ("when", "actor", "problem", "action", "version", "previous", "reason")
        lines = [{name: "" if row[name] is None else row[name] for name in shown} for row in rows]
        _print(rows, as_json, _table(lines) or "nothing yet")
        return
    rows = []
    for name in names:
        champion = registry.champion(name)
        for version in registry.versions(name):
            is_champion = champion is not None and champion.number == version.number
            rows.append({"problem": name, **asdict(version), "champion": is_champion})
    _print(rows, as_json, _table([_version_row(row) for row in rows]) or "no version has been registered yet")


def _version_row(row: dict[str, Any]) -> dict[str, Any]:
    main = _main_metric(row["problem"])
    ordered = sorted(row["metrics"].items(), key=lambda item: item[0] != main)
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in ordered[:3] if value is not None)
    return {
        "problem": row["problem"],
        "version": row["number"],
        "": "champion" if row["champion"] else "",
        "created": row["created"],
        "metrics": metrics,
        "run": row["run"],
    }


def _main_metric(problem: str) -> str:
    """Empty for a problem that is in the store only."""
    from problems.outline.catalogue import load_problem, problem_names

    return load_problem(problem).objective.main_metric if problem in problem_names() else ""


@app.command()
def promote(
    problem: ProblemArgument,
    version: Annotated[int, typer.Argument(min=1, help="The version that is to be champion.")],
    reason: ReasonOption = "promoted by hand",
    store: StoreOption = "",
) -> None:
    """Make a version the champion.

    Example:  modelkeep promote housing 2 --reason "agreed with the customer"
    """
    from problems.outline.catalogue import problem_path
    from store import open_store
    from store.registry import Registry
    from tasks.register import actor_name

    registry = Registry(open_store(_store_uri(store)))
    if problem not in registry.problems():
        problem_path(problem)
    champion = registry.champion(problem)
    if champion and champion.number == version:
        print(f"{problem}: version {version} is champion already; nothing was changed")
        return
    promoted = registry.promote(
        problem,
        version,
        expected=champion.number if champion else None,
        actor=actor_name(),
        reason=reason,
        run="",
    )
    print(f"{problem}: version {promoted.number} is champion, before it was {champion.number if champion else 'none'}")


@app.command()
def rollback(problem: ProblemArgument, reason: ReasonOption = "rolled back by hand", store: StoreOption = "") -> None:
    """Make the champion before this one champion again.

    Example:  modelkeep rollback housing --reason "complaints since Monday"
    """
    from store import open_store
    from store.registry import Registry
    from tasks.register import actor_name

    version = Registry(open_store(_store_uri(store))).rollback(problem, actor=actor_name(), reason=reason)
    print(f"{problem}: version {version.number} is champion again")


@app.command()
def export(
    problem: ProblemArgument,
    number: Annotated[int | None, typer.Option("--version", help="The champion if left out.")] = None,
    form: Annotated[Literal["savedmodel", "onnx"], typer.Option("--format", help="What others can load.")] = (
        "savedmodel"
    ),
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder; its subfolders are problem/version.")] = (
        Path("exports")
    ),
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a version for other servers.

    As a TensorFlow SavedModel, in the folders that TensorFlow Serving polls, or as ONNX. It is loaded back, and handed
    out only if it predicts what the registered model predicts on its test rows.

    Examples:

      modelkeep export housing --output exports

      modelkeep export digits --version 2 --format onnx
    """
    from dataclasses import asdict

    from flows.local_run import import_keras, quiet_libraries
    from problems.outline.catalogue import load_problem
    from store import open_store
    from tasks.champion import find_version

    found, kept = load_problem(problem), open_store(_store_uri(store))
    find_version(kept, problem, number)  # a mistake is told before anything is loaded
    quiet_libraries()
    import_keras()
    from tasks.export import export_version

    place, exported = export_version(found, kept, number, form, output)
    told = (
        f"{problem} version {exported.version} as {form}: {place}\n  its predictions of {exported.num_compared:,} test "
        f"rows differ by {exported.difference:.1e} at most; {exported.size:,} bytes; one row takes "
        f"{exported.milliseconds:.2f} ms, the registered model {exported.keras_milliseconds:.2f}"
    )
    _print({**asdict(exported), "place": str(place)}, as_json, told)


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="A problem (its champion's run, or its last) or a run.")] = "",
    every: Annotated[bool, typer.Option("--all", help="One page over all problems of the store.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the report to this file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    store: StoreOption = "",
) -> None:
    """Say where a report is, copy or open it. Or write one page over all problems.

    Examples:

      modelkeep report housing --open

      modelkeep report housing-20260101T120000-1a2b3c --output report.html

      modelkeep report --all --output models.html
    """
    import shutil
    import webbrowser

    from store import open_store
    from store.artifacts import ArtifactRef

    if every == bool(name):
        raise ModelkeepError(
            "It is not clear of what a report is wanted.",
            expected="the name of a problem or a run, or --all",
            next_step="`modelkeep report housing`, or `modelkeep report --all`",
        )
    kept = open_store(_store_uri(store))
    if every:
        from tasks.index_page import render_index

        path = output or Path("models.html")
        _write(path, render_index(kept))
    else:
        path = kept.local_path(ArtifactRef.from_dict(_manifest(kept, name)["artifacts"]["report.html"]))
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, output)
            path = output
    print(path)
    if browse:
        webbrowser.open(path.absolute().as_uri())


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="A problem (its champion's run, or its last) or a run.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    store: StoreOption = "",
) -> None:
    """Print the model card of a run, in Markdown.

    Example:  modelkeep card housing --output MODEL_CARD.md
    """
    from problems.outline.catalogue import read_card
    from store import open_store
    from store.artifacts import ArtifactRef
    from tasks.model_card import write_model_card

    kept = open_store(_store_uri(store))
    manifest = _manifest(kept, name)
    judged = json.loads(kept.read_bytes(ArtifactRef.from_dict(manifest["artifacts"]["evaluate/evaluation.json"])))
    text = write_model_card(read_card(manifest["problem"]), manifest, judged)
    if output:
        _write(output, text)
    print(output or text)


def _manifest(store: Any, name: str) -> dict[str, Any]:
    """Of the run of that name, or of the problem's champion or last run. Raises UnknownRun."""
    from problems.outline.catalogue import problem_names
    from tasks.runs import latest_run, read_manifest

    return read_manifest(store, latest_run(store, name) if name in problem_names() else name)


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="A problem, or a .csv or .parquet file with one row per example.")],
    data: Annotated[str, typer.Option(help="Your own file, path or address, in place of the problem's source.")] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    store: StoreOption = "",
) -> None:
    """Draft expectations from data. As Python to paste into the problem's file and to correct.

    Examples:

      modelkeep profile housing

      modelkeep profile new-data.csv --output draft.py
    """
    from flows.profiling import draft_profile

    source = draft_profile(name, _absolute(data), _store_uri(store))
    if output:
        _write(output, source)
        print(output)
    else:
        print(source)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The name of your problem: small letters, digits and _.")],
    like: Annotated[
        str, typer.Option(help="The problem to begin from; take the nearest one.", autocompletion=_complete_problem)
    ] = "housing",
) -> None:
    """Begin a problem of your own, as a copy of another. Its file and its test, which train and pass at once.

    Example:  modelkeep new rents --like housing
    """
    from flows.new_problem import copy_problem

    print(*copy_problem(name, like), sep="\n")
    print(f"next: edit the first file; `modelkeep train {name}` trains it as it is.")
    print("      In a checkout, `modelkeep problems --into README.md` adds it to the table there.")


# --- upkeep --------------------------------------------------------------------------------------------------------


@app.command()
def gc(
    keep_runs: Annotated[int, typer.Option(min=0, help="Keep so many of the newest runs of each problem.")] = 5,
    keep_days: Annotated[float, typer.Option(min=0, help="Keep steps' products that are younger.")] = 30,
    remove: Annotated[bool, typer.Option("--remove", help="Do it; without this only what would go is shown.")] = False,
    store: StoreOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show, or remove, what is no longer needed. Never a champion, the one before it, or what they refer to.

    Examples:

      modelkeep gc

      modelkeep gc --keep-runs 3 --remove
    """
    from flows.upkeep import collect_garbage

    told, text = collect_garbage(_store_uri(store), keep_runs, keep_days, remove)
    _print(told, as_json, text)


@app.command()
def doctor(store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Check this machine, the store and Prefect. Exit 2 if something is missing or unsafe.

    Example:  modelkeep doctor
    """
    from dataclasses import asdict

    from flows.upkeep import examine

    findings = examine(_store_uri(store))
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8}{finding.name}: {finding.text}")
        if finding.next_step and finding.level != "ok":
            lines.append(f"        next: {finding.next_step}")
    _print([asdict(finding) for finding in findings], as_json, "\n".join(lines))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(2)


@server_app.command("start")
def start_server() -> None:
    """Start the local Prefect server if none runs, and print its address.

    Example:  modelkeep server start
    """
    from flows.server import ensure_server

    print(ensure_server(on_progress=lambda text: print(text, file=sys.stderr)).ui_url)


@server_app.command("stop")
def stop_server() -> None:
    """Stop the local Prefect server.

    Example:  modelkeep server stop
    """
    from flows.server import stop_server as stop

    print("stopped" if stop() else "no local Prefect server is running")


@server_app.command("status")
def show_server(as_json: JsonOption = False) -> None:
    """Say whether the local Prefect server runs, and where.

    Example:  modelkeep server status
    """
    from dataclasses import asdict

    from flows.server import find_server

    server = find_server()
    text = f"{server.ui_url}  (process {server.pid}, since {server.started})" if server else "not running"
    _print(asdict(server) if server else None, as_json, text)


if __name__ == "__main__":
    sys.exit(main())
