"""Journeyman trains language models to use tools over many turns."""

__version__ = "0.1.0"
