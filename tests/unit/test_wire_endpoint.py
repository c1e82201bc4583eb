"""Where requests go."""

from __future__ import annotations

import pytest

from processor.errors import SettingsError
from processor.store.credentials import Credentials
from processor.store.endpoint import Endpoint
from processor.store.wire import connect

GIVEN = Credentials("AKID", "secret")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4566", Endpoint(False, "127.0.0.1", 4566, "/", "127.0.0.1:4566")),
        ("http://LocalHost/", Endpoint(False, "localhost", 80, "/", "localhost")),
        ("https://example.org:443/dynamo", Endpoint(True, "example.org", 443, "/dynamo", "example.org")),
        ("https://example.org:80/a/b/", Endpoint(True, "example.org", 80, "/a/b/", "example.org:80")),
        ("http://[::1]:8000", Endpoint(False, "::1", 8000, "/", "[::1]:8000")),
    ],
)
def test_an_endpoint_is_taken_apart(url, expected):
    assert Endpoint.of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8000", "ftp://a", "http://", "http://a:b", "http://a:70000", "http://u:p@a", "http://a/?b",
        "http://a#b", "http://a/../b", "http://a//b", "http://a b", "http://a/b c", "http://a\r\nX: y", "http://[::1",
        "http://a..b", "http://.a",
    ],
)  # fmt: skip
def test_an_endpoint_that_is_no_plain_url_is_refused_with_what_to_check(url):
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL"):
        Endpoint.of(url)


def test_a_regions_endpoint_is_aws_own():
    assert Endpoint.of_region("eu-west-1").authority == "dynamodb.eu-west-1.amazonaws.com"
    assert Endpoint.of_region("cn-north-1").authority == "dynamodb.cn-north-1.amazonaws.com.cn"
    assert Endpoint.of_region("eu-west-1").tls


@pytest.mark.parametrize("implementation", ["urllib", ""])
def test_an_unknown_implementation_is_refused(implementation):
    with pytest.raises(SettingsError, match="'wire' or 'boto3'"):
        connect(region="eu-west-1", implementation=implementation, credentials=GIVEN)


@pytest.mark.parametrize("region", ["", "eu west", "eu-west-1\r\nX-Evil: 1", "a/b"])
def test_a_region_that_is_no_name_is_refused_even_with_an_endpoint(region):
    with pytest.raises(SettingsError, match="AWS_REGION"):
        connect(region=region, endpoint="http://127.0.0.1:1", credentials=GIVEN)
