"""Which column is what, by the names that loggers use."""

import re
from collections.abc import Iterable

TIME = (
    "t time timestamp stamp time_stamp secs sec seconds time_s time_ms time_us time_ns timestamp_s "
    "timestamp_ms timestamp_us timestamp_ns timestamp_sec t_s t_ms t_us t_ns header_stamp field_header_stamp "
    "rosbagtimestamp datetime date_time utc utc_time gps_time time_usec time_boot_ms elapsed elapsed_s "
    "basedatetime"
).split()
AXES = {
    axis: (
        f"{axis} t{axis} p{axis} p_{axis} t_{axis} pos_{axis} pos{axis} position_{axis} p_rs_r_{axis} "
        f"{axis}_m {axis}_pos {axis}_position local_{axis} loc_{axis} true_{axis} {words}"
    ).split()
    for axis, words in (("x", "e east"), ("y", "n north"), ("z", "u up"))
}
VELOCITIES = {
    f"v{axis}": f"v{axis} v_{axis} vel_{axis} vel{axis} velocity_{axis} v_rs_r_{axis} {words}".split()
    for axis, words in (("x", "ve vel_e east_velocity"), ("y", "vn vel_n north_velocity"), ("z", "vu vel_u"))
}
GEOGRAPHIC = {
    "lat": "lat latitude lat_deg latitude_deg gps_lat".split(),
    "lon": "lon lng long longitude lon_deg longitude_deg gps_lon gps_lng".split(),
    "alt": "alt altitude height ele elevation alt_m altitude_m gps_alt alt_amsl alt_ellipsoid".split(),
}
DOWN = ("d", "down")
SUFFIXES = {axis: re.compile(rf".*_(?:position|translation|point)_{axis}") for axis in "xyz"} | {
    f"v{axis}": re.compile(rf".*_(?:velocity|linear|vel)_{axis}") for axis in "xyz"
}
TIME_SUFFIX = re.compile(r".*_(?:header_stamp|timestamp)")
SECONDS = re.compile(r"(?:.*_)?stamp_(?:secs?)")
NANOSECONDS = re.compile(r"(?:.*_)?stamp_(?:nsecs?|nanosecs?|nanosec)")
IDS = set(
    "id kind traj track trajectory trajectory_id traj_id track_id trackid object_id obj_id agent agent_id "
    "vehicle vehicle_id drone drone_id uav uav_id flight flight_id ped_id pedestrian_id target target_id "
    "mmsi run run_id name icao icao24 callsign instance".split()
)


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
    found: dict[str, str] = {}
    for ours, spellings in {"t": TIME, **AXES, **VELOCITIES, **GEOGRAPHIC, "down": DOWN}.items():
        hit = next((by_plain[spelling] for spelling in spellings if spelling in by_plain), None)
        if hit is not None and hit not in found.values():
            found[ours] = hit
    for ours, pattern in {**SUFFIXES, "sec": SECONDS, "nsec": NANOSECONDS, "t": TIME_SUFFIX}.items():
        hits = [name for spelled, name in by_plain.items() if pattern.fullmatch(spelled)]
        if hits and ours not in found:
            found[ours] = hits[0]
    return found
