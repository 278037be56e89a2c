"""Features: waveform → array by named recipe, extracted once into one cached array, normalised afterwards as an option.

features = extract(table, recipe("fmaml"))       # (utterances, coefficients, frames), cached
features = normalise(features, "speaker")        # not cached: cheap, and a choice of the experiment
"""

from metaser.features.base import Recipe
from metaser.features.clip import compute
from metaser.features.encoder import Encoder
from metaser.features.extraction import FeatureSet, extract
from metaser.features.normalisation import NORMALISATIONS, normalise
from metaser.features.recipes import RECIPES, recipe

__all__ = ["NORMALISATIONS", "RECIPES", "Encoder", "FeatureSet", "Recipe", "compute", "extract", "normalise", "recipe"]
