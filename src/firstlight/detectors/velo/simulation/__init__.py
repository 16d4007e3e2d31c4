"""Rooms of the simulator: the chip, the frames and their faults, the noise scans."""
