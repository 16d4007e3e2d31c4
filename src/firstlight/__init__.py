"""firstlight takes a particle detector from its first raw files to constants, verdicts and pictures."""

__version__ = "0.1.0"
