"""MetaSER (Chopra, Mathur, Sawhney, Shah; ICASSP 2021): its Table 2 and Figure 2, the corpora, and what the paper left out.

python experiments/metaser/run.py --variant table2
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from metaser.cli import script
from metaser.config import Experiment
from metaser.corpora import CORPORA
from metaser.reporting import tables
from metaser.reporting.drawing import Drawing, Protocol
from metaser.reporting.finished import Finished
from metaser.reporting.trends import crossing, curve

NAMES = {
    "metaser": "MetaSER", "transser": "TransSER", "multiser": "MultiSER", "joint": "joint, all layers tuned",
    "target-only": "LSTM, target only", "lstm-best": "LSTM, target only, as the search ranks it", "svm": "SVM, target only",
    "svm-speaker": "SVM, target only, z-scores per speaker", "svm-sources": "SVM, sources + target",
    "best": "best (adapted Gaussian)", "best-inductive": "adapted Gaussian, inductive", "speakers": "speaker's commonest emotion",
}  # fmt: skip

#: What MetaSER is said, or would have to be, better than.
CLAIMED = [("metaser", other) for other in ("transser", "multiser", "joint", "target-only", "svm", "svm-sources")]

SHOWN = {"macro_f1": "macro-F1", "weighted_f1": "weighted F1", "uar": "UAR"}
EMOTIONS = ("happiness", "sadness", "anger", "neutral")


def render(finished: Finished, _: pd.DataFrame) -> None:
    """``paired.csv``; Figure 2 and ``crossings.csv`` where measured; confusion matrices; ``table.md``: claims, corpora."""
    drawing = Drawing(finished, caption(finished), finished.names(NAMES))
    drawing.csv("paired", drawing.tests)
    curves = finished.metrics[finished.metrics["split"] == "fraction"]
    crossings = overtaken(curves, drawing.names)
    if len(curves):
        drawing.csv("crossings", crossings)
    axes = ("target's training part that is used, %", "macro-F1")
    drawing.curves("fractions", "fraction", "macro_f1", axes, marks(crossings, drawing.names))
    drawing.confusions("confusion", only=("metaser", "best"))
    parts = [
        "Mean ± half width of the 95 % interval (Student's t over seeds, over all divisions where that is wider). The paper's "
        "own numbers could not be read anywhere (its table is an image), so none stand here; it says that MetaSER beats both "
        "TransSER and MultiSER on every target, but for Urdu with one set of sources."
    ]  # fmt: skip
    for protocol in drawing.protocols:
        found = [protocol.claims(CLAIMED, f"{sources(source)}; points", {"macro_f1": "macro-F1"}, source)
                 for source in dict.fromkeys(protocol.summary["source"])]  # fmt: skip
        parts += [protocol.heading, about(protocol.settings),
                  *(scores(protocol, metric, title) for metric, title in SHOWN.items()),
                  *found, drawing.note if any(found) else ""]  # fmt: skip
    drawing.table(*parts, fractions(crossings, finished, drawing.names), missing(finished), corpora(finished))


def caption(finished: Finished) -> str:
    """What the numbers are of."""
    return f"MetaSER and its baselines, {len(finished.first.data.emotions)} emotions, {finished.what}"


def about(settings: Experiment) -> str:
    """How a protocol divides the target, and how the networks are trained."""
    test, disjoint = settings.evaluation, settings.tasks.speakers == "disjoint"
    assert test.split is not None, "the configuration has it"
    how = ("speakers: nobody is both adapted to and tested on, and no recording either" if disjoint else
           "clips at random, each class alike, as published: the same people speak on both sides")  # fmt: skip
    trap = (" In URDU almost every speaker has one emotion only (26 of 29), so that a random division measures who speaks, and a "
            "division of the speakers leaves some classes with one to three of them.")  # fmt: skip
    share = 100 * test.split.test
    return (f"{len(settings.seeds)} seed(s) × {test.tasks} divisions of each target, {100 - share:.0f} % to adapt on, "
            f"{share:.0f} % asked, by {how}. Normalisation {settings.features.normalise} where a method does not "
            f"say otherwise.{trap if 'urdu' in settings.data.targets else ''}")  # fmt: skip


def scores(protocol: Protocol, metric: str, title: str) -> str:
    """One metric of one protocol: a block per set of sources, methods as rows, targets as columns."""
    settings, finished, names = protocol.settings, protocol.drawing.finished, protocol.drawing.names
    here = protocol.summary[protocol.summary["metric"] == metric]
    columns = (here[column] for column in ("source", "algorithm", "target", "mean", "ci95"))
    cells = {tuple(key): tables.percent(mean, ci95) for *key, mean, ci95 in zip(*columns, strict=True)}
    targets = settings.data.targets or tuple(finished.targets)
    lines = []
    for chosen in settings.data.sets:
        absent = [name for name in chosen if name not in finished.titles]
        lines.append([f"**{sources('+'.join(chosen))}**", *(f"needs {', '.join(map(str.upper, absent))}" if absent else ""
                                                           for _ in targets)])  # fmt: skip
        lines += [[name, *(cells.get(("+".join(chosen), label, target), "–") for target in targets)]
                  for label, name in names.items() if not absent]  # fmt: skip
    if not settings.data.sets:  # each target's sources are all others
        means = here.groupby("algorithm")["mean"].mean().sort_values(ascending=False)
        others = dict(zip(here["target"], here["source"], strict=True))
        lines = [[names[str(label)], *(cells.get((others[target], label, target), "–") for target in targets), f"{100 * mean:.1f}"]
                 for label, mean in means.items()]  # fmt: skip
    shown = [finished.titles.get(target, f"{target.upper()} (not here)") for target in targets]
    return tables.markdown([f"{title}, %", *shown, *([] if settings.data.sets else ["mean"])], lines)


def sources(joined: str) -> str:
    """Sources as a table names them."""
    return " + ".join(name.upper() for name in joined.split("+"))


def overtaken(curves: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Where MetaSER's macro-F1 overtakes each other method's for good as the target's training part grows; NaN where nowhere."""
    rows = []
    for (protocol, source, target), here in curves.groupby(["protocol", "source", "target"], sort=False):
        lines = {label: curve(part, "macro_f1") for label, part in here.groupby("algorithm")}
        for other in (label for label in names if label in lines and label != "metaser" and "metaser" in lines):
            gap = lines["metaser"] - lines[other]
            at = crossing(lines["metaser"], lines[other])
            rows.append([protocol, source, target, other, at, gap.iloc[0], gap.iloc[-1]])
    return pd.DataFrame(rows, columns=["protocol", "source", "target", "against", "fraction", "first", "last"])


def marks(crossings: pd.DataFrame, names: Mapping[str, str]) -> dict[tuple[str, str], dict[str, float]]:
    """(protocol, target) → what MetaSER passes → at which share."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in crossings.dropna(subset="fraction").to_dict("records"):
        found.setdefault((row["protocol"], row["target"]), {})[f"past {names[row['against']]}"] = row["fraction"]
    return found


def fractions(crossings: pd.DataFrame, finished: Finished, names: Mapping[str, str]) -> str:
    """The crossings as a table; nothing where no curve was drawn."""
    if crossings.empty:
        return ""
    lines = [[f"{row['protocol']}, {finished.targets[row['target']]}: {names[row['against']]}",
              f"{row['fraction']:.0f} %" if row["fraction"] == row["fraction"] else
              "ahead throughout" if row["last"] > 0 else "nowhere",
              f"{100 * row['first']:+.1f}", f"{100 * row['last']:+.1f}"] for row in crossings.to_dict("records")]  # fmt: skip
    header = ["MetaSER against", "overtakes for good at", "with the least, points", "with all, points"]
    return "\n\n".join(["## F1 against the share of the target's training part", tables.markdown(header, lines)])


def missing(finished: Finished) -> str:
    """Which corpora the configuration names that were not there, and how to get them."""
    wanted = dict.fromkeys(name for chosen in finished.first.data.source_sets for name in chosen)
    absent = [
        name for name in (*wanted, *finished.first.data.targets) if name not in finished.titles and name in CORPORA
    ]
    return "\n".join(["## Not here", "", *(f"* {name.upper()}: {CORPORA[name].access}" for name in dict.fromkeys(absent))]
                     if absent else [])  # fmt: skip


def corpora(finished: Finished) -> str:
    """Clips per emotion in the files themselves, beside what others count."""
    file = pd.read_csv(Path(__file__).with_name("corpora.csv"), index_col="corpus")
    known = {
        str(name): [int(count) for count in row]
        for name, row in zip(file.index, file[list(EMOTIONS)].to_numpy(), strict=True)
    }
    lines = []
    for domain, counts in finished.facts.data.emotions.items():
        here = [counts.get(name, 0) for name in EMOTIONS]
        cells, full = list(map(str, [*here, sum(here)])), known.get(domain)
        if full:
            cells = [f"{cell} / {count}" for cell, count in zip(cells, [*full, sum(full)], strict=True)]
        lines.append([finished.titles.get(domain, domain), *cells])
    return "\n\n".join(["## The corpora: clips here / in the full release",
                        tables.markdown(["", *EMOTIONS, "all"], lines)]) if lines else ""  # fmt: skip


if __name__ == "__main__":
    script(__file__)
