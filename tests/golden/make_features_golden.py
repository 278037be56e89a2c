"""Writes features.json: what librosa and scikit-image make of a fixed signal. For development only.

The project itself needs neither, so that they live in an environment of their own; from the repository's root:

    python -m venv /tmp/golden && /tmp/golden/bin/pip install librosa scikit-image "numpy<2"
    /tmp/golden/bin/python tests/golden/make_features_golden.py

The committed file is from librosa 0.11.0 and scikit-image 0.26.0.
"""

import json
from pathlib import Path

import numpy as np

#: The frames that are kept of each array: enough to notice any change, and both edges.
METASER_FRAMES = (0, 1, 2, 9, 22, 33, 41, 42, 43)
FMAML_CODE_FRAMES = (0, 1, 13, 26, 38, 39)


def signal(rate, seconds):
    """A chirp from 80 Hz to 3 kHz under a slow envelope, and noise from integer arithmetic: the same everywhere."""
    n = np.arange(round(rate * seconds), dtype=np.uint64)
    noise = n * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    for shift in (29, 31):  # mixing as in splitmix64, so that neighbours differ
        noise = (noise ^ (noise >> np.uint64(shift))) * np.uint64(0xBF58476D1CE4E5B9)
    noise = (noise >> np.uint64(11)).astype(np.float64) / 2.0**53 - 0.5
    t = n / rate
    chirp = np.sin(2 * np.pi * (80 * t + 0.5 * (3000 - 80) / seconds * t**2)) * (0.6 + 0.4 * np.cos(2 * np.pi * 3 * t))
    return (0.5 * chirp + 0.05 * noise).astype(np.float32)


def librosa_mfcc(samples, rate):
    """MetaSER's features: librosa.feature.mfcc with its defaults, ``(20, frames)``."""
    import librosa

    return librosa.feature.mfcc(y=samples, sr=rate)


def fixed_maml_mfcc(samples, pad_mode):
    """The pipeline of github.com/AnugunjNaman/Fixed-MAML, ``(40, 40)``, in today's librosa.

    ``librosa.filters.dct(40, 40)``, which is gone, was the orthonormal DCT-II.
    """
    import librosa
    from scipy.fft import dct
    from skimage.transform import resize

    second = np.pad(samples, (0, max(0, 16000 - len(samples))))[:16000]
    bands = librosa.feature.melspectrogram(
        y=second, sr=16000, n_mels=40, hop_length=160, n_fft=480, fmin=20, fmax=4000, pad_mode=pad_mode
    )
    bands[bands > 0] = np.log(bands[bands > 0])
    filters = dct(np.eye(40), type=2, norm="ortho", axis=0)
    return resize((filters @ bands).astype(np.float32), (40, 40), preserve_range=True)


def main():
    golden = {
        "metaser": librosa_mfcc(signal(22050, 1.0), 22050)[:, METASER_FRAMES],
        "fmaml-code": fixed_maml_mfcc(signal(16000, 1.2), "constant")[:, FMAML_CODE_FRAMES],
        "fmaml-code, 0.6 s": fixed_maml_mfcc(signal(16000, 0.6), "constant")[:, FMAML_CODE_FRAMES],
        "fmaml-code, reflect": fixed_maml_mfcc(signal(16000, 1.2), "reflect")[:, FMAML_CODE_FRAMES[:2]],
    }
    rows = [f"  {json.dumps(name)}: {json.dumps([[float(f'{v:.6g}') for v in row] for row in array])}"
            for name, array in golden.items()]  # fmt: skip
    text = "{\n" + ",\n".join(rows) + "\n}\n"
    Path(__file__).with_name("features.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
