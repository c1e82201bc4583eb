"""Bluetooth Mesh in our plain JSON: a Sensor Status that the gateway, a node of the network, has decrypted.

README.md beside this file says which keys an entry has. Sources: Bluetooth SIG, "Mesh Protocol" 1.1, 3.4.2 (unicast
addresses), 3.8.4 (sequence numbers: 24 bits), 3.9.6.3.2 (Network ID); decode/formats/mesh.py for the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from processor.decode.formats import mesh
from processor.decode.gateways.heard import Advertisement, address_if, data_or_base64_in, refusal, rssi_in
from processor.reading import Reading

MESH = "mesh"
_NETWORK = re.compile(r"[0-9a-f]{16}")
_ELEMENT = re.compile(r"(?!0000)[0-7][0-9a-f]{3}")
_SEQUENCES = 1 << 24


def status(item: Mapping[str, Any], at: int, gateway: str | None) -> Reading | Advertisement:
    """Return the Reading of an entry's access message; `at` is when it was measured, in ms since 1970.

    A message of another model than a sensor gives an advertisement without data. Raises DecodeError.
    """
    get = item.get
    if "data" in item:
        raise refusal(
            "shape", "an entry has `data` (AD structures) or `mesh` (an access message), not both", MESH, item
        )
    device = _device(get("address"), get("network"), item)
    message = data_or_base64_in(get("mesh"), MESH)
    rssi = rssi_in(get("rssi"), MESH)
    sequence = get("sequence")
    if sequence is not None and not (type(sequence) is int and 0 <= sequence < _SEQUENCES):
        raise refusal("value", "a sequence number is a whole number of 24 bits", MESH, sequence)
    decoded = mesh.decode(message)
    if decoded is None:
        return Advertisement(address_if(get("address")), rssi, at, b"", gateway)
    digest = crc32(message) & 0xFFFFFF
    return Reading(device, at, decoded.format, decoded.values, sequence, digest, gateway, rssi)


def _device(address: Any, network: Any, item: Mapping[str, Any]) -> str:
    """Return the node's Bluetooth address, or `mesh:NETWORK.ELEMENT`: every network has an element 0001."""
    if network is None:
        node = address_if(address)
        if node is not None:
            return node
    elif type(network) is str and type(address) is str:
        network, address = network.lower(), address.lower()
        if _NETWORK.fullmatch(network) and _ELEMENT.fullmatch(address):
            return f"{MESH}:{network}.{address}"
    what = "`address` is the node's Bluetooth address, or with `network` (16 hexadecimal digits) its element's (4)"
    raise refusal("address", what, MESH, item)


def entry(reading: Reading) -> dict[str, Any]:
    """Return the entry of a Reading. Raises ValueError where no property says one of its values. For encoders."""
    network, _, element = reading.device.removeprefix(f"{MESH}:").partition(".")
    found: dict[str, Any] = {"address": element, "network": network} if element else {"address": reading.device}
    if reading.counter is not None:
        found["sequence"] = reading.counter
    message = mesh.SENSOR_STATUS.encode(reading.values)
    return found | {"rssi": reading.rssi, "timestamp": reading.at, MESH: message.hex()}
