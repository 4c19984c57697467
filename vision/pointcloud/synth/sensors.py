"""Rotating LiDAR sensors: elevations of their rings, columns of a turn, height, reach."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import ConfigError

HDL64 = (
    "2.83 2.48 2.22 1.79 1.66 1.12 .82 .46 .12 -.28 -.48 -.71 -1.08 -1.63 -1.97 -2.31 -2.64 "
    "-2.96 -3.34 -3.70 -3.97 -4.32 -4.64 -4.97 -5.33 -5.55 -5.89 -6.15 -6.71 -6.98 -7.15 -7.56 "
    "-8.25 -8.79 -9.28 -9.66 -10.13 -10.74 -11.24 -11.68 -12.12 -12.55 -13.08 -13.60 -14.18 "
    "-14.61 -15.11 -15.47 -16.08 -16.61 -17.16 -17.62 -18.12 -18.53 -18.98 -19.53 -20.05 -20.65 "
    "-21.13 -21.54 -22.00 -22.64 -23.16 -23.63"
)
AV2 = (
    "15 10.33 7 4.67 3.33 2.33 1.67 1.33 1 .67 .33 0 -.33 -.67 -1 -1.33 -1.67 -2 -2.33 -2.67 -3 "
    "-3.33 -3.67 -4 -4.67 -5.33 -6.15 -7.25 -8.84 -11.31 -15.64 -25"
)
NAMES = ("hdl64", "hdl32", "vlp16", "av2", "rings128", "random")
MIXTURE = {"hdl64": 0.38, "av2": 0.20, "hdl32": 0.10, "vlp16": 0.04, "random": 0.28}


@dataclass(frozen=True)
class Sensor:
    """One turn of a sensor: a ray for every ring and column."""

    name: str
    elevations: np.ndarray
    """Degrees, one a ring, in the order of the file."""
    columns: int
    height: float
    """Metres above the ground."""
    reach: float
    """Metres at which a surface of albedo .1 still answers."""
    forward: float = 0.0
    """Metres that the sensor lies before the origin of its frame."""
    upright: bool = True
    """Whether z of the frame begins at the sensor (True) or at the ground (False)."""

    def __post_init__(self) -> None:
        rings = self.elevations.size if self.elevations.ndim == 1 else 0
        if not 1 <= rings <= 512 or not 16 <= self.columns <= 20000:
            raise ConfigError(f"sensor {self.name}: 1 to 512 rings and 16 to 20,000 columns are possible.")
        if not (np.isfinite(self.elevations).all() and (np.abs(self.elevations) < 89).all()):
            raise ConfigError(f"sensor {self.name}: elevations are degrees between -89 and 89.")
        if not (0.2 < self.height < 10 and 1 < self.reach <= 1000 and abs(self.forward) <= 100):
            raise ConfigError(
                f"sensor {self.name}: height lies in .2 to 10 m, reach in 1 to 1,000 m, forward within 100 m."
            )


def sensor(name: str, rng: np.random.Generator) -> Sensor:
    """A sensor by name or TOML file, with the mounting and the small differences of one unit.

    Raises:
        ConfigError: no such sensor, or a file that lacks a key.
    """
    u = rng.uniform
    match name:
        case "hdl64":
            table = np.array(HDL64.split(), float)
            return Sensor(name, table + u(-0.4, 0.6), 2007, u(1.6, 1.78), 60.0)
        case "av2":
            table = np.array(AV2.split(), float)
            both = np.concatenate([table, -table])
            return Sensor(name, both, 1800, u(1.85, 2.1), 80.0, u(0.0, 1.6), False)
        case "hdl32":
            return Sensor(name, np.linspace(10.67, -30.67, 32), 1085, u(1.7, 2.0), 50.0)
        case "vlp16":
            return Sensor(name, np.linspace(15.0, -15.0, 16), 1800, u(1.5, 2.0), 50.0)
        case "rings128":
            return spread_rings(name, 128, -25.0, 15.0, u(-1.5, 0.0), 1.6, 1800, u(1.6, 2.0), 70.0, rng)
        case "random":
            rings = int(rng.choice([32, 40, 64, 96, 128]))
            return spread_rings(
                name, rings, u(-26, -14), u(2, 14), u(-2, 0.5), u(1, 2.2),
                int(u(900, 2000)), u(1.5, 2.3), u(45, 90), rng,
            )  # fmt: skip
        case "mixture":
            return sensor(str(rng.choice(list(MIXTURE), p=list(MIXTURE.values()))), rng)
    if name.endswith(".toml"):
        return read_sensor(Path(name))
    raise ConfigError(f"no sensor {name!r}; there are {', '.join(NAMES)}, mixture, or a .toml file.")


def spread_rings(
    name: str,
    rings: int,
    low: float,
    high: float,
    horizon: float,
    power: float,
    columns: int,
    height: float,
    reach: float,
    rng: np.random.Generator,
) -> Sensor:
    """Rings denser towards the horizon."""
    share = (high - horizon) / (high - low)
    upper = max(2, round(rings * share**0.7))
    top = horizon + (high - horizon) * np.linspace(1, 0, upper, endpoint=False) ** power
    bottom = horizon - (horizon - low) * np.linspace(0, 1, rings - upper) ** power
    forward = rng.uniform(-0.5, 1.6)
    return Sensor(
        name, np.concatenate([top, bottom]), columns, height, reach, forward, bool(rng.random() < 0.7)
    )


def read_sensor(path: Path) -> Sensor:
    """A sensor from a TOML file with elevations, columns, height, reach and, perhaps, forward.

    Raises:
        ConfigError: the file cannot be read, lacks a key, or has numbers of no sensor.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return Sensor(
            path.stem,
            np.array(table["elevations"], float),
            int(table["columns"]),
            float(table.get("height", 1.7)),
            float(table.get("reach", 60.0)),
            float(table.get("forward", 0.0)),
        )
    except ConfigError:  # numbers, but not those of a sensor
        raise
    except (OSError, OverflowError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: a sensor is TOML with elevations and columns, all numbers.") from error
