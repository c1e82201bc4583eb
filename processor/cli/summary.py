"""What a run says at its end: the ledger, the check, what it cost, and what to type next."""

from __future__ import annotations

from processor.local.check import Verdict
from processor.local.expected import Expected
from processor.local.fleet import Fleet
from processor.local.funnel import Funnel
from processor.local.rollup_check import compare_rollups
from processor.local.system import System


def summary(system: System, verdict: Verdict, fleet: Fleet | None) -> tuple[list[str], bool]:
    """Return the summary's lines, and whether everything that was sent is accounted for."""
    totals, expected, ledger = system.totals, verdict.expected, system.totals.ledger
    rollup = system.rollup_totals
    stats = system.mapping.stats
    rolled, wrong = compare_rollups(verdict.readings, system.rollups.all())
    differences = verdict.differences() + _disagreements(system, verdict, fleet) + wrong[:5]
    distinct = sum(map(len, verdict.readings.values())) or 1
    lines = [
        "",
        f"Ledger     {ledger['received']:,} advertisements received in {totals.records:,} records = "
        f"{ledger['stored']:,} stored + {ledger['duplicates']:,} duplicates + {ledger['rejected']:,} rejected + "
        f"{ledger['ignored']:,} ignored + {ledger['failed']:,} failed",
    ]
    if totals.reasons:
        lines.append("           rejected: " + _counts(totals.reasons))
    if totals.ignored:
        lines.append("           ignored: " + _counts(totals.ignored))
    if stats.errors or stats.retries:
        lines.append(
            f"           {stats.errors} failed invocations, {stats.retries} retries: retried batches count again"
        )
    lines += [
        f"Check      an independent scan: {verdict.sent:,} records sent, {expected.records:,} in the stream; "
        f"{len(expected.cells):,} cells expected, {verdict.found:,} in the table ({distinct:,} readings, each copy "
        f"counted once); "
        f"{len(expected.rejected):,} rejected, {verdict.quarantined:,} in quarantine",
        f"           {rolled:,} roll-ups of five minutes, written {system.rollup_totals.counts['written']:,} times"
        + ("; their sums are those of the readings" if not wrong else ""),
        f"           lost {len(verdict.lost)}, foreign {len(verdict.foreign)}, changed {len(verdict.changed)}: "
        + ("PASSED" if not differences else "FAILED"),
        *(f"           {line}" for line in differences),
        f"Cost       {totals.write_units / distinct:.2f} write units a reading ({totals.write_units:,.0f} in "
        f"{totals.write_calls:,} calls); one item a reading would take {expected.single_units / distinct:.2f} "
        f"(computed by AWS's size rules, copies through several gateways included)",
        f"           {verdict.items:,} items, the largest {verdict.largest_item:,} bytes",
        f"Latency    from arrival in the stream to stored: median {totals.age(0.5):,.0f} ms, "
        f"95 % {totals.age(0.95):,.0f} ms, 99 % {totals.age(0.99):,.0f} ms (batching window "
        f"{system.mapping.settings.batching_window_seconds:g} s included)",
        f"Function   {totals.batches:,} batches, {totals.cold_starts} cold starts, memory at most "
        f"{totals.memory_mb:g} MB of {system.function.config.memory_mb} MB, {totals.duration_ms / 1000:.1f} s in all",
        f"Roll-up    {rollup.batches:,} batches of {rollup.counts['records']:,} changes, memory at most "
        f"{rollup.memory_mb:g} MB, {rollup.duration_ms / 1000:.1f} s in all",
    ]
    troubles = totals.troubles + rollup.troubles
    lines += [f"Trouble    {line[:300]}" for line in troubles[:10]]
    if len(troubles) > 10:
        lines.append(f"           … and {len(troubles) - 10} more lines like these")
    if not differences:
        lines += _sample(system, expected)
    return lines, not differences


def _disagreements(system: System, verdict: Verdict, fleet: Fleet | None) -> list[str]:
    """Say where the ledger, or the fleet's own count, comes to other numbers than the check."""
    expected, ledger, found = verdict.expected, system.totals.ledger, []
    accounted = sum(ledger[name] for name in ("stored", "duplicates", "rejected", "ignored", "failed"))
    pairs = [("the ledger's received, and its parts", ledger["received"], accounted)]
    if not system.mapping.stats.errors and not ledger["failed"]:  # a batch that came twice is counted twice
        pairs += [
            ("received by the ledger, and in the stream", ledger["received"], expected.advertisements),
            ("stored by the ledger, and in the table", ledger["stored"], verdict.found),
            ("rejected by the ledger, and in quarantine", ledger["rejected"], verdict.quarantined),
        ]
        if not expected.optional:  # else some depend on when a sensor's model became known
            pairs.append(("ignored by the ledger, and in the stream", ledger["ignored"], expected.ignored.total()))
    if fleet is not None:
        truth = fleet.truth
        ignored = expected.ignored.total() - expected.ignored["superseded"]  # the fleet does not know who hears both
        pairs += [
            ("advertisements by the fleet, and in the stream", truth.advertisements, expected.advertisements),
            ("malformed by the fleet, and in the stream", truth.malformed, expected.rejected.total()),
            ("ignorable by the fleet, and in the stream", truth.ignored, ignored),
        ]
        found += [f"the fleet's measurements: {line}" for line in fleet.compare(verdict.readings)[:5]]
    for what, one, other in pairs:
        if one != other:
            found.append(f"{what}: {one:,}, not {other:,}")
    return found


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _sample(system: System, expected: Expected) -> list[str]:
    """Return one reading, read back as `processor query` reads it."""
    devices = sorted({device for device, _, _ in expected.cells})
    if not devices:
        return []
    (reading,) = system.reader.latest(devices[0])
    values = ", ".join(f"{name} {value}" for name, value in reading.values.items())
    return [f"Example    {reading.device} ({reading.format}): {values}"]


def next_steps(system: System, funnel: Funnel, page: str | None) -> list[str]:
    """Return the lines that point a browser (page: the address, where there is one) and other programs at a run."""
    device = next(iter(sorted(seen.device for seen in system.reader.devices())), "CB:B8:33:4C:88:4F")
    variables = system.aws.environment() | {"COUNT_UNITS": "items"}  # the embedded AWS does not count them
    if system.limits.expires_from_arrival:
        variables["EXPIRES_FROM"] = "arrival"  # else a redrive would refuse a capture's age
    exports = [f"export {name}={value}" for name, value in variables.items()]
    tcp, udp = (f"{host}:{port}" for host, port in (funnel.tcp_address, funnel.udp_address))
    return [
        "",
        *(["Look at it", "", f"  {page}", ""] if page else ["No page: pip install 'processor[dashboard]'", ""]),
        "Still serving; Ctrl-C ends it. In another terminal:",
        "",
        *(f"  {line}" for line in exports),
        "  uv run processor devices",
        f"  uv run processor query {device} --last 5",
        "  uv run processor query --all --from -1h --resolution 5m",
        "  uv run processor quarantine",
        "  uv run processor quarantine redrive --dry-run",
        "  aws kinesis describe-stream-summary --stream-name processor",
        f"  aws dynamodb scan --table-name {system.settings.readings_table} --max-items 1",
        "",
        f"A gateway, or curl, posts to Funnel's stand-in at {funnel.http_url}; TCP {tcp}; UDP {udp}",
        f"  curl -i -H 'Content-Type: application/json' -d @post.json {funnel.http_url}",
    ]
