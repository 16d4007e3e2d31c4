"""Transport of electrons, positrons and photons in liquid argon.

- `argon`, `stopping`, `photons`, `tables`: constants, stopping powers and cross sections, and what follows from them
- `dice`, `collisions`, `record`, `kernels`: compiled: random numbers, single interactions, what is written down, the stack
- `conditions`, `generate`: what a simulation is told, and events as tracks with their truth
- `geant4`: the same from Geant4, where it is installed
"""
