"""The papers' MFCC recipes and others, by name: every number that turns a waveform into features stands here.

What the papers leave open is marked as our choice. Both papers' code used librosa as it was in 2020, whose ``center``
padding mirrored the signal; since librosa 0.9 (2022) it pads with zeros. We pad with zeros; ``padding="reflect"`` gives
the older behaviour, which differs in the outermost one or two frames only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any

from metaser.errors import UserError, nearest

_BACKENDS = ("torchaudio", "python_speech_features")


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """How a waveform becomes an array ``(coefficients, frames)``; what all kinds of recipes share.

    Attributes:
        name: The name it is known by.
        rate: Sample rate in Hz that clips are brought to.
        seconds: The clip's first part that is used, in s (after trimming); None for all of it.
        trim_db: Leading and trailing windows this many dB below the clip's loudest window are cut off; None for none.
        window: Of the trimming, and of the analysis where there is one, in samples.
        hop: Step between windows, in samples.
        backend: ``torchaudio`` or, for MFCC, ``python_speech_features``.

    Raises:
        UserError: naming the field, when a value cannot be.
    """

    name: str
    rate: int
    seconds: float | None = None
    trim_db: float | None = None
    window: int
    hop: int
    backend: str = "torchaudio"

    def __post_init__(self) -> None:
        self._check_counts("rate", "window", "hop")
        self._check_choices(backend=_BACKENDS)
        for field in ("seconds", "trim_db"):
            value = getattr(self, field)
            if value is not None and not (_is_number(value) and value > 0):
                raise self._refusal(field, "give a number above 0, or null")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """``(coefficients, frames)`` of the array."""

    @property
    def samples(self) -> int | None:
        """The part of a clip that is used, in samples; None for all of it."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    def _check_counts(self, *names: str) -> None:
        for field in names:
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self._refusal(field, "give a whole number, 1 or more")

    def _check_choices(self, **known: tuple[str, ...]) -> None:
        for field, names in known.items():
            if getattr(self, field) not in names:
                raise self._refusal(field, nearest(getattr(self, field), names))

    def _refusal(self, field: str, advice: str) -> UserError:
        return UserError(f"feature recipe {self.name}: {field} cannot be {getattr(self, field)!r}; {advice}")


@dataclass(frozen=True, kw_only=True)
class MFCC(Recipe):
    """Mel-frequency cepstral coefficients, frame by frame; see `Recipe`, and:

    Attributes:
        coefficients: MFCCs per frame.
        frames: Frames in the array.
        window: Analysis window and FFT length, in samples.
        mels: Mel bands (Slaney's scale and normalisation with torchaudio, HTK's scale with python_speech_features).
        f_min: Lowest band edge in Hz.
        f_max: Highest band edge in Hz; None for half the rate.
        log: ``db``, decibels with a floor 80 dB below the clip's loudest bin, or ``ln``, natural logarithm with zeros
            left as zeros. Only with torchaudio.
        fit: How the frames that come out are brought to ``frames``: ``crop`` (or zero-pad), ``average`` (by area, over
            time) or ``resize`` (as an image, as scikit-image does).
        padding: What the first and last window see outside the clip, ``constant`` (zeros) or ``reflect``. Only with
            torchaudio.
        backend: ``torchaudio`` or ``python_speech_features``; the latter with its own pre-emphasis (0.97), liftering
            (22), rectangular window and first coefficient (log energy), and the same rate, window, hop and counts.
    """

    coefficients: int
    frames: int
    mels: int
    f_min: float = 0.0
    f_max: float | None = None
    log: str = "db"
    fit: str = "crop"
    padding: str = "constant"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("coefficients", "frames", "mels")
        self._check_choices(fit=("crop", "average", "resize"), log=("db", "ln"), padding=("constant", "reflect"))
        if not (_is_number(self.f_min) and _is_number(self.top) and 0 <= self.f_min < self.top <= self.rate / 2):
            raise self._refusal("f_max", f"the bands must lie between f_min ({self.f_min} Hz) and {self.rate / 2:g} Hz")
        if self.mels < self.coefficients:
            raise self._refusal("mels", f"give as many as there are coefficients ({self.coefficients}) or more")
        if self.fit != "crop" and self.seconds is None:
            raise self._refusal("seconds", f"fit '{self.fit}' needs a fixed length in seconds")
        if self.fit == "resize" and self.backend != "torchaudio":
            raise self._refusal("backend", "it repeats its authors' own pipeline; give 'torchaudio'")

    @property
    def shape(self) -> tuple[int, int]:
        """``(coefficients, frames)`` of the array."""
        return self.coefficients, self.frames

    @property
    def top(self) -> float:
        """The highest band edge in Hz."""
        return self.rate / 2 if self.f_max is None else self.f_max


@dataclass(frozen=True, kw_only=True)
class Functionals(MFCC):
    """Statistics over the whole clip instead of frames: the array is ``(values, 1)``; see `metaser.features.functionals`.

    Raises:
        UserError: as `MFCC`, and for another backend or padding than theirs.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, only in (("backend", "torchaudio"), ("padding", "constant"), ("log", "db"), ("fit", "crop")):
            if getattr(self, field) != only:
                raise self._refusal(field, f"functionals know {only!r} only")

    @property
    def shape(self) -> tuple[int, int]:
        """``(values, 1)``."""
        from metaser.features.functionals import names

        return len(names(self)), 1


@dataclass(frozen=True, kw_only=True)
class Encoder(Recipe):
    """What a frozen self-supervised network makes of the clip, over time: ``(2 · width, 1)``; see `metaser.features.encoder`.

    Attributes:
        bundle: The name of the pretrained network in `torchaudio.pipelines`.
        file: What its weights' file is called.
        width: Values per step of time of every layer.
        layers: How many there are.
        layer: Which is used, from 1; None for the mean of all.
    """

    bundle: str
    file: str
    width: int
    layers: int
    layer: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("width", "layers", *(["layer"] if self.layer is not None else []))
        self._check_choices(backend=("torchaudio",))
        if self.layer is not None and self.layer > self.layers:
            raise self._refusal("layer", f"it has {self.layers}; give 1 to {self.layers}, or null for their mean")

    @property
    def shape(self) -> tuple[int, int]:
        """``(2 · width, 1)``: means, then deviations."""
        return 2 * self.width, 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: F-MAML as published (Naman, Sinha, Mancini, arXiv 2101.01356): 16 kHz, 40 MFCC, 30 ms window, 10 ms hop. Its
#: flattened size of 576 = 64·3·3 after four convolutions of stride 2 implies a 40 × 40 input, hence the average over
#: time. Not stated there, and our choice: 40 mel bands from 20 Hz to 8 kHz, trimming at 40 dB, 3.0 s.
_FMAML = MFCC(name="fmaml", rate=16000, coefficients=40, frames=40, window=480, hop=160, mels=40, f_min=20.0, seconds=3.0,
                trim_db=40.0, fit="average")  # fmt: skip

#: What the encoders hear: 16 kHz, as they were trained on; trimmed at 40 dB in windows of 30 ms, the first 10 s (our choice).
_SPEECH: dict[str, Any] = {"rate": 16000, "window": 480, "hop": 160, "trim_db": 40.0, "seconds": 10.0}

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
        Encoder(name="wavlm", bundle="WAVLM_BASE_PLUS", file="wavlm_base_plus.pth", width=768, layers=12, **_SPEECH),
        Encoder(name="wav2vec2", bundle="WAV2VEC2_BASE", file="wav2vec2_fairseq_base_ls960.pth", width=768, layers=12, **_SPEECH),
        Encoder(name="xlsr", bundle="WAV2VEC2_XLSR53", file="wav2vec2_fairseq_large_xlsr53.pth", width=1024, layers=24, **_SPEECH),
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
