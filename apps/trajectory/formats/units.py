"""Units of measure in the names of columns: `altitude(feet)`, `x [mm]`, `alt_ft` -> factors to metres."""

import math
import re

LENGTHS = {
    **dict.fromkeys(("mm", "millimetres", "millimeters"), 1e-3),
    **dict.fromkeys(("cm", "centimetres", "centimeters"), 1e-2),
    **dict.fromkeys(("m", "metres", "meters", "metre", "meter"), 1.0),
    **dict.fromkeys(("km", "kilometres", "kilometers"), 1e3),
    **dict.fromkeys(("ft", "feet", "foot"), 0.3048),
}
"""Word -> metres."""
SPEEDS = {
    **dict.fromkeys(("mm/s",), 1e-3),
    **dict.fromkeys(("cm/s",), 1e-2),
    **dict.fromkeys(("m/s", "mps", "ms-1"), 1.0),
    **dict.fromkeys(("kn", "kt", "kts", "knots"), 1852 / 3600),
    **dict.fromkeys(("mph",), 0.44704),
    **dict.fromkeys(("km/h", "kmh", "kph"), 1 / 3.6),
    **dict.fromkeys(("ft/s", "fps"), 0.3048),
}
"""Word -> metres per second."""
ANGLES = {
    **dict.fromkeys(("deg", "degree", "degrees", "\N{DEGREE SIGN}"), 1.0),
    **dict.fromkeys(("rad", "radian", "radians"), 180 / math.pi),
    **dict.fromkeys(("dege7", "e7", "1e-7deg", "1e-7 deg", "1e7"), 1e-7),
    **dict.fromkeys(("cdeg",), 1e-2),
}
"""Word -> degrees."""
UNIT_WORDS = frozenset(
    (*LENGTHS, *SPEEDS, *ANGLES, "s", "sec", "ms", "us", "ns", "hz", "v", "a", "%", "m/s^2", "m/s2")
)
"""What a row of units below a header is made of."""
BRACKETS = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]")
ENDING = re.compile(
    r"_(mm|cm|m|km|ft|feet|kn|kt|kts|knots|mph|kmh|kph|mps|rad|deg|dege7|e7|cdeg)$", re.IGNORECASE
)


def word(name: str) -> str | None:
    """The unit that a name ends in or has in brackets, in lower case."""
    found = BRACKETS.search(name)
    if found:
        return found[1].lower()
    found = ENDING.search(name.strip())
    return found[1].lower() if found else None


def factor(name: str, *, speed: bool = False) -> float:
    """Metres (or metres per second) in one unit of a column; 1 where its name says none that is known."""
    unit = word(name)
    return 1.0 if unit is None else (SPEEDS if speed else LENGTHS).get(unit, 1.0)


def degrees(name: str) -> float | None:
    """Degrees in one unit of a column of latitude or longitude; None where its name says none."""
    unit = word(name)
    return None if unit is None else ANGLES.get(unit)


def bare(name: str) -> str:
    """A name in small letters without its unit: `alt_ft` -> `alt`."""
    return ENDING.sub("", name)
