"""What a sensor measured: `Reading`, and the registry of quantities that names its values."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Literal, NamedTuple

from processor.errors import DecodeError

Value = int | float | str | bool
"""Numbers are exact: an int, or the float nearest to a decimal of at most 15 digits (its `repr` is that decimal)."""

Kind = Literal["number", "identifier", "counter", "flag", "text", "event"]


_NAMED = re.compile(r"(?![0-9a-f]{2}:)[a-z0-9_.]{1,64}:.{1,64}")
"""Namespaces as decode/gateways/readings.py takes them: a short word, or the format's name."""


class Quantity(NamedTuple):
    """One thing that sensors report.

    `key` is its short name in the table. Numbers are rolled up; an identifier is a number whose mean says nothing;
    a counter only tells one measurement from the next; flags are true or false; texts are kept as they are; an event
    happened at its time and has no value between two readings.
    """

    name: str
    unit: str
    key: str
    kind: Kind = "number"


_REGISTRY = (
    Quantity("temperature", "°C", "t"),
    Quantity("humidity", "%", "h"),
    Quantity("pressure", "Pa", "p"),
    Quantity("acceleration_x", "g", "ax"),
    Quantity("acceleration_y", "g", "ay"),
    Quantity("acceleration_z", "g", "az"),
    Quantity("battery", "%", "b"),
    Quantity("battery_voltage", "V", "v"),
    Quantity("tx_power", "dBm", "tx"),
    Quantity("movement_counter", "", "mc"),
    Quantity("sequence", "", "s", "counter"),
    Quantity("packet_id", "", "id", "counter"),
    Quantity("pm1_0", "µg/m³", "pma"),
    Quantity("pm2_5", "µg/m³", "pmb"),
    Quantity("pm4_0", "µg/m³", "pmc"),
    Quantity("pm10", "µg/m³", "pmd"),
    Quantity("co2", "ppm", "co"),
    Quantity("voc_index", "", "voc"),
    Quantity("nox_index", "", "nox"),
    Quantity("illuminance", "lx", "lx"),
    Quantity("mass", "kg", "kg"),
    Quantity("mass_lb", "lb", "lb"),
    Quantity("dew_point", "°C", "dp"),
    Quantity("count", "", "n"),
    Quantity("energy", "kWh", "e"),
    Quantity("power", "W", "w"),
    Quantity("tvoc", "µg/m³", "tvoc"),
    Quantity("moisture", "%", "mo"),
    Quantity("rotation", "°", "rot"),
    Quantity("distance", "m", "d"),
    Quantity("duration", "s", "dur"),
    Quantity("current", "A", "a"),
    Quantity("speed", "m/s", "sp"),
    Quantity("uv_index", "", "uv"),
    Quantity("volume", "L", "vol"),
    Quantity("volume_flow_rate", "m³/h", "vfr"),
    Quantity("volume_storage", "L", "vs"),
    Quantity("gas", "m³", "gas"),
    Quantity("water", "L", "wat"),
    Quantity("timestamp", "s", "ts", "identifier"),  # since 1970
    Quantity("acceleration", "m/s²", "acc"),
    Quantity("gyroscope", "°/s", "gyr"),
    Quantity("conductivity", "µS/cm", "ec"),
    Quantity("direction", "°", "dir"),
    Quantity("precipitation", "mm", "rain"),
    Quantity("channel", "", "ch", "identifier"),
    Quantity("rotational_speed", "rpm", "rpm"),
    Quantity("light_level", "", "ll"),  # BTHome: 0 dark, 1 twilight, 2 bright; SwitchBot Hub 2: 1 to 21
    Quantity("settings_revision", "", "rev", "identifier"),
    Quantity("device_type_id", "", "dti", "identifier"),
    Quantity("firmware_version", "", "fw", "text"),
    Quantity("text", "", "txt", "text"),
    Quantity("raw", "", "raw", "text"),
    Quantity("button", "", "btn", "event"),
    Quantity("command", "", "cmd", "event"),
    Quantity("dimmer", "", "dim", "event"),
    Quantity("generic_boolean", "", "gen", "flag"),
    Quantity("power_on", "", "on", "flag"),
    Quantity("opening", "", "open", "flag"),
    Quantity("battery_low", "", "bl", "flag"),
    Quantity("battery_charging", "", "bc", "flag"),
    Quantity("carbon_monoxide", "", "cm", "flag"),
    Quantity("cold", "", "cold", "flag"),
    Quantity("connectivity", "", "conn", "flag"),
    Quantity("door", "", "door", "flag"),
    Quantity("garage_door", "", "gd", "flag"),
    Quantity("gas_detected", "", "gasd", "flag"),
    Quantity("heat", "", "heat", "flag"),
    Quantity("light", "", "lit", "flag"),
    Quantity("unlocked", "", "unlk", "flag"),
    Quantity("moisture_detected", "", "wet", "flag"),
    Quantity("motion", "", "mot", "flag"),
    Quantity("moving", "", "mov", "flag"),
    Quantity("occupancy", "", "occ", "flag"),
    Quantity("plug", "", "plug", "flag"),
    Quantity("presence", "", "pres", "flag"),
    Quantity("problem", "", "prob", "flag"),
    Quantity("running", "", "run", "flag"),
    Quantity("safety", "", "safe", "flag"),
    Quantity("smoke", "", "smk", "flag"),
    Quantity("sound", "", "snd", "flag"),
    Quantity("tamper", "", "tamp", "flag"),
    Quantity("vibration", "", "vib", "flag"),
    Quantity("window", "", "win", "flag"),
    Quantity("uuid", "", "uuid", "text"),
    Quantity("major", "", "maj", "identifier"),
    Quantity("minor", "", "mnr", "identifier"),
    Quantity("namespace", "", "ns", "text"),
    Quantity("instance", "", "ins", "text"),
    Quantity("url", "", "url", "text"),
    Quantity("eid", "", "eid", "text"),
    Quantity("serial_number", "", "sn", "text"),
    Quantity("device_name", "", "dn", "text"),
    Quantity("sound_level", "dB", "db"),
    Quantity("etvoc", "ppb", "etv"),
    Quantity("eco2", "ppm", "eco"),
    Quantity("discomfort_index", "", "di"),
    Quantity("heat_stroke", "°C", "hs"),
    Quantity("si_value", "kine", "si"),
    Quantity("pga", "Gal", "pga"),
    Quantity("seismic_intensity", "", "shi"),
    Quantity("acceleration_x_gal", "Gal", "gx"),
    Quantity("acceleration_y_gal", "Gal", "gy"),
    Quantity("acceleration_z_gal", "Gal", "gz"),
    Quantity("earthquake", "", "eq", "flag"),
    Quantity("memory_index", "", "mi", "identifier"),
    Quantity("ambient_temperature", "°C", "ta"),
    Quantity("alarm_temperature", "°C", "tal"),
    Quantity("external_probe", "", "ext", "flag"),
    Quantity("magnet", "", "mag", "flag"),
    Quantity("digital_input", "", "din", "flag"),
    Quantity("button_pressed", "", "bp", "flag"),
    Quantity("pitch", "°", "pit"),
    Quantity("roll", "°", "rol"),
    Quantity("radon", "Bq/m³", "rn"),
    Quantity("radiation_dose", "nSv", "rd"),
    Quantity("radiation_dose_rate", "nSv/h", "rdr"),
    Quantity("measurement_interval", "s", "ivl"),
    Quantity("measurement_age", "s", "age"),
    Quantity("measurement_count", "", "cnt", "counter"),
    Quantity("tank_level_raw", "", "lvl"),
    Quantity("reading_quality", "", "q"),  # 0 none to 3 high
    Quantity("differential_pressure", "Pa", "pd"),
    Quantity("formaldehyde", "mg/m³", "hcho"),
    Quantity("voltage", "V", "volt"),
    Quantity("voc_concentration", "ppb", "vocb"),
    Quantity("motion_level", "%", "ml"),
    Quantity("people_count", "", "ppl"),
    Quantity("time_since_motion", "s", "tsm"),
    Quantity("button_count", "", "bcnt"),  # goes up with each press and starts anew after the highest
    Quantity("left_open", "", "lo", "flag"),  # open for longer than its alarm allows
    Quantity("digital_output", "", "dout", "flag"),
    Quantity("latitude", "°", "lat"),
    Quantity("longitude", "°", "lon"),
    Quantity("battery_level", "", "blv", "identifier"),  # steps of a device's own
    Quantity("signal_level", "", "slv", "identifier"),  # steps of a modem's own
    Quantity("advertisement_count", "", "adv", "counter"),
    Quantity("uptime_s", "s", "up"),
)

QUANTITIES: dict[str, Quantity] = {quantity.name: quantity for quantity in _REGISTRY}
KEYS: dict[str, str] = {quantity.name: quantity.key for quantity in QUANTITIES.values()}
NAMES: dict[str, str] = {quantity.key: quantity.name for quantity in QUANTITIES.values()}
"""Short key → name."""
COUNTERS = frozenset(quantity.name for quantity in QUANTITIES.values() if quantity.kind == "counter")


def quantity(name: str) -> Quantity:
    """Return the quantity called `name`; `temperature_2` is a device's second temperature.

    Raises KeyError where the registry has no such quantity.
    """
    found = QUANTITIES.get(name)
    if found is None:
        base, _, number = name.rpartition("_")
        if not re.fullmatch(r"[2-9]|[1-9][0-9]+", number) or base not in QUANTITIES:
            raise KeyError(f"no quantity is called {name!r}: see processor/reading.py")
        first = QUANTITIES[base]
        found = first._replace(name=name, key=f"{first.key}_{number}")
    return found


def key_of(name: str) -> str:
    """Return the short key of a quantity's name (`temperature` → `t`, `temperature_2` → `t_2`)."""
    return KEYS.get(name) or quantity(name).key


def name_of(key: str) -> str:
    """Return the quantity's name of a short key: `key_of` backwards."""
    found = NAMES.get(key)
    if found is None:
        base, _, number = key.rpartition("_")
        found = f"{NAMES[base]}_{number}"
    return found


class Reading(NamedTuple):
    """One measurement of one sensor.

    `at` is when it was measured, in ms since 1970 (None where nobody said). `counter` is the sensor's own
    count, where the format has one that identifies a measurement; `digest` is 24 bits of the payload's hash (of the
    decrypted payload: a sensor may encrypt each repetition anew).
    Together they are the reading's identity, the same through whichever gateway it came.
    """

    device: str
    at: int | None
    format: str
    values: Mapping[str, Value]
    counter: int | None
    digest: int
    gateway: str | None = None
    rssi: int | None = None

    @property
    def identity(self) -> str:
        """Counter and digest (`205.mHvQ`), or the digest alone where the sensor does not count."""
        return identity(self.counter, self.digest)


def identity(counter: int | None, digest: int) -> str:
    """Return the identity's text: the counter, a dot and 24 bits as four letters of URL-safe Base64."""
    letters = urlsafe_b64encode(digest.to_bytes(3, "big")).decode()
    return letters if counter is None else f"{counter}.{letters}"


def address(text: str) -> str:
    """Return a Bluetooth address in this package's one spelling, `CB:B8:33:4C:88:4F`.

    Takes it with colons, dashes or nothing between the bytes. Raises DecodeError for anything else.
    """
    if len(text) == 17 and text[2] == text[5] == text[8] == text[11] == text[14] == ":":
        digits = text.replace(":", "")
    else:
        digits = text.replace("-", "").replace(":", "")
    try:
        return address_of(bytes.fromhex(digits))
    except ValueError:
        raise DecodeError(
            "address", f"a Bluetooth address has 12 hexadecimal digits, not {text[:40]!r}", where="address"
        ) from None


def device_id(text: str) -> str:
    """Return a device's id in its one spelling: a Bluetooth address, or what a gateway decoded and named itself.

    The latter is a namespace and the id in it: `imsi:295050000000001`, `acme.th:A17`, `ibeacon:UUID.MAJOR.MINOR`.
    Raises DecodeError for anything else; two hexadecimal digits are no namespace, but an address with a mistake in it.
    """
    if _NAMED.fullmatch(text) and text.isprintable():
        return text
    return address(text)


def address_of(mac: bytes) -> str:
    """Return six bytes, most significant first, in the one spelling. Raises ValueError for another length."""
    if len(mac) != 6:
        raise ValueError(f"a Bluetooth address has 6 bytes, not {len(mac)}")
    return mac.hex(":").upper()
