"""Argon: constants and measured tables that the transport is built on.

Energies are keV, lengths cm, stopping powers and cross sections per mass: keV cm2/g and cm2/g.

Sources: collision stopping power from the formula of Berger and Seltzer with the density effect of Sternheimer, Berger and
Seltzer (ICRU 37, 1984; At. Data Nucl. Data Tables 30 (1984) 261); radiative stopping power from the argon column of
ESTAR (NISTIR 4999); attenuation and energy absorption of photons from Hubbell and Seltzer (NISTIR 5632, tables 3), which is
in the public domain.
"""

from __future__ import annotations

import numpy as np

from firstlight.detectors.lartpc.track import ELECTRON_MASS

__all__ = [
    "ALPHA",
    "ATOMIC_MASS",
    "ATOMIC_NUMBER",
    "AVOGADRO",
    "DENSITY",
    "ELECTRONS_PER_GRAM",
    "ELECTRON_MASS",
    "ELECTRON_RADIUS",
    "EXCITATION",
    "FLUORESCENCE_YIELD",
    "K_EDGE",
    "K_LINE",
    "K_SHARE",
    "NIST_PHOTONS",
    "RADIATIVE",
    "STERNHEIMER",
]

ATOMIC_NUMBER = 18
ATOMIC_MASS = 39.948  # g/mol
AVOGADRO = 6.02214076e23
ELECTRON_RADIUS = 2.8179403262e-13  # cm
ALPHA = 1 / 137.035999
ELECTRONS_PER_GRAM = AVOGADRO * ATOMIC_NUMBER / ATOMIC_MASS
DENSITY = 1.396  # g/cm3, at which the parameters of the density effect hold
EXCITATION = 0.188  # keV; recent work on liquid argon has 0.197 to 0.203 (arXiv:2212.06286, 2501.10550)
# Cbar, x0, x1, k of the density effect; `a` follows from them, as delta is continuous at x0
STERNHEIMER = (5.2146, 0.2, 3.0, 3.0)

K_EDGE = 3.2029  # keV
K_SHARE = (
    1 - 142.4 / 1275.0
)  # of the K shell in photoelectric absorption above its edge: from the jump of the table
FLUORESCENCE_YIELD = 0.118  # of a hole in the K shell (Krause, J. Phys. Chem. Ref. Data 8 (1979) 307)
K_LINE = 2.97  # keV, mean of K alpha (2.957, 90 %) and K beta (3.190)

# kinetic energy, radiative stopping power
RADIATIVE = np.array([
    (1e2, 10.0), (3e2, 12.6), (5e2, 16.2), (1e3, 27.5), (2e3, 55.8), (3e3, 88.3), (5e3, 160.0), (1e4, 359.5),
    (2e4, 794.9), (5e4, 2192.0),
])  # fmt: skip

# energy, attenuation with coherent scattering, energy absorption
NIST_PHOTONS = np.array([
    (1.0, 3184, 3180), (1.5, 1105, 1102), (2.0, 512.0, 509.3), (3.0, 170.3, 168.2), (3.2029, 142.4, 140.3),
    (3.2029, 1275, 1153), (4.0, 757.2, 697.9), (5.0, 422.5, 395.3), (6.0, 259.3, 244.9), (8.0, 118.0, 112.5),
    (10.0, 63.16, 60.38), (15.0, 19.83, 18.86), (20.0, 8.629, 8.074), (30.0, 2.697, 2.382), (40.0, 1.228, 0.9907),
    (50.0, 0.7012, 0.5020), (60.0, 0.4664, 0.2904), (80.0, 0.2760, 0.1280), (100.0, 0.2043, 0.07344),
    (150.0, 0.1427, 0.03703), (200.0, 0.1205, 0.02998), (300.0, 0.09953, 0.02757), (400.0, 0.08776, 0.02727),
    (500.0, 0.07958, 0.02708), (600.0, 0.07335, 0.02679), (800.0, 0.06419, 0.02601), (1000.0, 0.05762, 0.02510),
    (1250.0, 0.05150, 0.02394), (1500.0, 0.04695, 0.02288), (2000.0, 0.04074, 0.02123), (3000.0, 0.03384, 0.01927),
    (4000.0, 0.03019, 0.01827), (5000.0, 0.02802, 0.01777), (6000.0, 0.02667, 0.01753), (8000.0, 0.02517, 0.01742),
    (10000.0, 0.02451, 0.01754), (15000.0, 0.02418, 0.01800), (20000.0, 0.02453, 0.01842),
])  # fmt: skip
