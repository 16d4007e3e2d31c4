"""How the shape of an event is measured: one set of lengths for freed charge, others for the hits of a read-out."""

from __future__ import annotations

from dataclasses import dataclass, fields

from firstlight.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Lengths and limits of the measurement; all lengths are in metres.

    Parameters
    ----------
    edge : float
        Edge of the cubes into which points are put together.
    link : float
        Cubes closer than this belong to one cluster.
    path_edge : float
        Edge of the larger cubes that the spanning tree joins: a tree through every small cube would zigzag across the
        width of the track.
    threshold : float
        Cubes with less charge than this are left out [electrons].
    neighbours : int
        Cubes, itself included, that must lie within `link` of a cube for it to hold a cluster together. 1 gives the
        connected components; more gives DBSCAN.
    satellite : float
        A cluster with a smaller share of the charge is not counted as a satellite.
    end_radius : float
        Radius of the balls in which the charge at the ends of the path is summed.
    stop_ratio : float
        The end with so many times the charge of the other is where the particle stopped.
    branch : float
        Charge farther than this from the path belongs to a branch.
    ray_shell : tuple of float
        Inner and outer radius of the shell around a vertex in which the two arms are fitted.
    fork : float
        Arms that stay together for longer than this are not told apart; also the distance over which the weight of a
        place where they may part falls to 1/e.
    opening : float
        Smallest angle between two arms that are told apart [deg]: below it, one arm with its delta rays looks the same.

    Raises
    ------
    ConfigError
        If a length is not positive, or the shell has no thickness.
    """

    edge: float = 0.5e-3
    link: float = 2.5e-3
    path_edge: float = 1.0e-3
    threshold: float = 0.0
    neighbours: int = 1
    satellite: float = 0.002
    end_radius: float = 2.0e-3
    stop_ratio: float = 1.5
    branch: float = 2.0e-3
    ray_shell: tuple[float, float] = (1.0e-3, 6.0e-3)
    fork: float = 10.0e-3
    opening: float = 8.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "ray_shell":
                if not 0 <= value[0] < value[1]:
                    what = f"shell {value} m: the inner radius is not below the outer one"
                    raise ConfigError(what, hint="ray_shell=(0.001, 0.006)")
            elif not (value >= 0 if entry.name in ("threshold", "satellite") else value > 0):
                what = f"{entry.name} is {value}: it must be positive"
                raise ConfigError(what, where="settings of the features")
        if self.link < self.edge:
            what = f"link length {self.link} m is shorter than the edge {self.edge} m of a cube"
            raise ConfigError(what, hint="a link length of some cubes: 0.0025 m for cubes of 0.0005 m")

    @classmethod
    def of_cubes(cls, edge: float, link: float = 2.5e-3, neighbours: int = 1) -> Settings:
        """Return the settings for freed charge in cubes of another edge [m]."""
        return cls(edge=edge, link=max(link, edge), path_edge=2 * edge, neighbours=neighbours)

    @classmethod
    def of_hits(cls, pitch: float, link: float = 2.5e-3) -> Settings:
        """Return the settings for hits of voxels with an edge [m].

        After some ten centimetres of drift a track is 2 to 4 mm wide. A tree through each voxel of it would zigzag from
        side to side and come out twice as long; so the tree joins cubes of at least 4 mm, and nothing is measured
        below that.
        """
        path_edge = max(2 * pitch, 4.0e-3)
        return cls(
            edge=pitch,
            link=max(link, 5 * pitch),
            path_edge=path_edge,
            end_radius=0.75 * path_edge,
            branch=0.75 * path_edge,
            ray_shell=(0.5 * path_edge, 2.5 * path_edge),
            fork=2.5 * path_edge,
        )
