"""The command line: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from flows.command_line import main, parse_settings
from flows.server import ServerAddress
from store import open_store
from store.artifacts import ArtifactRef
from store.registry import Registry

ROOT = Path(__file__).resolve().parents[2]

Printed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Printed:
    """Runs a command with a store of the test's own; exit code, standard output, standard error."""

    def run_command(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--store", str(tmp_path / "store")])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run_command


def test_an_unknown_problem_is_met_with_the_nearest_name_and_exit_code_2(run: Printed) -> None:
    code, _, errors = run("train", "huosing")
    assert code == 2
    assert "There is no problem 'huosing'" in errors and "did you mean 'housing'?" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_a_setting_that_cannot_be_read_says_how_to_write_it(run: Printed, text: str) -> None:
    code, _, errors = run("train", "housing", "--set", text)
    assert code == 2 and "--set NAME=VALUE" in errors


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "epoch=3"], "there is no hyperparameter 'epoch'"),
        (["--set", "epochs=many"], "hyperparameter 'epochs': input should be a valid integer"),
        (["--set", "epochs=0"], "should be greater than 0"),
        (["--variant", "forest"], "has no variant 'forest'"),
    ],
)
def test_a_hyperparameter_that_does_not_fit_is_named_before_anything_is_started(
    run: Printed, options: list[str], told: str
) -> None:
    code, _, errors = run("train", "housing", *options)
    assert code == 2 and told in errors and "Prefect" not in errors


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1"])
def test_a_learning_rate_that_is_no_positive_number_is_refused(run: Printed, value: str) -> None:
    code, _, errors = run("train", "housing", "--set", f"learning_rate={value}")
    assert code == 2 and "learning_rate" in errors and "Traceback" not in errors


def test_an_address_with_a_password_is_refused_and_not_repeated(run: Printed) -> None:
    code, _, errors = run("train", "housing", "--data", "https://ada:hidden@example.org/prices.csv")
    assert code == 2 and "~/.netrc" in errors and "hidden" not in errors


def test_a_setting_of_the_surroundings_that_cannot_be_read_is_named(
    run: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELKEEP_CHECKPOINT_SECONDS", "soon")
    code, _, errors = run("train", "housing")
    assert code == 2 and "MODELKEEP_CHECKPOINT_SECONDS" in errors and "Traceback" not in errors


def test_a_file_that_cannot_be_written_is_named_without_a_traceback(run: Printed, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("rooms,price\n" + "\n".join(f"{i % 7 + 1},{i}.5" for i in range(40)))
    table, draft = tmp_path / "own.csv", tmp_path / "new folder" / "draft.py"
    code, _, errors = run("profile", str(table), "--output", str(table / "draft.py"))
    assert code == 2 and f"where    {table}" in errors and "next     check the path" in errors
    assert "Traceback" not in errors
    assert run("profile", str(table), "--output", str(draft))[0] == 0 and draft.is_file()


def test_who_interrupts_a_command_is_told_that_nothing_is_lost(run: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.upkeep.collect_garbage", interrupt)
    code, _, errors = run("gc")
    assert code == 130 and "the same command goes on" in errors


def test_an_unknown_option_ends_with_exit_code_2(run: Printed) -> None:
    code, _, errors = run("train", "housing", "--nonsense")
    assert code == 2 and "--nonsense" in errors


def test_settings_are_json_where_they_can_be() -> None:
    assert parse_settings(["epochs=10", "rate=1e-3", "network=mlp", "flag=true"]) == {
        "epochs": 10,
        "rate": 0.001,
        "network": "mlp",
        "flag": True,
    }


def test_with_json_a_mistake_is_told_to_scripts_too(run: Printed) -> None:
    told = json.loads(run("predict", "housing", "--input", "no.csv", "--json")[1])["error"]
    assert "no champion" in told["what"] and "modelkeep train housing" in told["next"]


def test_a_store_without_models_says_so(run: Printed) -> None:
    assert run("models")[:2] == (0, "no version has been registered yet\n")
    assert run("report", "housing")[0] == 2
    assert "has not been trained yet" in run("report", "housing")[2]
    assert "has no version 7" in run("promote", "housing", "7")[2]
    assert "did you mean 'housing'" in run("promote", "hosing", "7")[2]
    assert run("rollback", "housing")[0] == 2


def test_the_main_metric_stands_first_and_a_champion_is_not_promoted_again(run: Printed, tmp_path: Path) -> None:
    registry = Registry(open_store(str(tmp_path / "store")))
    manifest = ArtifactRef(uri="runs/churn/c1/manifest.json", sha256="0" * 64, size=2, kind="json")
    metrics = {"accuracy": 0.79, "brier": 0.14, "f1": 0.53, "roc_auc": 0.835}
    registry.register("churn", run="c1", manifest=manifest, metrics=metrics, actor="ann", reason="trained")
    assert run("promote", "churn", "1")[1] == "churn: version 1 is champion, before it was none\n"
    assert "already" in run("promote", "churn", "1")[1]
    assert "roc_auc 0.835, accuracy 0.79, brier 0.14 " in run("models")[1]
    audit = run("models", "churn", "--audit")[1]
    assert len(audit.splitlines()) == 3 and "None" not in audit


def test_a_store_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code = main(["doctor", "--store", str(tmp_path / "file" / "store")])
    assert code == 2 and "error" in capsys.readouterr().out


def test_the_list_of_problems_is_readable_and_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems"]) == 0
    assert "what is the median home value" in capsys.readouterr().out
    assert main(["problems", "--json"]) == 0
    assert "caution" in json.loads(capsys.readouterr().out)["housing"]


def test_a_file_of_ones_own_can_be_profiled(run: Printed, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("rooms,price\n" + "\n".join(f"{i % 7 + 1},{i}.5" for i in range(40)))
    code, source, _ = run("profile", str(table))
    assert code == 0 and 'column="rooms"' in source
    compile(source, "draft", "exec")
    assert run("profile", "neither")[0] == 2


def test_what_may_go_is_only_shown_until_removal_is_asked_for(run: Printed) -> None:
    assert run("gc")[1] == "there is nothing to remove\n"


@pytest.mark.server
def test_train_models_rollback_and_report_from_a_terminal(
    prefect_server: ServerAddress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A user's session: train, train again, train another, roll back, look at the report. The first training is a
    process of its own, which another can reproduce."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELKEEP_STORE", str(tmp_path / "store"))

    def modelkeep(*arguments: str, code: int = 0) -> tuple[str, str]:
        assert main([*arguments]) == code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return shown

    command = [sys.executable, "-m", "flows.command_line", "train", "housing", "--set", "epochs=15"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert first.returncode == 0 and "Traceback" not in first.stderr, first.stderr
    assert "housing version 1: champion" in first.stdout and "fold 4" in first.stderr
    again = json.loads(modelkeep("train", "housing", "--set", "epochs=15", "--json")[0])
    assert again["version"] == 1 and again["champion"]
    assert "nothing was computed" in modelkeep("train", "housing", "--set", "epochs=15")[0]

    (tmp_path / "homes.csv").write_text(
        "CRIM,ZN,INDUS,CHAS,NOX,RM,AGE,DIS,RAD,TAX,PTRATIO,LSTAT\n0.1,0,2.3,0,0.5,6.5,60,4,1,296,15.3,5\n"
    )
    scored = json.loads(modelkeep("predict", "housing", "--input", "homes.csv", "--json")[0])
    (home,) = pd.read_parquet(scored["scores"]).to_dict("records")
    assert home["lower"] < home["prediction"] < home["upper"]

    refused = modelkeep("train", "housing", "--set", "epochs=1", code=1)[1]
    assert "not accepted" in refused and "wanted below 3.5" in refused
    assert "nothing has changed" in modelkeep("train", "housing", "--set", "epochs=1", code=1)[1]

    modelkeep("train", "housing", "--set", "epochs=17")
    if "champion" not in modelkeep("models", "housing")[0].splitlines()[2]:
        modelkeep("promote", "housing", "2", "--reason", "to try it")
    assert "version 1 is champion again" in modelkeep("rollback", "housing", "--reason", "tried")[0]
    assert "tried" in modelkeep("models", "housing", "--audit")[0]

    path = Path(modelkeep("report", "housing", "--output", "copy.html")[0].strip())
    assert "<h1" in (tmp_path / path).read_text()
    assert "the same data, weights and metrics" in modelkeep("reproduce", again["run"])[0]


def test_a_report_is_of_one_thing_or_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    assert main(["report", "housing", "--all"]) == 2
    assert "--all" in capsys.readouterr().err
    page = tmp_path / "models.html"
    assert main(["report", "--all", "--store", str(tmp_path / "store"), "--output", str(page)]) == 0
    assert "Without a version in this store" in page.read_text()


def test_a_model_card_of_a_problem_that_was_not_trained_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["card", "housing", "--store", str(tmp_path / "store")]) == 2
    assert "has not been trained yet" in capsys.readouterr().err
