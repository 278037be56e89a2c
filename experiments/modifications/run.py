"""FOMAML, Reptile and Reg-MAML on low-resource speech emotion (Chandra): table 1, figures 1 to 3, the report's claims.

python experiments/modifications/run.py --variant table1
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from metaser.algorithms.inner import InnerSettings
from metaser.algorithms.regmaml import RegMAMLSettings
from metaser.cli import script
from metaser.config import Experiment
from metaser.reporting import tables, trends
from metaser.reporting.drawing import Drawing
from metaser.reporting.finished import METHODS, Finished, read_results

NAMES = {"regmaml": "Reg-MAML (λ = α)"}

#: What the labels of Reg-MAML with one λ after another begin with.
SWEPT = "lambda-"

SHOWN = {"macro_f1": "macro-F1", "weighted_f1": "weighted F1", "uar": "UAR", "accuracy": "accuracy"}


def render(finished: Finished, paper: pd.DataFrame) -> None:
    """``optima.csv``, accuracy and loss over the epochs, ``table.md``; of the search for learning rates its ranking alone."""
    if not finished.first.data.sources:
        ranking(finished)
        return
    drawing = Drawing(finished, caption(finished), labels(finished))
    found = trends.optima(finished.metrics, list(finished.targets))
    drawing.csv("optima", found)
    drawing.trends("accuracy", "accuracy", "query accuracy")
    drawing.trends("loss", "loss", "query loss (nats)", optima=found)
    timing, names = read_results(finished.folder / "timing.csv"), drawing.names
    parts = [
        f"Every seed trains a model of its own and is tested on {finished.first.evaluation.tasks} tasks per target; "
        f"{finished.first.tasks.ways}-way {finished.first.tasks.shots}-shot. Mean ± half width of the 95 % interval over seeds. "
        "One meta-iteration is one epoch of the report's times."
    ]  # fmt: skip
    for protocol in drawing.protocols:
        optimum, pace = protocol.rows(found), protocol.rows(timing)
        parts += [protocol.heading, about(protocol.settings, names), tables.ours(protocol.summary, SHOWN, finished.targets, names),
                  "Time and optima (means over seeds and targets):", optima(optimum, pace, names),
                  claims(optimum, pace, names)]  # fmt: skip
    drawing.table(*parts, "## The report's numbers (corpora and kind of F1 not given)", published(paper))


def labels(finished: Finished) -> dict[str, str]:
    """Algorithm → its name; Reg-MAML's by λ where there are several, from the smallest on."""
    ratios = {
        label: method.lambda_ratio
        for label, method in finished.first.algorithms.items()
        if isinstance(method, RegMAMLSettings) and method.lambda_ratio is not None
    }
    names = finished.names({**{label: f"λ/α = {ratio:g}" for label, ratio in ratios.items()}, **NAMES})
    return dict(
        sorted(names.items(), key=lambda entry: ratios.get(entry[0], 0.0) if entry[0].startswith(SWEPT) else 0.0)
    )


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    sources = ", ".join(source.upper() for source in finished.first.data.sources)
    return f"Meta-trained on {sources}; {finished.what}"


def about(settings: Experiment, names: Mapping[str, str]) -> str:
    """How a protocol trains and tests."""
    return (
        f"{len(settings.seeds)} seeds; {settings.training.iterations} meta-iterations of {settings.training.meta_batch} tasks; "
        f"inner, outer learning rate: {rates(settings, names)}; "
        f"speakers {settings.tasks.speakers}, normalisation {settings.features.normalise}. "
        "Reptile has no query set in training: its training curve is of its support sets after adaptation."
    )


def rates(settings: Experiment, names: Mapping[str, str]) -> str:
    """Every algorithm's learning rates."""
    return ", ".join(f"{name} {', '.join(inner_and_outer(settings, label))}" for label, name in names.items())


def inner_and_outer(settings: Experiment, label: str) -> tuple[str, str]:
    """An algorithm's learning rates; a dash where it has no inner loop."""
    own = settings.algorithms[label]
    return f"{own.inner_lr:g}" if isinstance(
        own, InnerSettings
    ) else "–", f"{own.outer_lr or settings.training.outer_lr:g}"


def optima(found: pd.DataFrame, timing: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Per algorithm: seconds per 100 epochs and where the curves are best."""
    columns = (timing[column] for column in ("metric", "algorithm", "mean", "ci95"))
    times = {(metric, label): f"{mean:.2f} ± {width:.2f}" for metric, label, mean, width in zip(*columns, strict=True)}
    header = ["", "s per 100 epochs", "ratio to the first", "training optimum, epoch", "test optimum, epoch",
              "best macro-F1 (test curve)", "lost by choosing on the training curve", "diverged"]  # fmt: skip
    rows = []
    for label, name in names.items():
        here = found[found["algorithm"] == label]
        ended = here.drop_duplicates("seed")["diverged_at"]
        pace = [times.get((metric, label), "") for metric in ("seconds_per_100_epochs", "time_ratio")]
        rows.append([name, *pace, f"{here['train_optimum'].mean():.0f}",
                     f"{here['test_optimum'].mean():.0f}", f"{100 * here['best'].mean():.1f}",
                     f"{100 * here['gap'].mean():.1f}", f"{int(ended.notna().sum())} of {len(ended)}"])  # fmt: skip
    return tables.markdown(header, rows)


def claims(found: pd.DataFrame, timing: pd.DataFrame, names: Mapping[str, str]) -> str:
    """The report's claims as paired differences over seeds."""
    seconds = timing[timing["metric"] == "seconds_per_100_epochs"].set_index("algorithm")["mean"] / 100
    found = found.assign(seconds=found["test_optimum"] * found["algorithm"].map(seconds))
    tested = [("Reptile reaches the highest accuracy, at the end", "reptile", "last", 1, 100, "macro-F1 points"),
              ("the same, at the best point of its test curve", "reptile", "best", 1, 100, "macro-F1 points"),
              ("but needs more epochs", "reptile", "test_optimum", 1, 1, "epochs"),
              ("FOMAML takes the least time to its optimum", "fomaml", "seconds", -1, 1, "s"),
              ("in Reg-MAML the optima lie closest together", "regmaml", "distance", -1, 1, "epochs"),
              ("so that its training curve can choose the model", "regmaml", "gap", -1, 100, "macro-F1 points")]  # fmt: skip
    rows = []
    for claim, one, column, sign, unit, what in tested:
        for other in names if one in names else ():
            if other != one:
                seen = trends.contrast(found, column, one, other)
                rows.append([claim, f"{names[one]} − {names[other]}", f"{unit * seen.mean:.2f} ± {unit * seen.ci95:.2f} {what}",
                             f"{seen.p:.2g}", f"{unit * seen.detectable:.2f}", seen.verdict(sign)])  # fmt: skip
    ratios = [label for label in names if label.startswith(SWEPT)]
    for column, claim, unit, what in (("distance", "optima closer as λ grows", 1, "epochs"),
                                      ("gap", "less lost by choosing on the training curve", 100, "macro-F1 points")):  # fmt: skip
        compared = [(f"{names[large]} less {names[small]}", trends.contrast(found, column, large, small))
                    for small, large in pairwise(ratios)]  # fmt: skip
        if len(ratios) > 1:
            compared.append(("per step of λ, over all", trends.slope(found, column, ratios)))
        rows += [[claim, between, f"{unit * seen.mean:.2f} ± {unit * seen.ci95:.2f} {what}", f"{seen.p:.2g}",
                  f"{unit * seen.detectable:.2f}", seen.verdict(-1)] for between, seen in compared]  # fmt: skip
    if not rows:
        return ""
    header = ["claim", "paired difference", "mean and 95 % interval", "p", f"detectable with {trends.POWER:.0%} power",
              "holds"]  # fmt: skip
    return tables.markdown(header, rows)


def ranking(finished: Finished) -> None:
    """``table.md`` of the search for learning rates: every setting, the best of each algorithm first."""
    settings, rows = finished.first, []
    here = finished.summary[finished.summary["metric"] == "macro_f1"]
    scores = dict(zip(zip(here["algorithm"], here["target"], strict=True), here["mean"].tolist(), strict=True))
    for label, algorithm in settings.algorithms.items():
        values = [scores.get((label, target), float("nan")) for target in finished.targets]
        rows.append((algorithm.name, float(np.mean(values)), label, values))
    rows.sort(key=lambda row: (row[0], -row[1] if row[1] == row[1] else np.inf))
    header = ["algorithm", "inner learning rate", "outer", "mean macro-F1, %", *finished.targets.values()]
    lines = [[name, *inner_and_outer(settings, label),
              *(f"{100 * value:.1f}" if value == value else "diverged" for value in (mean, *values))]
             for name, mean, label, values in rows]  # fmt: skip
    Drawing(finished, f"Learning rates, searched on the sources alone; {finished.what}", finished.names()).table(
        f"Each source left out in turn: trained on the others for {settings.training.iterations} meta-iterations, tested on "
        f"{settings.evaluation.tasks} tasks of the one left out, {len(settings.seeds)} seed(s), protocol strict. No target's clip "
        "was read. The best mean of each algorithm is the one for `config.yaml` to use.",
        tables.markdown(header, lines),
    )


def published(paper: pd.DataFrame) -> str:
    """The report's table, its times also as ratios."""
    values = paper.set_index(["algorithm", "metric"])["value"]
    rows = []
    for label in dict.fromkeys(paper["algorithm"]):
        seconds = values[label, "seconds_per_100_epochs"]
        ratio = seconds / values["fomaml", "seconds_per_100_epochs"]
        rows.append(
            [{**METHODS, **NAMES}.get(label, label), f"{values[label, 'f1']:.4f}", f"{seconds:.2f}", f"{ratio:.2f}"]
        )
    return tables.markdown(["", "F1", "s per 100 epochs", "ratio"], rows) if rows else ""


if __name__ == "__main__":
    script(__file__)
