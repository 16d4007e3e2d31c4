"""Schemas, channel maps, file patterns, selections and histogram cubes."""
