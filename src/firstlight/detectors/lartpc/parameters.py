"""Parameters of a read-out under the names of the original tool: `read_params` of the class `Tracks`."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.detectors.lartpc.medium import PRESETS
from firstlight.detectors.lartpc.readout.designs import DESIGNS, design
from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firstlight.detectors.lartpc.medium import Medium
    from firstlight.detectors.lartpc.readout.designs import Design

__all__ = ["ReadParameters", "default_inputs"]

_FIELD = 1e5  # V/m in a kV/cm
# values that stand in the original's files, and that no step of the chain needs
_UNUSED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "GAMPixG": {
        "coarse_grids": {"signal_sharing": 4, "wire_radius": 1e-4, "power_per_wire": 0.01},
        "pixels": {
            "trigger_noise": 20,
            "pad_width": 20e-6,
            "stray_capacitance": 1e-14,
            "power_per_pixel": 1e-3,
        },
    },
    "GAMPixD": {
        "coarse_tiles": {"power_per_tile": 1e-3},
        "pixels": {"trigger_noise": 40, "power_per_pixel": 1e-3},
    },
    "LArPix": {"pixels": {"power_per_pixel": 1e-3}},
    "AnodeGridD": {"anode_grid": {"power_per_wire": 1e-3}},
    "AnodeGridG": {"anode_grid": {"power_per_wire": 1e-3}},
}
_PARTS = ("coarse_grids", "coarse_tiles", "pixels", "anode_grid")


def default_inputs() -> dict[str, Any]:
    """Return the inputs of the original, SI units but for keV: nested as in its file."""
    preset = PRESETS["gampy110K"]
    readouts: dict[str, Any] = {}
    for name, chosen in DESIGNS.items():
        parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS if getattr(chosen, part) is not None}
        for key, value in chosen.values().items():
            part, _, field = key.partition(".")
            if field:
                parts[part][field] = value
        for part, values in parts.items():
            values |= {"type": part, **_UNUSED[name].get(part, {})}
        readouts[name] = parts
    return {
        "charge_drift": {
            "drift_field": preset.field * _FIELD,
            "electron_lifetime": 1e-3 * preset.lifetime,
            "diffusion_fraction": 1.0,
        },
        "charge_readout": readouts,
        "charge_readout_name": "GAMPixG",
        "material": {
            "name": "Ar", "long_name": "Argon", "temperature": preset.temperature, "w": 0.022, "recombination": 0.3,
            "fano": 0.116, "sigma_p": 0.06,
        },
        "light": {"collection": 0.1, "spe_noise": 0.2, "spe_threshold": 3.0},
        "spatial_resolution": {"sigma_xy": 0.5e-3, "sigma_z": 0.5e-3},
    }  # fmt: skip


class ReadParameters:
    """Inputs of a read-out, and what follows from them.

    `inputs` is what can be changed: ``inputs["charge_drift"]["drift_field"]`` [V/m], ``electron_lifetime`` [s],
    ``inputs["pixels"]["pitch"]`` [m]. The parts `charge_drift`, `material`, `pixels`, ... are copies with what follows:
    ``charge_drift["velocity"]`` [m/s], ``drift_length`` [m]; they follow the inputs, and cannot be set.

    Parameters
    ----------
    charge_readout_name : str
        Name of a read-out.
    readout_inputs_file_name : str or Path
        ``"default"``, or a YAML, TOML or JSON file with inputs that differ from the default.

    Raises
    ------
    UsageError
        If the read-out is unknown.
    ConfigError
        If the file cannot be used, or names what does not exist.
    """

    def __init__(
        self, charge_readout_name: str = "GAMPixG", readout_inputs_file_name: str | Path = "default"
    ) -> None:
        self.inputs: dict[str, Any] = default_inputs()
        if str(readout_inputs_file_name) != "default":
            _update(self.inputs, _read(Path(readout_inputs_file_name)), str(readout_inputs_file_name))
        if charge_readout_name not in self.inputs["charge_readout"]:
            raise UsageError.unknown("read-out", charge_readout_name, self.inputs["charge_readout"])
        self.inputs["charge_readout_name"] = charge_readout_name
        # the parts of the chosen read-out stand at the top, too: one value under two names
        whole = _Inputs(self.inputs)
        for part, values in whole["charge_readout"][charge_readout_name].items():
            dict.__setitem__(whole, part, values)
        self.inputs = whole

    @property
    def charge_readout_name(self) -> str:
        """Name of the read-out."""
        return str(self.inputs["charge_readout_name"])

    @property
    def medium(self) -> Medium:
        """Liquid argon as the inputs have it."""
        drift, material = self.inputs["charge_drift"], self.inputs["material"]
        preset = PRESETS["gampy110K"].with_changes(
            temperature=float(material["temperature"]),
            field=float(drift["drift_field"]) / _FIELD,
            lifetime=1e3 * float(drift["electron_lifetime"]),
        )
        # the original keeps this number and never uses it; here widths are multiplied with it
        share = float(drift["diffusion_fraction"]) ** 2
        if math.isclose(share, 1.0):
            return preset
        return preset.with_changes(
            fixed_longitudinal=share * preset.longitudinal_diffusion,
            fixed_transverse=share * preset.transverse_diffusion,
        )

    @property
    def design(self) -> Design:
        """The read-out as the inputs have it."""
        base = DESIGNS[self.charge_readout_name]
        changes = {}
        for key in base.values():
            part, _, field = key.partition(".")
            if field:
                changes[key] = self.inputs[part][field]
        return design(base, changes)

    def calculate(self) -> None:
        """Do nothing: what follows from the inputs is always up to date. The original's scripts call it after changes."""

    def __getattr__(self, name: str) -> Any:
        inputs = self.__dict__.get("inputs", {})
        if name not in inputs:
            known = sorted(key for key, value in inputs.items() if isinstance(value, dict))
            what = f"read_params has no part {name!r}; there are {', '.join(known)}"
            raise AttributeError(what)
        if not isinstance(inputs[name], dict):
            return inputs[name]
        return _Derived(name, copy.deepcopy(inputs[name]), self._derived(name))

    def _derived(self, name: str) -> dict[str, Any]:
        if name == "charge_drift":
            medium = self.medium
            return {
                "velocity": 1e3 * medium.velocity,
                "drift_length": medium.drift_length,
                "diffusion_longitudinal": 1e-4 * medium.longitudinal_diffusion,
                "diffusion_transverse": 1e-4 * medium.transverse_diffusion,
            }
        if name not in _PARTS:
            return {}
        part = getattr(self.design, name)
        return {"threshold": part.threshold, "sampling_time": part.pitch / (1e3 * self.medium.velocity)}

    def __repr__(self) -> str:
        return f"ReadParameters({self.charge_readout_name!r}, {self.medium.velocity:.4g} mm/us)"


class _Inputs(dict[str, Any]):
    """Values that may be changed; a name that does not exist is refused, since nothing would follow from it."""

    def __init__(self, values: Mapping[str, Any], where: str = "read_params.inputs") -> None:
        self.where = where
        super().__init__(
            {
                key: _Inputs(value, f"{where}[{key!r}]") if isinstance(value, dict) else value
                for key, value in values.items()
            }
        )

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self:
            raise ConfigError.unknown("parameter", key, self, where=self.where)
        super().__setitem__(key, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}


class _Derived(dict[str, Any]):
    """Values for reading: what is set here would be lost, so it is refused."""

    def __init__(self, part: str, inputs: Mapping[str, Any], derived: Mapping[str, Any]) -> None:
        super().__init__({**inputs, **derived})
        self.part = part
        self.inputs = tuple(inputs)

    def __setitem__(self, key: str, value: Any) -> None:
        what = f"read_params.{self.part}[{key!r}] follows from the inputs and cannot be set"
        if key in self.inputs:
            raise UsageError(what, hint=f"read_params.inputs[{self.part!r}][{key!r}] = {value!r}")
        raise UsageError(
            what, known=list(self.inputs), hint=f"one of these in read_params.inputs[{self.part!r}]"
        )

    def update(self, *args: Any, **values: Any) -> None:
        """Refuse it, as setting a single value is refused."""
        for key, value in dict(*args, **values).items():
            self[key] = value

    def __missing__(self, key: str) -> Any:
        raise UsageError.unknown("parameter", key, self, where=f"read_params.{self.part}")


def _read(path: Path) -> dict[str, Any]:
    if path.suffix in (".toml", ".json"):
        from firstlight.run.config import load_config

        return load_config(path)
    from firstlight.yaml_files import load_yaml

    if not path.is_file():
        what = "file of read-out inputs does not exist"
        raise ConfigError(what, where=path, hint="'default', or a YAML, TOML or JSON file")
    content = load_yaml(path, ConfigError, "the read-out inputs cannot be read")
    if not isinstance(content, dict):
        what = f"holds a {type(content).__name__}, not parameters by name"
        raise ConfigError(what, where=path)
    return content


def _update(known: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    """Put changes into nested inputs; a name that does not exist, or a value of another kind, is refused."""
    for key, value in changes.items():
        if key not in known:
            raise ConfigError.unknown("parameter", str(key), known, where=where)
        if isinstance(known[key], dict):
            if not isinstance(value, dict):
                what = f"{key!r} is {value!r}, not parameters by name"
                raise ConfigError(what, where=where)
            _update(known[key], value, f"{where}, {key}")
        elif (
            isinstance(known[key], str) != isinstance(value, str)
            or value is None
            or isinstance(value, bool | list | dict)
        ):
            what = f"{key!r} is {value!r}; the default is {known[key]!r}"
            raise ConfigError(
                what, where=where, hint="a number" if not isinstance(known[key], str) else "a word"
            )
        else:
            known[key] = value
