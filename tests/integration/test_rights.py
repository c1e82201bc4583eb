"""What the functions call, read off the wire, is what tests/rights.json says: no call more, and none fewer.

infra/terraform/tests/rights.tftest.hcl compares the same table with what Terraform grants.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from click.testing import CliRunner

from processor.cli import main
from processor.failures import key_of
from processor.local.aws import EmbeddedAws
from processor.local.proxy import Proxy, Reply
from processor.local.system import FUNCTIONS
from processor.quarantine import Quarantine, Rejection
from tests.integration.handlers import BUCKET, MODEL, PREFIX, changed, everything, function, furnish, kinesis

RIGHTS = json.loads((Path(__file__).parents[1] / "rights.json").read_text())
ROLE_OF_S3 = {"PUT": "PutObject", "GET": "GetObject", "DELETE": "DeleteObject", "HEAD": "GetObject"}


@pytest.fixture(scope="module")
def aws():
    with EmbeddedAws() as found:
        yield found


class Wire:
    """What goes over the wire: rights as IAM has them, an action and a resource each."""

    def __init__(self):
        self.seen = set()

    def __call__(self, call):
        """Take note of a call, and let it pass."""
        answer = None
        if call.service == "s3":
            method, _, path = call.operation.partition(" ")
            path = path.partition("?")[0].removeprefix(f"/{BUCKET}")
            action = ROLE_OF_S3[method] if path else method
            self.seen.add(f"s3:{action} BUCKET{path}")
        elif call.service == "kms":
            answer = call.forward()  # a ciphertext does not show its key, what KMS answers does
            key = json.loads(answer.partition(b"\r\n\r\n")[2])["KeyId"].rpartition("/")[2]
            self.seen.add(f"kms:{call.operation} key/{'BINDKEYS' if key == self.key else key}")
        else:
            for resource in self.resources(call):
                self.seen.add(f"{call.service}:{call.operation} {resource.replace(PREFIX, 'PREFIX')}")
        return None if answer is None else Reply(answer)

    @staticmethod
    def resources(call):
        body = json.loads(call.body)
        if call.service == "dynamodb":
            return [f"table/{name}" for name in body.get("RequestItems", [body.get("TableName")])]
        if call.service == "kinesis":
            return [f"stream/{body['StreamName']}"]
        assert call.service == "secretsmanager", call
        return [f"secret:{body['SecretId']}"]

    def compare(self, declared):
        """The calls seen that are not declared, and the declared ones not seen."""
        spare = [call for call in self.seen if not any(fnmatchcase(call, right) for right in declared)]
        unseen = [right for right in declared if not any(fnmatchcase(call, right) for call in self.seen)]
        return sorted(spare), sorted(unseen)


@pytest.fixture
def wire(aws):
    found = Wire()
    variables = furnish(aws)
    [key] = aws.client("kms").list_keys()["Keys"]
    found.key = key["KeyId"]
    with Proxy(aws.endpoint, found) as proxy:
        found.variables = variables | {"AWS_ENDPOINT_URL": proxy.endpoint}
        yield found


@pytest.mark.parametrize(
    "settings",
    [{}, {"DEVICES": "registered"}, {"DYNAMODB_CLIENT": "boto3"}],
    ids=["as it is", "registered devices only", "boto3"],
)
def test_ingest_calls_what_its_role_may_and_all_of_that(wire, settings):
    lines = []
    with function("ingest", wire.variables | settings, lines.append) as ingest:
        assert ingest.invoke(kinesis(everything(), b"{")) == {"batchItemFailures": []}
        ingest.invoke(kinesis(everything()))  # now everything is there already
    ledger = next(json.loads(line)["Ledger"] for line in lines if '"Ledger"' in line)
    assert ledger["failed"] == 0
    assert ledger["stored"] >= (2 if settings.get("DEVICES") else 4), lines
    assert wire.compare(RIGHTS["ingest"]["calls"]) == ([], [])


def test_rollup_calls_what_its_role_may_and_all_of_that(aws, wire):
    """Ranges that gained readings, lost some, and lost all."""
    with function("ingest", wire.variables, lambda line: None) as ingest:
        ingest.invoke(kinesis(everything()))
    wire.seen.clear()
    dynamodb = aws.client("dynamodb")
    items = dynamodb.scan(TableName=f"{PREFIX}-readings")["Items"]
    places = [(item["device"]["S"], item["slot"]["N"]) for item in items]
    with function("rollup", wire.variables, lambda line: None) as rollup:
        assert rollup.invoke(changed(*(("INSERT", *place) for place in places))) == {"batchItemFailures": []}
        gone = places[0]
        dynamodb.delete_item(TableName=f"{PREFIX}-readings", Key={"device": {"S": gone[0]}, "slot": {"N": gone[1]}})
        assert rollup.invoke(changed(("REMOVE", *gone), ("REMOVE", *places[1]))) == {"batchItemFailures": []}
    assert wire.compare(RIGHTS["rollup"]["calls"]) == ([], [])


def documented():
    """What processor/README.md says of each command: words such as PutObject, by command."""
    readme = (Path(__file__).parents[2] / "processor" / "README.md").read_text()
    rows = readme.partition("user of these commands may do\n")[2].partition("\nWith ")[0].strip().splitlines()[2:]
    found, above = {}, [set(), set(), set()]
    for row in rows:
        name, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        actions = set()
        for column, cell in enumerate(cells):
            said = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\bQuery\b|(?<=kms:)\w+", cell))
            said |= above[column] if re.search("the same|as above", cell) else set()
            above[column] = said or above[column]
            actions |= said
        first, *others = re.findall("`([^`]+)`", name)
        for command in (first, *(f"{first.split()[0]} {other}" for other in others)):
            found[command] = actions
    return found


def test_the_commands_call_what_the_readme_says(aws, wire, tmp_path):
    """None of them anything else; and whatever it names, one of them calls."""
    event = kinesis(everything(), b"{")
    with function("ingest", wire.variables, lambda line: None) as ingest:
        ingest.invoke(event)
    s3, at = aws.client("s3"), datetime.now(UTC)
    info = {"shardId": "shardId-000000000000", "startSequenceNumber": "1", "endSequenceNumber": "2", "batchSize": 2}
    failure = {
        "requestContext": {"requestId": "r", "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3},
        "timestamp": at.isoformat(),
        "KinesisBatchInfo": info | {"approximateArrivalOfFirstRecord": at.isoformat()},
        "payload": json.dumps(event),
    }
    changes = failure | {"payload": json.dumps(changed(("MODIFY", MODEL, int(at.timestamp()) // 15 * 15)))}
    changes["DDBStreamBatchInfo"] = changes.pop("KinesisBatchInfo") | {"shardId": "shardId-1"}
    record = base64.b64decode(event["Records"][0]["kinesis"]["data"])
    s3.put_object(Bucket=BUCKET, Key=key_of(failure, "mapping"), Body=json.dumps(failure))
    s3.put_object(Bucket=BUCKET, Key=key_of(changes, "mapping"), Body=json.dumps(changes))
    s3.put_object(Bucket=BUCKET, Key=f"archive/{at:%Y/%m/%d/%H}/x", Body=record)
    entry = {"kinesis": event["Records"][0]["kinesis"], "eventID": "shardId-000000000000:9"}
    Quarantine(BUCKET, lambda: s3, prefix="quarantine/x/").put([(entry, [Rejection(1, "key_missing", "")])])
    aws.client("kinesis").create_stream(StreamName="stream", ShardCount=1)
    devices = {"TableName": f"{PREFIX}-devices", "Key": {"device": {"S": MODEL}}}
    seen, said = {}, documented()
    for command, arguments in {
        "quarantine list": [],
        "quarantine show": [],
        "quarantine redrive": [],
        "failures list": [],
        "failures show": [],
        "failures redrive": [],
        "replay s3://…": [f"s3://{BUCKET}"],
        "replay … --to-stream": [f"s3://{BUCKET}", "--to-stream", "stream"],
    }.items():
        aws.client("dynamodb").delete_item(**devices)
        wire.seen.clear()
        words = [word for word in command.split() if word.isalpha() and word.isascii()]
        done = CliRunner().invoke(main, [*words, *arguments], env=wire.variables)
        assert done.exit_code in (0, 1), done.output
        assert not isinstance(done.exception, Exception), done.output
        seen[command] = {call.partition(" ")[0].partition(":")[2].replace("GET", "ListBucket") for call in wire.seen}
        assert seen[command]
        assert seen[command] <= said[command], command
    assert seen.keys() == said.keys()
    assert set().union(*seen.values()) == set().union(*said.values())


def test_every_function_is_in_the_table():
    folders = {path.parent.name for path in FUNCTIONS.glob("*/function.json")}
    assert folders == RIGHTS.keys() - {"every"}
