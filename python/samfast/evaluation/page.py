"""The report as one page: what the template is given, and the sentences that say what the figures mean."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from samfast.errors import RuntimeUnavailableError
from samfast.evaluation.baselines import ALL_CLASSES, EXPLANATIONS
from samfast.evaluation.classes import is_of_one_class
from samfast.evaluation.report import SELECTIONS, TARGET_KINDS, WITHOUT_PROMPTS, Report, count
from samfast.evaluation.rows import METRIC_TITLES, METRICS, Line, gain_text
from samfast.inference.contract import NO_PROMPT

TEMPLATE = "report.html.j2"
LISTED_PROBLEMS = 200
"""Problems listed by name; the JSON holds all of them."""


def render(report: Report) -> str:
    """The page, as HTML."""
    try:
        import jinja2
    except ImportError as error:
        raise RuntimeUnavailableError(
            "the report page needs jinja2, which is not installed", fix="pip install 'samfast[train]'"
        ) from error
    from samfast.evaluation import figures

    colours = _colours(report, figures.BEFORE, figures.AFTER)
    pairs = [
        (each.base, each.label) for each in report.judged if each.base is not None or not _is_base(report, each.label)
    ]
    runs = [each for each in report.judged if each.metrics]
    curves = [(each.label, figures.curves(each.metrics, f"{number}")) for number, each in enumerate(runs)]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = count
    template = environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        report=report,
        headline=headline(report),
        verdicts=verdicts(report),
        metrics=[(metric, METRIC_TITLES[metric]) for metric in METRICS],
        gain_text=gain_text,
        explanations=EXPLANATIONS,
        without_prompts=WITHOUT_PROMPTS if NO_PROMPT in report.asked.prompts else None,
        target=TARGET_KINDS.get(report.asked.target_kind, report.asked.target_kind),
        selection=SELECTIONS.get(report.asked.selection, report.asked.selection),
        bars=figures.bars(report.summary, colours),
        histograms=figures.histograms(report.rows, pairs, colours) if pairs else None,
        curves=[(label, svg) for label, svg in curves if svg is not None],
        case_lists=_case_lists(report),
        problems=_problems(report),
        configs=[(each.label, _flat(each.config)) for each in runs if each.config],
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def headline(report: Report) -> str:
    """What happened, in a sentence or two; of several runs, the best one's."""
    tuned = [line for line in report.summary if line.gain is not None]
    if not tuned:
        best = [
            f"{line.model} reaches {line.mean['iou']:.3f} by {line.prompt}"
            for line in report.summary
            if line.prompt and not is_of_one_class(line.prompt)
        ]
        return f"Mean IoU on {report.asked.on}: {'; '.join(best)}."
    models = list(dict.fromkeys(line.model for line in tuned))
    winner = max(models, key=lambda model: sum(line.mean["iou"] for line in tuned if line.model == model))
    parts = [(line, line.gain.absolute["iou"]) for line in tuned if line.model == winner and line.gain is not None]
    verbs = {_verb(gain) for _, gain in parts}
    said = [
        (f"{_verb(gain)} " if len(verbs) > 1 else "")
        + f"from {_before(line):.3f} to {line.mean['iou']:.3f} by {line.prompt}{_relative(line)}"
        for line, gain in parts
    ]
    opening = f"Tuning {verbs.pop()} the mean IoU" if len(verbs) == 1 else "Tuning moved the mean IoU:"
    who = f"{winner} is the best of {len(models)} runs. " if len(models) > 1 else ""
    return f"{who}{opening} {_listed(said)}."


def verdicts(report: Report) -> list[tuple[str, str]]:
    """Each model and prompt against the floors: ``("good" | "bad", sentence)``."""
    floors = [line for line in report.summary if line.role == "floor"]
    of_classes = [line for line in floors if line.model == ALL_CLASSES]
    of_objects = [line for line in floors if line.model != ALL_CLASSES]
    has_tuned = any(line.gain is not None for line in report.summary)
    found = []
    for line in report.summary:
        if (
            line.role in ("floor", "ceiling")
            or is_of_one_class(line.prompt)
            or (has_tuned and line.role == "zero-shot")
        ):
            continue
        name = f"{line.model} by {line.prompt}"
        rivals = of_classes if line.prompt == NO_PROMPT else of_objects
        beaten = [_figure(floor) for floor in rivals if line.mean["iou"] > floor.mean["iou"]]
        unbeaten = [_figure(floor) for floor in rivals if line.mean["iou"] <= floor.mean["iou"]]
        if unbeaten:
            found.append(("bad", f"{name} ({line.mean['iou']:.3f}) does not beat {_listed(unbeaten)}"))
        elif beaten:
            found.append(("good", f"{name} ({line.mean['iou']:.3f}) beats {_listed(beaten)}"))
        if line.gain is not None and line.gain.absolute["iou"] < 0:
            found.append(("bad", f"{name} is worse than {line.gain.base}: better not to use the run for this prompt"))
    return found


def _figure(line: Line) -> str:
    return f"{line.model} ({line.mean['iou']:.3f})"


def _verb(gain: float) -> str:
    return "raised" if gain > 0 else "lowered" if gain < 0 else "left"


def _before(line: Line) -> float:
    return line.mean["iou"] - (line.gain.absolute["iou"] if line.gain is not None else 0.0)


def _relative(line: Line) -> str:
    relative = line.gain.relative["iou"] if line.gain is not None else float("nan")
    return "" if math.isnan(relative) else f" ({100 * relative:+.0f} %)"


def _listed(parts: list[str]) -> str:
    """Parts of a sentence, joined as people do.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _is_base(report: Report, label: str) -> bool:
    return any(each.base == label for each in report.judged)


def _colours(report: Report, before: str, after: tuple[str, ...]) -> dict[str, str]:
    others = [each.label for each in report.judged if not _is_base(report, each.label)]
    colours = {each.label: before for each in report.judged}
    return colours | {label: after[number % len(after)] for number, label in enumerate(others)}


def _case_lists(report: Report) -> list[dict[str, Any]]:
    """The cases by model and prompt, an image that is among the worst before and after once; pictures as addresses."""
    lists: dict[tuple[str, str], dict[str, Any]] = {}
    for case in report.cases:
        found = lists.setdefault(
            (case.pair.model, case.prompt), {"pair": case.pair, "prompt": case.prompt, "cases": {}}
        )
        entry = found["cases"].setdefault(
            case.image,
            {
                "case": case,
                "whens": [],
                "truth": _data_address(case.truth),
                "before": None if case.before is None else _data_address(case.before),
                "after": _data_address(case.after),
            },
        )
        if case.pair.base is not None:
            entry["whens"].append(case.when)
    return list(lists.values())


def _data_address(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _problems(report: Report) -> dict[str, Any]:
    excluded = [problem for problem in report.problems if problem.excluded]
    kept = [problem for problem in report.problems if not problem.excluded]
    return {
        "kinds": Counter(problem.kind for problem in report.problems).most_common(),
        "excluded": excluded[:LISTED_PROBLEMS],
        "kept": kept[:LISTED_PROBLEMS],
        "unlisted": max(0, len(excluded) - LISTED_PROBLEMS) + max(0, len(kept) - LISTED_PROBLEMS),
        "number_excluded": len(excluded),
    }


def _flat(settings: Mapping[str, Any] | None, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value) pairs.

    >>> _flat({"lr": 0.1, "data": {"root": "x"}})
    [('lr', '0.1'), ('data.root', 'x')]
    """
    found: list[tuple[str, str]] = []
    for name, value in (settings or {}).items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            found.append((f"{prefix}{name}", text))
    return found
