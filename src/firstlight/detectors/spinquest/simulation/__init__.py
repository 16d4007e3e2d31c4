"""The parts of the simulator: muons, noise, faults and truth."""
