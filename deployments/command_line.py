"""The command `modelkeep`: what flows/command_line.py has, and `up` and `down`, which know of deployments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line import JsonOption, app, main

__all__ = ["app", "main"]


@app.command()
def up(
    folder: Annotated[
        Path, typer.Option(help="Where the workers run: relative paths, such as the default store, start there.")
    ] = Path(),
    at_once: Annotated[
        int | None, typer.Option(min=1, help="How many runs of the pool cpu there are at once; at first cores / 4.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Change nothing, and say what is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep all problems alive. A Prefect server, schedules, automations and workers on this machine.

    With PREFECT_API_URL the server there is used. A second `up` starts what has ended, and leaves the rest as it is.
    A problem whose file cannot be imported is named at the end, with exit code 2, and what is deployed of it stays.

    Examples:

      modelkeep up

      modelkeep up --status
    """
    import json

    from deployments.deploy import declare, describe_broken
    from deployments.up import as_text, bring_up, describe
    from problems.outline.catalogue import problem_names, sort_out

    sound, faults = ([], {}) if status else sort_out(problem_names())
    if not status:
        folder = folder.expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bring_up(declare(sound), folder, at_once, lambda line: print(line, file=sys.stderr), spared=faults)
    told = {**describe(), "broken": faults}
    print(json.dumps(told, indent=1, ensure_ascii=False) if as_json else as_text(told))
    if faults and as_json:
        raise typer.Exit(2)
    if faults:
        raise describe_broken(faults)


@app.command()
def down() -> None:
    """Stop what `up` has started. Runs go on at the next `up`.

    Example:  modelkeep down
    """
    from deployments.up import take_down

    take_down(print)


if __name__ == "__main__":
    sys.exit(main())
