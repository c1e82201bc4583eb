"""Our signatures are botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from processor.store.credentials import Credentials
from processor.store.endpoint import Endpoint
from processor.store.signature import CONTENT_TYPE, Signer

visible = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
segments = st.from_regex(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,8}", fullmatch=True)

hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
)
ports = st.one_of(st.sampled_from(["", ":80", ":443", ":4566"]), st.integers(1, 65535).map(":{}".format))
paths = st.builds(
    lambda parts, end: "".join(f"/{part}" for part in parts) + end,
    st.lists(segments, max_size=3),
    st.sampled_from(["", "/"]),
)
urls = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), hosts, ports, paths)
targets = st.sampled_from(["UpdateItem", "Query", "GetItem", "BatchWriteItem"]).map("DynamoDB_20120810.{}".format)
bodies = st.dictionaries(words, st.dictionaries(words, words, max_size=3), max_size=4).map(orjson.dumps)
regions = st.sampled_from(["eu-west-1", "ap-northeast-1", "us-gov-west-1", "cn-north-1", "local"])
credentials = st.builds(
    Credentials,
    st.text(visible, min_size=1, max_size=40),
    st.text(visible, min_size=1, max_size=60),
    st.one_of(st.none(), st.just(""), st.text(visible, min_size=1, max_size=400)),
)
times = st.floats(0, 4_102_444_800)


def by_botocore(url, target, body, region, given_credentials, now):
    request = AWSRequest("POST", url, {"Content-Type": CONTENT_TYPE, "X-Amz-Target": target}, body)
    signer = SigV4Auth(BotocoreCredentials(*given_credentials), "dynamodb", region)
    with patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(int(now), UTC)):
        signer.add_auth(request)
    return request.headers["X-Amz-Date"], request.headers["Authorization"]


@given(urls, targets, bodies, regions, credentials, times)
def test_any_request_is_signed_as_botocore_signs_it(url, target, body, region, given_credentials, now):
    endpoint = Endpoint.of(url)
    signer = Signer(region=region, host=endpoint.authority, path=endpoint.path)
    expected = by_botocore(url, target, body, region, given_credentials, now)
    assert signer.sign(target, body, given_credentials, now) == expected


few_credentials = st.sampled_from(
    [
        Credentials("AKID", "one"),
        Credentials("AKID", "two"),
        Credentials("AKID", "two", "token"),
        Credentials("B", "two"),
    ]
)
few_times = st.sampled_from([86_399.0, 86_399.9, 86_400.0, 86_401.0, 172_799.0])


@given(st.lists(st.tuples(targets, bodies, few_credentials, few_times), min_size=2, max_size=6))
def test_a_signer_used_before_signs_as_a_fresh_one(requests):
    """Cached dates and keys never outlive their second, day or credentials."""
    url = "https://dynamodb.eu-west-1.amazonaws.com"
    signer = Signer(region="eu-west-1", host=Endpoint.of(url).authority)
    for target, body, given_credentials, now in requests:
        expected = by_botocore(url, target, body, "eu-west-1", given_credentials, now)
        assert signer.sign(target, body, given_credentials, now) == expected
