"""The registry of devices: written by commands, keys encrypted for real, read by ingest and by queries."""

from __future__ import annotations

import json
import time
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace

import orjson
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from click.testing import CliRunner

from processor.cli import main
from processor.decode.advertisement import manufacturer_data, service_data
from processor.decode.formats import bthome, ruuvi
from processor.devices import Devices
from processor.errors import SettingsError, TransientError
from processor.local.system import System
from processor.reading import Reading
from processor.settings import Settings
from processor.store import client, tables
from processor.store.registry import Calibration, Device, Registry
from processor.vault import Vault

KEY = bytes(range(16))
HERS, MINE, THEIRS = (f"AA:00:00:00:00:0{n}" for n in (1, 2, 3))


@pytest.fixture
def aws(configured):
    kms = configured.client("kms")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/processor", TargetKeyId=key)
    return configured


@pytest.fixture
def registry(aws):
    tables.create(aws.client("dynamodb"), "processor-")
    with closing(client(Settings.read(aws.environment()))) as dynamodb:
        yield Registry(dynamodb, "processor-devices")


def run(*arguments, status=0, stdin=None):
    done = CliRunner().invoke(main, arguments, input=stdin)
    assert done.exit_code == status, done.output
    return done.output


def shown(*addresses):
    return {
        row["device"]: row
        for row in map(json.loads, run("devices", "show", *addresses, "--format", "json").splitlines())
    }


def vault(aws):
    return Vault(lambda: aws.client("kms"), lambda: aws.client("secretsmanager"))


def test_a_csv_is_imported_and_its_keys_are_encrypted_and_never_shown(aws, registry, tmp_path):
    source = tmp_path / "fleet.csv"
    source.write_text(
        "address,name,site,model,calibration,key,secret\n"
        f"{MINE.lower()},Cellar,Home,RuuviTag,temperature=1.02*x-0.5; humidity=x+3,{KEY.hex()},\n"
        f"{HERS},Attic,,,,,fleet/keys\n"
    )
    assert "2 devices registered" in run("devices", "import", str(source), "--kms-key", "alias/processor")
    rows = shown()
    assert rows[MINE] == {
        "device": MINE, "name": "Cellar", "site": "Home", "model": "RuuviTag",
        "calibration": "humidity=1*x+3; temperature=1.02*x-0.5", "key": "encrypted here",
    }  # fmt: skip
    assert rows[HERS]["key"] == "in the secret fleet/keys"
    stored = registry.get(MINE)
    assert KEY not in stored.key
    assert KEY.hex() not in repr(stored) + str(rows)
    assert vault(aws).open(stored).key == KEY


def test_json_and_set_change_only_what_they_say(registry, tmp_path):
    source = tmp_path / "fleet.json"
    source.write_text(json.dumps([{"address": MINE, "name": "Cellar", "secret": "old"}]))
    run("devices", "import", str(source))
    run("devices", "set", MINE, "--site", "Home")
    run("devices", "set", MINE, "--key", "-", "--kms-key", "alias/processor", stdin=f"{KEY.hex()}\n")
    row = shown(MINE)[MINE]
    assert (row["name"], row["site"], row["key"]) == ("Cellar", "Home", "encrypted here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("address,name\nnobody,x\n", "line 2"),
        (f"address,color\n{MINE},red\n", "no column is called color"),
        (f"address,key\n{MINE},00ff\n", "32 hexadecimal digits"),
        (f"address,key\n{MINE},{KEY.hex()}\n", "--kms-key"),
        (f"address,calibration\n{MINE},warmth=x+1\n", "no calibration"),
        (f"address,name\n{MINE},\n", "nothing but an address"),
        ("address,name\n", "has no devices"),
        (f"address,calibration\n{MINE},temperature=5\n", "no calibration"),  # not a scale: what is x?
        (f"address,calibration\n{MINE},temperature=x2\n", "no calibration"),
        (f"address,calibration\n{MINE},temperature=NaN*x\n", "no calibration"),
        (f"address,calibration\n{MINE},door=x+3\n", "no calibration"),  # a flag
        (f'address,name\n{HERS},"two\nlines"\n{MINE},\n', "line 4: there is nothing but an address"),
        (f"address,name\n{MINE},x\n{MINE.lower()},y\n", "line 3: AA:00:00:00:00:02 comes twice"),
        (f"address,name\n{MINE},x,y\n", "line 2: more cells"),
        (f'address,name\n{MINE},"x\n', "not CSV"),
        ("address,name\naa:00:00:00:00:0z,x\n", "line 2: address"),
        (f'[{{"address": "{MINE}", "name":\n', "line 2: not JSON"),
        ("[1]", "entry 1: a device is an object"),
        (f'["{MINE}"]', "entry 1: a device is an object"),
        (f"address,name\n{MINE},K\xfcche\n", "not UTF-8"),
        (f"address,secret\n{MINE},a b\n", "line 2: 'a b' is no secret's name"),
    ],
)
def test_a_file_with_a_mistake_registers_nobody_and_names_its_place(registry, tmp_path, text, message):
    source = tmp_path / "fleet.csv"
    source.write_text(text, encoding="latin-1")
    assert message in run("devices", "import", str(source), status=1)
    assert list(registry.all()) == []


@pytest.mark.parametrize(
    ("secret", "warned"),
    [
        ("shop-prod/keys", False),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:shop-prod/keys-a1b2c3", False),
        ("fleet/keys", True),
        ("shop-production/keys", True),
        ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:fleet/keys-a1b2c3", True),
    ],
)
def test_a_secret_that_the_function_may_not_read_is_warned_of(aws, monkeypatch, tmp_path, secret, warned):
    """It would be denied to the function, and what the device encrypts would go to quarantine."""
    tables.create(aws.client("dynamodb"), "shop-prod-")
    monkeypatch.setenv("TABLE_PREFIX", "shop-prod-")
    source = tmp_path / "fleet.csv"
    source.write_text(f"address,secret\n{MINE},{secret}\n{HERS},shop-prod/hers\n")
    said = [run("devices", "set", MINE, "--secret", secret), run("devices", "import", str(source))]
    assert [f"{MINE}: ingest may read secrets called shop-prod/" in each for each in said] == [warned, warned]
    assert not any(HERS in each for each in said)


def test_where_no_deployment_is_named_no_secret_is_warned_of(registry):
    assert run("devices", "set", MINE, "--secret", "fleet/keys") == f"{MINE} registered\n"


def test_what_a_gateway_decoded_and_named_is_registered_by_that_name(registry, tmp_path):
    """A SORACOM button is its SIM, a user's own source a namespace and an id: neither has a Bluetooth address."""
    source = tmp_path / "fleet.csv"
    source.write_text("address,name\nimsi:295050000000001,Doorbell\nacme:A17,Roof\n")
    run("devices", "import", str(source))
    run("devices", "set", "acme:A17", "--calibration", "temperature = x - 0.5")
    assert shown("acme:A17")["acme:A17"]["calibration"] == "temperature=1*x-0.5"
    assert shown("imsi:295050000000001").keys() == {"imsi:295050000000001"}


def test_a_single_object_is_a_fleet_of_one(registry, tmp_path):
    source = tmp_path / "one.json"
    source.write_text(json.dumps({"address": MINE, "name": "Cellar"}))
    assert "1 devices registered" in run("devices", "import", str(source))


def test_a_key_is_bound_to_its_device(aws, registry):
    sealed = vault(aws).seal(MINE, KEY, "alias/processor")
    with pytest.raises(Exception, match="EncryptionContext"):
        vault(aws).open(Device(HERS, key=sealed))


def test_keys_come_from_secrets_alone_or_by_address(aws):
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name="one", SecretString=KEY.hex())
    secrets.create_secret(Name="all", SecretString=json.dumps({MINE: KEY.hex()}))
    secrets.create_secret(Name="bad", SecretString="hello")
    assert vault(aws).open(Device(MINE, secret="one")).key == KEY
    assert vault(aws).open(Device(MINE, secret="all")).key == KEY
    for device in (Device(HERS, secret="all"), Device(MINE, secret="bad")):
        with pytest.raises(SettingsError, match="no bindkey"):
            vault(aws).open(device)


def test_the_registry_is_asked_once_in_a_while_for_absent_devices_too(aws, registry):
    registry.put(Device(MINE, name="Cellar", key=vault(aws).seal(MINE, KEY, "alias/processor")))
    now = [0.0]
    asked = []

    class Counting(Registry):
        def answers(self, addresses, *, deadline=None):
            asked.append(list(addresses))
            return super().answers(asked[-1], deadline=deadline)

    devices = Devices(Counting(registry._client, "processor-devices"), vault(aws), clock=lambda: now[0])
    devices.load([MINE, HERS])
    assert (devices.registered(MINE), devices.registered(HERS)) == (True, False)
    assert (devices.get(MINE), devices.get(HERS)) == (KEY, None)
    assert len(asked) == 1
    registry.put(Device(HERS, name="Attic"))
    assert not devices.registered(HERS)
    now[0] = 301.0
    assert devices.registered(HERS)
    assert len(asked) == 2


def refusing(code):
    """KMS and Secrets Manager, both of which answer with this code."""

    def refuse(**_):
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "Decrypt")

    return Vault(lambda: SimpleNamespace(decrypt=refuse), lambda: SimpleNamespace(get_secret_value=refuse))


# AccessDeniedException is none of them: access is granted by KMS key and name of secret, so it may concern one device.
MENDED = [
    "DependencyTimeoutException", "DisabledException", "InternalServiceError",
    "KMSInternalException", "KMSInvalidStateException", "KeyUnavailableException", "ThrottlingException",
]  # fmt: skip


@pytest.mark.parametrize("code", MENDED)
@pytest.mark.parametrize(
    "device", [Device(MINE, secret="fleet/keys"), Device(MINE, key=b"sealed")], ids=["secret", "key"]
)
def test_where_the_keys_cannot_be_had_the_record_comes_again(registry, device, code):
    registry.put(device)
    devices = Devices(registry, refusing(code))
    with pytest.raises(TransientError, match="bindkey"):
        devices[MINE]


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url="https://secrets"),
        EndpointConnectionError(endpoint_url="https://secrets"),
        NoCredentialsError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_where_nobody_answers_for_the_keys_the_record_comes_again(registry, error):
    def refuse(**_):
        raise error

    registry.put(Device(MINE, secret="fleet/keys"))
    devices = Devices(registry, Vault(lambda: None, lambda: SimpleNamespace(get_secret_value=refuse)))
    with pytest.raises(TransientError, match="bindkey"):
        devices[MINE]


@pytest.mark.parametrize("code", [
    "AccessDeniedException", "DecryptionFailure", "InvalidParameterException", "InvalidRequestException",
    "ResourceNotFoundException", "ValidationException",
])  # fmt: skip
def test_a_secret_that_cannot_be_had_stops_its_own_device_and_no_shard(registry, code):
    registry.put(Device(MINE, secret="fleet/keys"))
    assert MINE not in Devices(registry, refusing(code))


@pytest.mark.parametrize("code", [
    "AccessDeniedException", "IncorrectKeyException", "InvalidCiphertextException", "InvalidKeyUsageException",
    "NotFoundException", "ValidationException",
])  # fmt: skip
def test_a_sealed_key_that_nothing_opens_stops_its_own_device_and_no_shard(registry, code):
    registry.put(Device(MINE, key=b"sealed"))
    assert MINE not in Devices(registry, refusing(code))


def test_a_lost_key_stops_its_own_device_and_no_shard(aws, registry):
    """A secret whose name was mistyped, and a key that was copied from another device, would never be had."""
    registry.put(Device(MINE, secret="nowhere"))
    registry.put(Device(HERS, key=vault(aws).seal(MINE, KEY, "alias/processor")))
    devices = Devices(registry, vault(aws))
    assert MINE not in devices
    assert HERS not in devices
    assert devices.registered(MINE)


NESTED = '{"":' * 10_000 + "0" + "}" * 10_000


@pytest.mark.parametrize("answer", [{"SecretBinary": KEY}, {"SecretString": NESTED}], ids=["binary", "nested"])
def test_a_secret_of_another_kind_stops_its_own_device_and_no_shard(registry, answer):
    registry.put(Device(MINE, secret="fleet/keys"))
    holding = SimpleNamespace(get_secret_value=lambda **_: answer)
    assert MINE not in Devices(registry, Vault(lambda: None, lambda: holding))


def test_a_secret_s_name_that_somebody_emptied_by_hand_is_none(aws, registry):
    """botocore refuses to ask for it at all, which is no answer that a record could wait for."""
    aws.client("dynamodb").put_item(TableName="processor-devices", Item={"device": {"S": MINE}, "secret": {"S": ""}})
    assert MINE not in Devices(registry, vault(aws))


def test_calibration_is_exact_and_leaves_texts_and_flags_alone():
    device = Device(
        MINE, calibration={"temperature": Calibration(Decimal("1.02"), Decimal("-0.5")), "door": Calibration()}
    )
    reading = Reading(MINE, 0, "x", {"temperature": 24.3, "door": True, "text": "x", "humidity": 50}, None, 0)
    assert device.calibrated(reading).values == {"temperature": 24.286, "door": True, "text": "x", "humidity": 50}
    assert Calibration(Decimal(2)).apply(3) == 6
    assert isinstance(Calibration(Decimal(2)).apply(3), int)


def posts(now):
    """What a gateway hears: my encrypted sensor, hers with a wrong key, a neighbour's, and a plain one of mine."""

    def encrypted(device, key):
        data = bthome.encode({"packet_id": 1, "temperature": 21.5}, key=key, address=device, counter=7)
        return {"address": device, "timestamp": now, "data": service_data(bthome.UUID, data).hex()}

    plain = manufacturer_data(ruuvi.COMPANY, ruuvi.RAWV2.encode({"temperature": 20.5, "sequence": 1}, address=MINE))
    return [
        encrypted(MINE, KEY),
        encrypted(HERS, bytes(16)),
        encrypted(THEIRS, bytes(16)),
        {"address": "AA:00:00:00:00:04", "timestamp": now, "data": plain.hex()},
    ]


@pytest.mark.parametrize("who", ["any", "registered"])
def test_ingest_decrypts_with_the_registrys_keys_and_may_store_registered_devices_only(aws, who):
    with System(aws=aws, variables={"DEVICES": who}) as system:
        known = Registry(system.reader._client, "processor-devices")
        known.put(Device(MINE, name="Cellar", key=vault(aws).seal(MINE, KEY, "alias/processor")))
        known.put(Device(HERS, name="Attic"))
        now = round(time.time() * 1000)
        system.send([orjson.dumps({"payloads": posts(now), "timestamp": now, "imsi": "29505"})])
        system.drain(60)
        ledger = dict(system.totals.ledger)
        (reading,) = system.reader.latest(MINE)
        assert reading.values["temperature"] == 21.5
        assert system.totals.reasons == {"key_missing": 1}  # hers: registered, so it waits for its key
        if who == "any":
            assert system.totals.ignored == {"no_key": 1}
            assert ledger == {"received": 4, "stored": 2, "duplicates": 0, "rejected": 1, "ignored": 1, "failed": 0}
        else:
            assert system.totals.ignored == {"no_key": 1, "unregistered": 1}
            assert ledger == {"received": 4, "stored": 1, "duplicates": 0, "rejected": 1, "ignored": 2, "failed": 0}


def test_a_button_s_presses_are_stored_where_its_sim_is_registered_and_queried_by_it(aws):
    """SORACOM's LTE-M Button has no Bluetooth address."""
    mine, theirs = "295050000000001", "295050000000002"
    with System(aws=aws, variables={"DEVICES": "registered"}) as system:
        run("devices", "set", f"imsi:{mine}", "--name", "Doorbell")
        now = round(time.time() * 1000)
        press = {"clickType": 1, "clickTypeName": "SINGLE", "batteryLevel": 0.75}
        system.send([orjson.dumps({"payloads": press, "timestamp": now, "imsi": imsi}) for imsi in (mine, theirs)])
        system.drain(60)
        assert system.totals.ignored == {"unregistered": 1}
        found = json.loads(run("query", f"imsi:{mine}", "--last", "1", "--format", "json"))
        assert (found["button"], found["battery"]) == ("press", 75)


def test_query_calibrates_unless_asked_not_to(aws):
    with System(aws=aws, any_age=True) as system:
        now = round(time.time() * 1000)
        system.send([orjson.dumps({"payloads": posts(now)[3:], "timestamp": now, "imsi": "29505"})])
        system.drain(60)
        run("devices", "set", "AA:00:00:00:00:04", "--calibration", "temperature=x-0.5")
        found = [
            json.loads(run("query", "AA:00:00:00:00:04", "--last", "1", "--format", "json", *raw))["temperature"]
            for raw in ((), ("--raw",))
        ]
        assert found == [20.0, 20.5]
        assert "AA:00:00:00:00:04" in run("devices")


def test_a_model_said_in_one_record_decodes_what_comes_in_another_and_outlives_the_environment(aws):
    """SwitchBot says its model only in the scan response; the values come in the manufacturer data."""
    said = service_data(0xFD3D, bytes.fromhex("5400e4"))  # a Meter: its model and battery, no values
    values = manufacturer_data(0x0969, bytes.fromhex("d7c17d5deb43de03069835"))
    device = "AA:BB:CC:DD:EE:0F"
    with System(aws=aws) as system:

        def post(data, seconds):
            now = round(time.time() * 1000) - seconds * 1000
            entry = {"address": device, "timestamp": now, "data": data.hex()}
            system.send([orjson.dumps({"payloads": [entry], "timestamp": now, "imsi": "29505"})])
            system.drain(60)

        post(values, 50)
        assert system.totals.ignored == {"unknown_format": 1}
        post(said, 40)
        system.function.kill()  # another environment, with nothing in memory
        post(values, 30)
        found = system.reader.latest(device, 9)
        assert any("temperature" in reading.values for reading in found), found
        assert system.check().passed, system.check().differences()
