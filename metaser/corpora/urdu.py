"""URDU (Latif et al., FIT 2018): unscripted Urdu from television talk shows.

The speaker nearly gives the emotion away: all but three of the 29 speakers have one emotion only, so a random split
measures the speaker. And clips were cut from the shows with overlaps: eleven pairs share 0.3 to 2.0 s of audio, some
under two speaker codes (normalised cross-correlation where they overlap: at least .979, every other pair below .85).
"""

from __future__ import annotations

import re

from metaser.corpora.base import Corpus, Download, Expected

#: Clips that share audio, directly or through another of the same line.
OVERLAPS = (
    ("SF1_F3_H03", "SF1_F4_H04", "SF4_F3_H019", "SF4_F4_H020"),
    ("SF6_F10_H034", "SF6_F5_H029"),
    ("SM2_F2_A024", "SM2_F3_A025"),
    ("SM6_F8_H070", "SM6_F9_H071"),
    ("SM24_F2_S014", "SM24_F3_S015"),
    ("SM24_F4_S016", "SM24_F5_S017"),
    ("SM24_F8_S020", "SM24_F9_S021"),
    ("SM24_F14_S026", "SM24_F15_S027"),
    ("SM25_F8_S058", "SM25_F9_S059"),
)


class Urdu(Corpus):
    """400 clips: 4 emotions of 100; 29 speaker codes occur, though its README says 38."""

    name = "urdu"
    title = "URDU"
    languages = ("ur",)
    licence = "research only"
    home = "github.com/siddiquelatif/URDU-Dataset"
    access = "fetch it from github.com/siddiquelatif/URDU-Dataset (Angry/SM1_F10_A010.wav, ...)"
    grammar = re.compile(r"(?P<speaker>S(?P<gender>[MF])[0-9]{1,2})_F[0-9]{1,3}_(?P<emotion>[A-Z])[0-9]{2,4}")
    emotions = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
    downloads = (Download("https://github.com/siddiquelatif/URDU-Dataset/archive/refs/heads/master.zip", "master.zip"),)
    expected = Expected(emotions=dict.fromkeys(emotions.values(), 100), speakers=29, rates=(44100,))
    oddities = {stem: "released with audio in common: " + ", ".join(stems) for stems in OVERLAPS for stem in stems}
    same_audio = OVERLAPS
    check_overlap = True
