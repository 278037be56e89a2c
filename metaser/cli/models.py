"""``metaser train``, ``adapt`` and ``predict``: a model for a language of one's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaser.cli.common import AsJson, Root, Settings, Several, stoppable, training
from metaser.runtime.errors import UserError, plain
from metaser.runtime.progress import say

if TYPE_CHECKING:
    from metaser.adaptation import Model
    from metaser.adaptation.estimate import Estimate


#: The experiment whose settings a model is trained by.
ADAPT = Path("experiments/adapt")

OfExperiment = Annotated[str, typer.Option(help="Of the experiment; its first one by default.")]


def train(
    out: Annotated[Path, typer.Argument(help="The model file to write, such as model.safetensors.")],
    experiment: Annotated[Path, typer.Option(help="The experiment whose settings are used.")] = ADAPT,
    variant: OfExperiment = "",
    protocol: OfExperiment = "",
    algorithm: OfExperiment = "",
    corpus: Annotated[
        Several, typer.Option(help="Train on this corpus alone; may be repeated. By default on all that are there.")
    ] = None,
    setting: Settings = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on the speech that is there, to be adapted later; on the built-in synthetic corpus where there is none.

    Example: metaser train model.safetensors --corpus emodb --corpus ravdess
    """
    training()
    from metaser.adaptation.training import train as train_model

    with stoppable("the same command goes on from the last checkpoint"):
        facts = train_model(out, experiment, variant, protocol, algorithm, corpus or [], setting or [], root)
    if as_json:
        trained = facts.trained.model_dump(mode="json")
        print(json.dumps({"file": str(out), "classes": facts.classes, **trained}, indent=1))
        return
    clips = ", ".join(f"{name}: {count} clips" for name, count in facts.trained.clips.items())
    synthetic = " (SYNTHETIC data: it knows nothing of speech)" if facts.trained.kind == "synthetic" else ""
    print(f"written to {out}: {facts.trained.label}, trained on {clips}{synthetic}; knows {', '.join(facts.classes)}")


def adapt(
    model: Annotated[Path, typer.Argument(help="A model file, from `metaser train`.")],
    clips: Annotated[Path, typer.Argument(help="emotion/*.wav, speaker/emotion/*.wav, or a CSV file of your clips.")],
    out: Annotated[Path, typer.Argument(help="The adapted model file to write.")],
    also: Annotated[Several, typer.Option(help="A class that it knows and no clip shows; may be repeated.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Inner steps, of a model that takes any.")] = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a trained model to a few labelled clips, of any classes.

    Example: metaser adapt model.safetensors clips/ mine.safetensors
    """
    from metaser.adaptation import load

    if out.is_dir():
        raise UserError(f"{out}: is a folder; name the file to write, such as {out / 'mine.safetensors'}")
    adapted = load(model).adapt(clips, also or (), steps=steps)
    found = adapted.estimate()
    adapted.save(out)
    if as_json:
        print(json.dumps(summary(adapted, found, out), indent=1))
        return
    facts = adapted.facts
    if facts.trained.kind == "synthetic":
        say("this model was trained on SYNTHETIC data, and knows nothing of speech")
    for name, count in counts(adapted).items():
        print(f"{name:<16}{count:>4} clips{'' if name in facts.classes else '  (new to the model)'}")
    for what, estimate in found.items():
        low, high = estimate.interval
        print(f"{what}, each in turn: {100 * estimate.share:.0f} % of {estimate.clips} right (95 % interval {100 * low:.0f} to "
              f"{100 * high:.0f}; chance {100 / len(facts.answers):.0f}); this holds {estimate.holds}")  # fmt: skip
    if not found:
        say("no class may have a single clip for an estimate of how good it is; keep labelled clips to test it by")
    print(f"written to {out}")


def predict(
    model: Annotated[Path, typer.Argument(help="An adapted model file, from `metaser adapt`.")],
    clips: Annotated[list[str], typer.Argument(help="Audio files, folders of them, or - for paths on standard input.")],
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV; text that spreadsheets would run begins with '.")
    ] = False,
    together: Annotated[
        bool, typer.Option("--together", help="The clips are of one speaker, measured by one another.")
    ] = False,
    window: Annotated[float, typer.Option(min=0, help="Cut longer clips into windows of so many s; 0: do not.")] = 0,
    hop: Annotated[float, typer.Option(min=0, help="Seconds from window to window; 0: half a window.")] = 0,
    timeline: Annotated[Path | None, typer.Option(help="Write a plot per long clip into this folder.")] = None,
) -> None:
    """Predict the emotion of clips: a label and every class's probability, a row per clip.

    A clip that cannot be read, is shorter than 0.2 s, or is silent (nowhere above -65 dB of full scale) keeps its row, without
    a label or probabilities (empty in CSV, null in JSON); the column note says why. Ends with 1 where a clip cannot be read;
    the others are answered all the same. Files in a folder that are in no format that can be decoded are counted and named.

    Example: metaser predict mine.safetensors new/*.wav --csv
    """
    from metaser.adaptation import load

    if as_json and as_csv:
        raise UserError("--json and --csv: choose one")
    if timeline and not window:
        window = TIMELINE_WINDOW
    found = load(model).predict(named(clips), window, hop, together)
    if as_json:
        print(found.json())
    elif as_csv:
        print(found.csv(), end="")
    else:
        print(found.table().to_string(index=False, float_format="{:.3f}".format, na_rep="-"))
    if timeline:
        drawn = found.timelines(timeline)
        for path in drawn:
            say(f"written to {path}")
        if not drawn:
            say(f"{timeline}: nothing to draw, for no clip is longer than a window of {window:g} s; --window sets it")
    for clip, reason in found.failed.items():
        print(f"metaser: {plain(clip)}: {reason}", file=sys.stderr)
    if found.failed:
        raise typer.Exit(1)


#: The window in s of a timeline when none is given.
TIMELINE_WINDOW = 3.0


def named(clips: Sequence[str]) -> list[str]:
    """What a command line names, with the paths that standard input lists in place of ``-``."""
    found: list[str] = []
    for name in clips:
        found += [line for line in sys.stdin.read().splitlines() if line.strip()] if name == "-" else [name]
    return found


def counts(adapted: Model) -> dict[str, int]:
    """Class → clips that a model is adapted to."""
    assert adapted.support is not None, "it is adapted"
    numbers = adapted.support.y.bincount(minlength=len(adapted.facts.answers)).tolist()
    return dict(zip(adapted.facts.answers, numbers, strict=True))


def summary(adapted: Model, found: dict[str, Estimate], out: Path) -> dict[str, Any]:
    """What ``metaser adapt --json`` prints."""
    return {
        "file": str(out),
        "clips": counts(adapted),
        "new": [name for name in adapted.facts.answers if name not in adapted.facts.classes],
        "estimates": {
            what: {"accuracy": one.share, "clips": one.clips, "interval": one.interval, "holds": one.holds}
            for what, one in found.items()
        },
        "trained": adapted.facts.trained.model_dump(mode="json"),
    }
