"""A linear probe: logistic regression on each utterance's mean and standard deviation of every coefficient.

It says how much of an emotion a linear view of the features holds, before any network is trained: within a language,
with the tested speakers left out of training, and across languages, with the tested language left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaser.runtime.errors import UserError

#: The columns of what `probe` returns.
COLUMNS = ("language", "protocol", "accuracy", "uar", "ci95", "chance", "clips", "speakers")


def utterance_statistics(x: ArrayLike, lengths: ArrayLike | None = None) -> np.ndarray:
    """Mean and standard deviation of every coefficient over an utterance's valid frames.

    Args:
        x: ``(utterances, coefficients, frames)``; a CPU tensor will do.
        lengths: ``(utterances,)``: how many of the frames are valid, the rest being padding; all of them when None.

    Returns:
        ``(utterances, 2 * coefficients)`` float64: the means, then the standard deviations (of the population).

    Raises:
        ValueError: if the shapes do not agree, or a length is not between 1 and the number of frames.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 3:
        raise ValueError(f"x has shape {values.shape}, not (utterances, coefficients, frames)")
    utterances, _, frames = values.shape
    valid = np.full(utterances, frames) if lengths is None else np.asarray(lengths)
    if valid.shape != (utterances,) or (valid < 1).any() or (valid > frames).any():
        raise ValueError(f"lengths has shape {valid.shape}; wanted {utterances} numbers from 1 to {frames}")
    mask = (np.arange(frames) < valid[:, None])[:, None, :]
    mean = np.where(mask, values, 0).sum(axis=2) / valid[:, None]
    spread = np.where(mask, values - mean[:, :, None], 0)
    return np.concatenate([mean, np.sqrt((spread**2).sum(axis=2) / valid[:, None])], axis=1)


def predict(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, penalty: float = 1.0) -> np.ndarray:
    """Labels of ``test_x`` by multinomial logistic regression on standardised features.

    Standardisation and classifier are fitted on the training clips alone.

    Args:
        train_x: ``(clips, features)``.
        train_y: ``(clips,)``, labels.
        test_x: ``(tested clips, features)``.
        penalty: Strength of the L2 penalty (1/C).
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=2000))
    return model.fit(train_x, train_y).predict(test_x)


def within_language(features: np.ndarray, table: pd.DataFrame, folds: int = 6, penalty: float = 1.0) -> pd.DataFrame:
    """Every clip's prediction by a model of its own language that never heard its speaker.

    Args:
        features: ``(clips, features)``, a row per row of ``table``.
        table: With the columns ``language``, ``speaker`` and ``emotion``.
        folds: Speakers are shared out over so many folds, or as many as a language has speakers if those are fewer.
        penalty: As in `predict`.

    Returns:
        A row per language, as `probe`.

    Raises:
        UserError: if the table lacks a column, or a language has fewer than two speakers or emotions.
    """
    rows = []
    for language, part in numbered(features, table).groupby("language", sort=True):
        x, y = features[part.index], part["emotion"].to_numpy()
        groups = part["speaker"].to_numpy()
        if part["speaker"].nunique() < 2 or part["emotion"].nunique() < 2:
            raise UserError(f"language {language}: a linear probe needs two speakers and two emotions or more")
        guess = np.empty_like(y)
        for train, test in GroupKFold(min(folds, part["speaker"].nunique())).split(x, y, groups):
            guess[test] = predict(x[train], y[train], x[test], penalty)
        rows.append({"language": language, "protocol": "within", **scores(y, guess, groups)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def across_languages(features: np.ndarray, table: pd.DataFrame, penalty: float = 1.0) -> pd.DataFrame:
    """Every clip's prediction by a model of all the other languages, over the emotions that all languages have.

    Arguments, result and errors are those of `within_language`.

    Raises:
        UserError: if the table lacks a column, or there are fewer than two languages or emotions common to them all.
    """
    whole = numbered(features, table)
    names = sorted(whole["language"].unique())
    shared = set.intersection(*(set(part["emotion"]) for _, part in whole.groupby("language")))
    if len(names) < 2 or len(shared) < 2:
        raise UserError(
            f"across languages: two languages with two emotions in common are needed; languages: {', '.join(names)}; "
            f"emotions in common: {', '.join(sorted(shared)) or 'none'}"
        )
    whole = whole[whole["emotion"].isin(shared)]
    rows = []
    for language in names:
        test, train = (whole[mask] for mask in (whole["language"] == language, whole["language"] != language))
        guess = predict(features[train.index], train["emotion"].to_numpy(), features[test.index], penalty)
        measured = scores(test["emotion"].to_numpy(), guess, test["speaker"].to_numpy())
        rows.append({"language": language, "protocol": "across", **measured})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def probe(x: ArrayLike, table: pd.DataFrame, lengths: ArrayLike | None = None, penalty: float = 1.0) -> pd.DataFrame:
    """Both protocols on feature arrays.

    Args:
        x: ``(utterances, coefficients, frames)``, an utterance per row of ``table``.
        table: With the columns ``language``, ``speaker`` and ``emotion``.
        lengths: ``(utterances,)`` valid frames; all when None.
        penalty: As in `predict`.

    Returns:
        A row per language and protocol (``within`` or ``across``; the latter only with two languages or more), with
        accuracy, unweighted average recall (UAR), the half-width of the accuracy's 95 % interval, chance (the accuracy
        of always answering the commonest emotion of the tested clips), and how many clips and speakers were tested.

    Raises:
        UserError: as `within_language` and `across_languages`.
    """
    features = utterance_statistics(x, lengths)
    tables = [within_language(features, table, penalty=penalty)]
    if table["language"].nunique() > 1:
        tables.append(across_languages(features, table, penalty=penalty))
    return pd.concat(tables, ignore_index=True)


def scores(truth: np.ndarray, guess: np.ndarray, speakers: np.ndarray) -> dict[str, float]:
    """The measured columns of `probe`.

    One speaker's clips are alike, so the interval is Student's over the speakers' own accuracies, not over clips; it is
    NaN with a single speaker.
    """
    right = pd.Series(truth == guess, dtype=float)
    each = right.groupby(speakers).mean()
    return {
        "accuracy": float(right.mean()),
        "uar": float(recall_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)),
        "ci95": float(student.ppf(0.975, len(each) - 1) * each.sem()) if len(each) > 1 else float("nan"),
        "chance": float(pd.Series(truth).value_counts(normalize=True).max()),
        "clips": len(truth),
        "speakers": len(each),
    }


def numbered(features: np.ndarray, table: pd.DataFrame) -> pd.DataFrame:
    """The table's language, speaker and emotion with rows numbered from 0, as those of ``features`` are.

    Raises:
        UserError: if a column is missing, or the numbers of rows differ.
    """
    wanted = ["language", "speaker", "emotion"]
    missing = [column for column in wanted if column not in table.columns]
    if missing:
        raise UserError(f"linear probe: the table lacks {', '.join(missing)}; it needs {', '.join(wanted)}")
    if len(features) != len(table):
        raise UserError(f"linear probe: {len(features)} feature rows for {len(table)} utterances; give one for each")
    return table[wanted].reset_index(drop=True)
