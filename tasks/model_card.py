"""The model card of a run, in Markdown, with the sections of Mitchell et al. 2019 (arXiv 1810.03993)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.report_page import sentence


def write_model_card(card: Mapping[str, str], manifest: Mapping[str, Any], judged: Mapping[str, Any]) -> str:
    """From a problem's card, a run's manifest and its evaluation.json; nothing is in it that is in none of them."""
    evaluation = judged["evaluation"]
    sections = {
        "Model details": _details(manifest),
        "Intended use": [sentence(card["question"])],
        "Factors": _factors(evaluation),
        "Metrics": [f"- **{one['title']}**: {one['explanation']}" for one in evaluation["metrics"].values()],
        "Evaluation data": [
            f"{evaluation['num_test_rows']:,} test rows of the data below, not seen in training. The division of rows "
            "does not depend on the seed."
        ],
        "Training data": _data(card, manifest),
        "Quantitative analyses": [*_metrics(evaluation), "", *_slices(evaluation)],
        "Ethical considerations": [sentence(card.get("caution", "not stated"))],
        "Caveats and recommendations": _caveats(manifest, judged),
    }
    lines = [f"# Model card: {card['title']}", ""]
    for title, text in sections.items():
        lines += [f"## {title}", "", *text, ""]
    return "\n".join(lines)


def _details(manifest: Mapping[str, Any]) -> list[str]:
    settings = ", ".join(f"{name}={value}" for name, value in manifest["hyperparameters"].items())
    return [
        f"- Run `{manifest['run']}` of {manifest['finished']}, seed {manifest['seed']}",
        f"- Hyperparameters: {settings}",
        f"- Trained with {manifest['backend']} on {manifest['device']}; weights `{manifest['weights_digest']}`",
        f"- Code `{manifest['code_digest']}`; `modelkeep reproduce {manifest['run']}` trains it again",
        f"- Decision: {manifest['decision']['reason']}",
    ]


def _factors(evaluation: Mapping[str, Any]) -> list[str]:
    if not evaluation["slices"]:
        return ["The problem names no groups to look at apart."]
    return ["Looked at apart: " + ", ".join(name.replace("_", " ") for name in evaluation["slices"]) + "."]


def _data(card: Mapping[str, str], manifest: Mapping[str, Any]) -> list[str]:
    lines = [sentence(card.get("source", "not stated")), "", f"{manifest['num_examples']:,} examples in all."]
    for source in manifest["sources"]:
        differs = f"; differs from the public original: {source['differs']}" if source["differs"] else ""
        lines.append(f"- `{source['source']}`, SHA-256 `{source['ref']['sha256']}`, {source['licence']}{differs}")
    return lines


def _metrics(evaluation: Mapping[str, Any]) -> list[str]:
    lines = ["| metric | value | 95 % interval | baseline |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one['title']} | {one['value_text']} | {one['interval_text']} | {one['baseline_text']} |"
        for one in evaluation["metrics"].values()
    ]
    told = f"Common-sense baseline: {evaluation['baseline_name']}. Intervals: {evaluation['interval']['method']}."
    return [*lines, "", told]


def _slices(evaluation: Mapping[str, Any]) -> list[str]:
    main = evaluation["metrics"][evaluation["main_metric"]]["title"]
    lines = [f"| group | rows | {main} | 95 % interval |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {column.replace('_', ' ')}: {label} | {one['n']:,}{' (few)' if one['small'] else ''} | {one['value_text']} "
        f"| {one['interval_text']} |"
        for column, groups in evaluation["slices"].items()
        for label, one in groups.items()
    ]
    return lines if evaluation["slices"] else []


def _caveats(manifest: Mapping[str, Any], judged: Mapping[str, Any]) -> list[str]:
    lines = [f"- {one['reason']}: {'met' if one['passed'] else 'not met'}" for one in judged["acceptance"]]
    if any(source["differs"] for source in manifest["sources"]) or manifest["sample"]:
        lines.append("- It was not trained on the whole public original; see the training data.")
    return lines
