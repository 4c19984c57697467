"""Which column is what, by the names that loggers use."""

import re
from collections.abc import Iterable

from apps.trajectory.formats.units import bare

TIME = (
    "t time timestamp stamp time_stamp secs sec seconds time_s time_ms time_us time_ns timestamp_s "
    "timestamp_ms timestamp_us timestamp_ns timestamp_sec t_s t_ms t_us t_ns header_stamp field_header_stamp "
    "rosbagtimestamp datetime date_time utc utc_time gps_time time_usec time_boot_ms elapsed elapsed_s "
    "basedatetime timeus timems ts epoch epoch_s epoch_ms unix_time unixtime unix_timestamp posix_time tow "
    "tow_s tow_ms gps_tow timestamp_utc time_since_start uptime uptime_s uptime_ms flytime "
    "fly_time flight_time tstamp base_date_time global_time date_time_utc utc_datetime"
).split()
AXES = {
    axis: (
        f"{axis} t{axis} p{axis} p_{axis} t_{axis} pos_{axis} pos{axis} position_{axis} p_rs_r_{axis} "
        f"{axis}_m {axis}center {axis}_center center_{axis} {axis}_pos {axis}_position local_{axis} "
        f"loc_{axis} true_{axis} {words}"
    ).split()
    for axis, words in (("x", "e east pe"), ("y", "n north pn"), ("z", "u up"))
}
VELOCITIES = {
    f"v{axis}": (
        f"v{axis} v_{axis} {axis}velocity {axis}_velocity vel_{axis} vel{axis} velocity_{axis} "
        f"v_rs_r_{axis} {words}"
    ).split()
    for axis, words in (("x", "ve vel_e east_velocity"), ("y", "vn vel_n north_velocity"), ("z", "vu vel_u"))
}
GEOGRAPHIC = {
    "lat": "lat latitude lat_deg latitude_deg gps_lat gps_latitude lat_rad latitude_rad".split(),
    "lon": (
        "lon lng long longitude lon_deg longitude_deg gps_lon gps_lng gps_longitude lon_rad lng_rad "
        "longitude_rad"
    ).split(),
    # absolute before relative, geometric before barometric
    "alt": (
        "alt altitude ele elevation gps_alt gps_altitude gpsaltitude geoaltitude geo_altitude alt_ellipsoid "
        "altitude_ellipsoid alt_geom geom_alt geometric_altitude altitude_geometric alt_hae altitude_hae "
        "alt_amsl altitude_amsl altitudeamsl altitude_msl alt_msl altitude_above_sealevel baroaltitude "
        "baro_altitude alt_baro baro_alt barometric_altitude pressure_altitude height relhomealt "
        "altituderelative altitude_relative relative_alt "
        "relative_altitude rel_alt height_above_takeoff ascent"
    ).split(),
}
WAYS = {
    "speed": "sog speed_over_ground ground_speed groundspeed gps_speed speed velocity spd".split(),
    "course": "cog course_over_ground course heading track_angle hdg".split(),
}
"""Columns of speed and direction of movers whose places are geographic."""
DOWN = ("d", "down", "pd")
PAIRS = ("position", "coordinates", "coordinate", "location", "latlng", "lat_lng", "latlon", "lat_lon")
"""Columns that hold latitude and longitude as one text."""
DATES = ("date", "utc_date", "date_utc", "gps_date")
"""Columns of the day, where the time is one of the day."""
COUNTS = "timestep time_step frame frame_id frame_number frame_num frame_index frameid framenum".split()
"""Columns that count samples or frames."""
SUFFIXES = (
    {axis: re.compile(rf".*(?:position|translation|point)_{axis}") for axis in "xyz"}
    | {f"v{axis}": re.compile(rf".*(?:velocity|linear|vel)_{axis}") for axis in "xyz"}
    | {
        "lat": re.compile(r".*_(?:lat|latitude)"),
        "lon": re.compile(r".*_(?:lon|lng|longitude)"),
        "alt": re.compile(r".*_(?:alt|altitude)"),
    }
)
TIME_SUFFIX = re.compile(r".*_(?:header_stamp|timestamp|fly_?time|flight_?time|elapsed_?time)")
SECONDS = re.compile(r"(?:.*_)?stamp_(?:secs?)")
NANOSECONDS = re.compile(r"(?:.*_)?stamp_(?:nsecs?|nanosecs?|nanosec)")
SPELLED = frozenset(
    spelling
    for table in (AXES, VELOCITIES, GEOGRAPHIC, WAYS)
    for spellings in table.values()
    for spelling in spellings
) | {*TIME, *DOWN, *DATES, *COUNTS, *PAIRS}
SUFFIXED = (*SUFFIXES.values(), TIME_SUFFIX, SECONDS, NANOSECONDS)
IDS: tuple[str, ...] = tuple(
    (
        "track_id trackid object_id obj_id trajectory_id traj_id agent_id vehicle_id drone_id uav_id "
        "flight_id ped_id pedestrian_id target_id run_id mmsi icao24 icao id track traj trajectory agent "
        "vehicle drone uav flight target run instance kind callsign name"
    ).split()
)
"""Names of columns that tell tracks apart, the best known first."""


def plain(name: str) -> str:
    """`pose.position.x [m]` -> `pose_position_x`."""
    name = re.sub(r"[\[(].*?[\])]", "", name).strip().lower()
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


def find_columns(names: Iterable[str]) -> dict[str, str]:
    """Our names -> the file's, as far as they are there.

    `sec` and `nsec` stand for a pair of columns of whole seconds and nanoseconds, `down` for a z axis that
    points down.
    """
    listed = list(names)
    by_plain: dict[str, str] = {}
    for name in listed:
        by_plain.setdefault(plain(name), name)
    for name in listed:  # `alt_ft` is an `alt`, where nothing else is
        by_plain.setdefault(bare(plain(name)), name)
    found: dict[str, str] = {}
    for ours, spellings in {"t": TIME, **AXES, **VELOCITIES, **GEOGRAPHIC, **WAYS, "down": DOWN}.items():
        hit = next((by_plain[spelling] for spelling in spellings if spelling in by_plain), None)
        if hit is not None and hit not in found.values():
            found[ours] = hit
    for ours, pattern in {**SUFFIXES, "sec": SECONDS, "nsec": NANOSECONDS, "t": TIME_SUFFIX}.items():
        hits = [
            name
            for spelled, name in by_plain.items()
            if pattern.fullmatch(spelled) and not spelled.startswith(("start_", "end_"))
        ]
        if hits and ours not in found:
            found[ours] = hits[0]
    return found
