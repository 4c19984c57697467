"""ADS-B as receivers write it on the BaseStation port (SBS-1): 22 cells without names; `MSG,3` is a place."""

import numpy as np
import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table, numeric
from apps.trajectory.track import Track
from core.errors import DataError

CELLS = 22
KIND, AIRCRAFT, DATE, TIME, FEET, LATITUDE, LONGITUDE = "0", "4", "6", "7", "11", "14", "15"


def is_basestation(table: Table) -> bool:
    """Whether rows of 22 cells begin with the word MSG."""
    columns = list(table.rows.columns)
    return len(columns) == CELLS and table.column(KIND).astype("str").str.strip().isin(["MSG"]).mean() > 0.5


def read_basestation(table: Table, options: Options) -> list[Track]:
    """One track per aircraft, from the messages that have a place.

    Raises:
        DataError: no message has one.
    """
    if not is_basestation(table):
        raise DataError(f"{table.path}: no rows of {CELLS} cells that begin with MSG.")
    lat, lon = (numeric(table.column(name)) for name in (LATITUDE, LONGITUDE))
    placed = (lat.notna() & lon.notna()).to_numpy()
    if not placed.any():
        raise DataError(f"{table.path}: no message of the aircraft has a place.")
    text = {name: table.column(name).astype("str").str.strip() for name in (AIRCRAFT, DATE, TIME)}
    rows = pd.DataFrame(
        {
            "time": text[DATE].str.replace("/", "-", regex=False) + " " + text[TIME],
            "icao24": text[AIRCRAFT].str.upper(),
            "lat": lat,
            "lon": lon,
            "altitude_ft": numeric(table.column(FEET)).replace(0, np.nan),
        }
    )
    kept = rows.loc[placed].reset_index(drop=True)
    return from_names(Table(table.path, kept, named=True, said=table.said), options)
