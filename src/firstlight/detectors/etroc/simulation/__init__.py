"""Rooms of the simulator: the beam telescope, charge injection, ETROC2 words and their containers."""
