"""For whoever has a few labelled clips: a trained model, adapted to them, and what it says of others.

model = metaser.load("model.safetensors").adapt("clips/")     # clips/anger/1.wav, clips/joy/1.wav, ...
model.predict(["a.wav", "b.wav"]).table()                     # a row per clip: label, probabilities
model.save("mine.safetensors")
"""

from metaser.adapting.model import Model, adapt, load

__all__ = ["Model", "adapt", "load"]
