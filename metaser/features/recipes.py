"""The papers' MFCC recipes and others, by name: which numbers turn a waveform into features.

What the papers leave open is marked as our choice. Both papers' code used librosa as it was in 2020, whose ``center``
padding mirrored the signal; since librosa 0.9 (2022) it pads with zeros. We pad with zeros; ``padding="reflect"`` gives
the older behaviour, which differs in the outermost one or two frames only.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

from metaser.features.base import Recipe
from metaser.features.coefficients import MFCC
from metaser.features.encoder import Encoder
from metaser.features.functionals import Functionals
from metaser.runtime.errors import UserError, nearest

#: F-MAML as published (Naman, Sinha, Mancini, arXiv 2101.01356): 16 kHz, 40 MFCC, 30 ms window, 10 ms hop. Its
#: flattened size of 576 = 64·3·3 after four convolutions of stride 2 implies a 40 × 40 input, hence the average over
#: time. Not stated there, and our choice: 40 mel bands from 20 Hz to 8 kHz, trimming at 40 dB, 3.0 s.
_FMAML = MFCC(name="fmaml", rate=16000, coefficients=40, frames=40, window=480, hop=160, mels=40, f_min=20.0, seconds=3.0,
                trim_db=40.0, fit="average")  # fmt: skip

#: Encoders hear 16 kHz, as they were trained on; trimmed at 40 dB in windows of 30 ms, the first 10 s (our choice).
_encoder = partial(Encoder, rate=16000, window=480, hop=160, trim_db=40.0, seconds=10.0)

#: The recipes, by name.
RECIPES: dict[str, Recipe] = {
    entry.name: entry
    for entry in (
        _FMAML,
        # The same at full resolution, (40, 300), for a network that pools.
        replace(_FMAML, name="fmaml-long", frames=300, fit="crop"),
        # What the F-MAML authors' public code does: the first 1.0 s only, untrimmed, 20 Hz to 4 kHz.
        MFCC(name="fmaml-code", rate=16000, coefficients=40, frames=40, window=480, hop=160, mels=40, f_min=20.0,
               f_max=4000.0, log="ln", seconds=1.0, fit="resize"),
        # Our choice: utterance functionals, 20 MFCC of 26 mel bands, whole clips.
        Functionals(name="functionals", rate=16000, coefficients=20, frames=1, window=480, hop=160, mels=26, f_min=20.0,
                    trim_db=40.0),
        # Frozen encoders (torchaudio's bundles), the mean of all their layers: WavLM (Chen et al., IEEE J. Sel. Topics in Signal
        # Processing 16(6), 2022), wav2vec 2.0 (Baevski et al., NeurIPS 2020), XLSR-53 (Conneau et al., Interspeech 2021).
        _encoder(name="wavlm", bundle="WAVLM_BASE_PLUS", file="wavlm_base_plus.pth", width=768, layers=12),
        _encoder(name="wav2vec2", bundle="WAV2VEC2_BASE", file="wav2vec2_fairseq_base_ls960.pth", width=768, layers=12),
        _encoder(name="xlsr", bundle="WAV2VEC2_XLSR53", file="wav2vec2_fairseq_large_xlsr53.pth", width=1024, layers=24),
        # MetaSER (Chopra, Mathur, Sawhney, Shah, ICASSP 2021): 120 frames × 20 MFCC; the rest are librosa's defaults.
        MFCC(name="metaser", rate=22050, coefficients=20, frames=120, window=2048, hop=512, mels=128),
    )
}  # fmt: skip


def recipe(name: str, /, **overrides: Any) -> Recipe:
    """A recipe of `RECIPES`, with some of its fields set otherwise.

    Args:
        name: Its name.
        overrides: Fields of its kind of recipe, such as ``trim_db=30`` or ``backend="python_speech_features"``.

    Raises:
        UserError: if there is no such recipe or field, or the value cannot be.
    """
    if name not in RECIPES:
        raise UserError(f"no feature recipe {name!r}; {nearest(name, RECIPES)}")
    known = [field.name for field in fields(RECIPES[name]) if field.name != "name"]
    for field in overrides:
        if field not in known:
            raise UserError(f"feature recipe {name}: no field {field!r}; {nearest(field, known)}")
    return replace(RECIPES[name], **overrides)
