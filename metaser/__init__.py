"""metaser: few-shot, meta-learned speech emotion recognition on learn2learn."""

__version__ = "0.1.0"
