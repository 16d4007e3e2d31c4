"""Decoders: from the bytes of a file to hits, packets and counters."""
