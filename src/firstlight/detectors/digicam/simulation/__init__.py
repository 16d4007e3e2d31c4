"""Rooms of the simulator: random numbers, the truth of each pixel, traces of events."""
