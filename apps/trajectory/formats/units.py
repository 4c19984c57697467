"""Units of measure in the names of columns: `altitude(feet)`, `x [mm]`, `alt_ft` -> factors to metres."""

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
BRACKETS = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]")
ENDING = re.compile(r"_(mm|cm|m|km|ft|feet|kn|kt|kts|knots|mph|kmh|kph|mps)$", re.IGNORECASE)


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


def bare(name: str) -> str:
    """A name in small letters without its unit: `alt_ft` -> `alt`."""
    return ENDING.sub("", name)
