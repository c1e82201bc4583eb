"""`processor run --chaos`: the main job under faults, and what came of it by an independent count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import click

from processor.cli.progress import Progress
from processor.errors import LocalError, SettingsError
from processor.local.faults.fault import Fault, Scene
from processor.local.faults.oracle import Judgement, judge
from processor.local.faults.registry import named
from processor.local.faults.run import Run, started
from processor.local.fleet import Fleet
from processor.local.system import MAPPING, System

DRAIN_SECONDS = 240.0
TIMEOUT_SECONDS = 15.0
"""The functions' timeout: a frozen worker holds its batch for so long."""

LANES = 10
"""The mapping's parallelisation factor under faults: the most that Lambda has."""

WORKERS = 3
DOING = ("at work", "idle", "starting")

Send = Callable[[System, Progress], None]


class Chaos(click.ParamType[list[Fault]]):
    """Names of faults, comma-separated, or `all`."""

    name = "NAME[,…]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[Fault]:
        """Return the faults, or say which there are."""
        if isinstance(value, list):
            return value
        try:
            return named(filter(None, str(value).split(",")))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


def pace_of(faults: list[Fault]) -> float:
    """Return about how many seconds pass between two injections of one fault: together they leave room to work."""
    live = sum(fault.make is not None for fault in faults)
    return max(1.0, live / 3)


def under_faults(
    faults: list[Fault],
    seed: int,
    send: Send,
    fleet: Fleet | None,
    *,
    shards: int,
    any_age: bool,
    keys: Mapping[str, bytes],
    variables: Mapping[str, str],
) -> bool:
    """Run the main job under these faults, play the scenes among them, print the summary; tell whether all is well."""
    options = {"shards": shards, "any_age": any_age, "keys": keys, "variables": variables}
    mapping = replace(MAPPING, parallelization_factor=LANES)
    live = [fault for fault in faults if fault.make is not None]
    with started(seed, mapping=mapping, workers=WORKERS, timeout_s=TIMEOUT_SECONDS, **options) as run:
        progress = Progress(run.system)
        run.begin(live, pace_of(faults))
        send(run.system, progress)
        progress.wait("waiting for faults that have not struck", run.wait_for_all)
        progress.wait("ending the faults", run.finish)
        try:
            progress.wait("draining", lambda: run.drain(DRAIN_SECONDS))
        except LocalError as error:  # what is lost by then is told all the same
            run.errors.append(str(error))
        run.witness.look()
        found = judge(run, fleet)
    scenes = {fault.name: fault.scene(seed) for fault in faults if fault.scene is not None}
    never = [fault.name for fault in live if not run.injected[fault.name]]
    never += [name for name, scene in scenes.items() if not scene.injected]
    passed = found.passed and not never and all(scene.passed for scene in scenes.values())
    progress.finish(lines(run, found, scenes, never, passed))
    return passed


def lines(run: Run, found: Judgement, scenes: Mapping[str, Scene], never: list[str], passed: bool) -> list[str]:
    """Return the summary's lines. never: the faults that were asked for and did not strike."""
    stats, witness, verdict = run.system.mapping.stats, run.witness, found.verdict
    lost = len(found.lost) + sum(len(scene.lost) for scene in scenes.values())
    doubled = len(found.doubled) + sum(len(scene.doubled) for scene in scenes.values())
    injected = dict(run.injected) | {name: scene.injected for name, scene in scenes.items()}
    struck = [f"{name} {count:,}" for name, count in injected.items() if count]
    kills, poison = run.workers.kills, witness.poison
    return [
        "",
        f"Faults     seed {run.seed}: {sum(injected.values()):,} injected, of {len(struck)} kinds: {', '.join(struck)}",
        *([f"           never struck: {', '.join(never)}"] if never else []),
        *(f"           {name}, under a virtual clock: {scene.figures}" for name, scene in scenes.items()),
        f"Survived   {kills.total():,} kills of workers: {', '.join(f'{kills[what]:,} {what}' for what in DOING)}; "
        f"beside them {run.workers.replaced:,} ended for another deployment",
        f"Invoked    {stats.invocations:,} times: {stats.errors:,} failed, {stats.partials:,} partial, "
        f"{stats.retries:,} retries; {stats.throttles:,} times refused, {stats.discarded:,} records given up and then "
        "invoked directly",
        f"Ledger     an independent scan: {verdict.sent:,} records sent, {found.balance}",
        f"Roll-ups   {found.rollups:,}, computed anew from what is stored; `devices` looked at {witness.looks:,} times",
        f"Checkpoint {witness.answers:,} answers looked at before the mapping believed them, "
        f"{witness.checkpoints.passed:,} records when it had passed them",
        f"Poison     {poison.first + poison.later:,} records of which nothing can be stored: {poison.first:,} done "
        f"with in their first invocation, {poison.later:,} in the first that nothing else spoiled, "
        f"{poison.slowest_ms / 1000:.1f} s after they came at most",
        f"Check      lost {lost}, doubled {doubled}: " + ("PASSED" if passed else "FAILED"),
        *(f"           {line}" for line in found.lines()),
        *(f"           {name}: {each}" for name, scene in scenes.items() for each in _wrong(scene)),
    ]


def _wrong(scene: Scene) -> list[str]:
    kinds = (("lost", scene.lost), ("doubled", scene.doubled), ("wrong", scene.problems))
    return [f"{kind}: {each}" for kind, found in kinds for each in found[:5]]
