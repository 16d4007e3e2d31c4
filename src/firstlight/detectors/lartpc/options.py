"""Parameters of a LArTPC run: the same names in a configuration file and on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pydantic

from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.velocity import VelocityTable
    from firstlight.steps.step import Context

__all__ = [
    "AnodeOptions",
    "EnergiesParameters",
    "FeatureParameters",
    "MediumOptions",
    "Options",
    "QuestParameters",
    "ReadoutParameters",
    "SeparationParameters",
    "TracksParameters",
    "rescaled",
]


class MediumOptions(StrictModel):
    """Liquid argon and its field.

    Attributes
    ----------
    preset : {"dune87K", "gampy110K"}
        87 K as in most detectors, or 110 K with the numbers of the original tool; what follows overrides it.
    temperature : float or None
        Temperature [K].
    field : float or None
        Drift field [kV/cm].
    lifetime : float or None
        Lifetime of drifting electrons [ms].
    velocity : str or None
        Name of the parametrisation of the drift velocity: ``bnl``, ``bnl-gampy``, ``walkowiak``, ``icarus``, ``larsoft``.
    longitudinal, transverse : float or None
        Diffusion coefficients [cm2/s]; by the Einstein relation where not given.
    extrapolate : bool or None
        Use the velocity outside the range that it was measured in; the preset of 110 K does.
    """

    preset: Literal["dune87K", "gampy110K"] = "dune87K"
    temperature: float | None = pydantic.Field(None, gt=0)
    field: float | None = pydantic.Field(None, gt=0)
    lifetime: float | None = pydantic.Field(None, gt=0)
    velocity: str | None = None
    longitudinal: float | None = pydantic.Field(None, ge=0)
    transverse: float | None = pydantic.Field(None, ge=0)
    extrapolate: bool | None = None

    def medium(self, table: VelocityTable | None = None) -> Medium:
        """Return the medium, with a table of measurements in place of the velocity model where one is given.

        Raises
        ------
        UsageError
            If a value is impossible, or outside the range of the velocity model.
        """
        from firstlight.detectors.lartpc.medium import PRESETS

        changes = {
            "temperature": self.temperature,
            "field": self.field,
            "lifetime": self.lifetime,
            "velocity_model": table or self.velocity,
            "fixed_longitudinal": self.longitudinal,
            "fixed_transverse": self.transverse,
            "extrapolate": self.extrapolate,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return PRESETS[self.preset].with_changes(**given)


class AnodeOptions(StrictModel):
    """The map of the anode onto which all tracks are added up.

    Attributes
    ----------
    pad : float
        Edge of a pad of the map [mm].
    half_width : float
        The map reaches so far from the middle [mm]; charge beyond it is counted.
    """

    pad: float = pydantic.Field(25.0, gt=0)
    half_width: float = pydantic.Field(1000.0, gt=0)


class Options(StrictModel):
    """Options of a LArTPC run.

    Attributes
    ----------
    particle : {"auto", "electron", "positron", "photon"}
        What all tracks are; by truth records and names of folders by default.
    medium : MediumOptions
        Liquid argon and its field.
    anode : AnodeOptions
        The map of the anode.
    cuts : tuple of str
        Conditions on tracks, as SQL-like expressions: ``energy > 3000 and particle = 'photon'``.
    rescale_charge : bool
        Bring the charge per energy of all tracks to the same scale: files of the PENELOPE chain have 30 electrons per
        keV up to 10 MeV, and 39 above.
    """

    particle: Literal["auto", "electron", "positron", "photon"] = "auto"
    medium: MediumOptions = MediumOptions()
    anode: AnodeOptions = AnodeOptions()
    cuts: tuple[str, ...] = ()
    rescale_charge: bool = False


def rescaled(context: Context) -> bool:
    """Return whether the charges of a run are brought to one scale."""
    return bool(getattr(context.options, "rescale_charge", False))


class TracksParameters(StrictModel):
    """How tracks are listed."""


class FeatureParameters(StrictModel):
    """How the shape of a track is measured.

    Attributes
    ----------
    voxel : float
        Edge of the cubes into which charge is put together [mm].
    link : float
        Cubes closer than this belong to one cluster [mm].
    """

    voxel: float = pydantic.Field(0.5, gt=0)
    link: float = pydantic.Field(2.5, gt=0)


class ReadoutParameters(StrictModel):
    """How tracks are drifted and read out.

    Attributes
    ----------
    design : str
        Name of the read-out: GAMPixG, GAMPixD, LArPix, AnodeGridD or AnodeGridG.
    depth : float
        Drift length [m].
    distance : {"common", "box"}
        ``common``: all charge drifts the length `depth`, so that events are compared as what they are. ``box``: the anode is
        at the top of the box around each track, and `depth` is added, as in the original; large events drift farther.
    bunch : float
        Most electrons that are moved together. 1 moves every electron by itself; 0 takes half of the noise of the design, as the
        original does: faster where there is much charge, but small charges then come above threshold too often.
    link : float
        Hits closer than this, or than five times the pitch if that is larger, belong to one cluster [mm].
    seed : int
        Of all random numbers; each track has its own sequence, by its points.
    """

    design: str = "GAMPixG"
    depth: float = pydantic.Field(0.175, ge=0)
    distance: Literal["common", "box"] = "common"
    bunch: float = pydantic.Field(1.0, ge=0)
    link: float = pydantic.Field(2.5, gt=0)
    seed: int = pydantic.Field(1, ge=0)


class QuestParameters(StrictModel):
    """How beautiful and ugly events are ranked.

    Attributes
    ----------
    minimum_energy : float
        Tracks below this energy do not take part [keV].
    kinds : {"given", "unknown"}
        Whether the particle of a track is known (then electrons and photons are ranked apart) or is to be guessed.
    runners_up : int
        So many are kept beside the first of each category.
    """

    minimum_energy: float = pydantic.Field(3000.0, ge=0)
    kinds: Literal["given", "unknown"] = "given"
    runners_up: int = pydantic.Field(4, ge=0)


class SeparationParameters(StrictModel):
    """How electrons and photons are told apart.

    Attributes
    ----------
    minimum : int
        Tracks of each kind that an energy needs.
    folds : int
        Parts of the cross-validation.
    seed : int
        Of the division into parts.
    """

    minimum: int = pydantic.Field(10, ge=4)
    folds: int = pydantic.Field(5, ge=2)
    seed: int = pydantic.Field(1, ge=0)


class EnergiesParameters(StrictModel):
    """How tracks of one energy are summed up."""
