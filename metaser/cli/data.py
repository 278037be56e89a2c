"""``metaser data list``, ``fetch``, ``verify`` and ``probe``: the corpora."""

from __future__ import annotations

from typing import Annotated

import typer

from metaser.cli.common import AsJson, Root, stoppable


def list_corpora(
    names: Annotated[list[str] | None, typer.Argument(help="Corpora; all that metaser knows by default.")] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Show every corpus: where it is, or how to get it.

    Example: metaser data list
    """
    from metaser.cli.listing import listing, listing_json
    from metaser.runtime.files import data_root

    print((listing_json if as_json else listing)(data_root(root), names or ()))


def fetch(names: Annotated[list[str], typer.Argument(help="Corpora to fetch.")], root: Root = None) -> None:
    """Download and unpack corpora that are free to fetch; for the others, say where and how to apply.

    Ends with 1 where a corpus must be applied for, or has fewer clips than its release.

    Example: metaser data fetch ravdess emodb
    """
    from metaser.corpora.fetch import fetch_all
    from metaser.runtime.files import data_root

    with stoppable("what has come is kept, and the same command goes on from there"):
        if not fetch_all(names, data_root(root)):
            raise typer.Exit(1)


def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Corpora to verify; all that are there by default.")] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Decode every file, compare the counts with the release's, and name what is wrong.

    Example: metaser data verify emodb tess
    """
    from metaser.cli.listing import verify_all
    from metaser.runtime.files import data_root

    if not verify_all(names or [], data_root(root), as_json):
        raise typer.Exit(1)


def probe(
    names: Annotated[list[str] | None, typer.Argument(help="Corpora; the built-in synthetic one by default.")] = None,
    recipe_name: Annotated[str, typer.Option("--recipe", help="The feature recipe.")] = "fmaml-long",
    root: Root = None,
) -> None:
    """Measure how hard the data are: a linear classifier within languages (speakers left out) and across them.

    Example: metaser data probe emodb ravdess emovo
    """
    from metaser.baselines import linear
    from metaser.corpora import locate
    from metaser.corpora.base import concatenate
    from metaser.features import extract, recipe
    from metaser.runtime.files import data_root
    from metaser.runtime.progress import progress

    chosen, place = recipe(recipe_name), data_root(root)
    with progress("preparing corpora") as update:
        found = [locate(name, place, update) for name in dict.fromkeys(names or ["synthetic"])]
    with progress(f"extracting features ({chosen.name})") as update:
        features = extract(concatenate(corpus.table(folder) for corpus, folder in found), chosen, update)
    scores = linear.probe(features.x, features.table, features.lengths)
    print(scores.to_string(index=False, float_format="{:.3f}".format))
    means = scores.groupby("protocol", sort=False)[["accuracy", "uar", "chance"]].mean()
    print(means.to_string(float_format="{:.3f}".format))
