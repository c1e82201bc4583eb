"""The `processor` command. Each command lives in a module of its own; here they are only put together."""

from __future__ import annotations

import errno
import sys

import click

from processor.cli.audit import audit
from processor.cli.cache import cache
from processor.cli.dashboard import dashboard
from processor.cli.decode import decode
from processor.cli.deploy import apex_files, deploy, package
from processor.cli.devices import devices
from processor.cli.export import export
from processor.cli.failures import failures
from processor.cli.formats import formats
from processor.cli.quarantine import quarantine
from processor.cli.query import query
from processor.cli.replay import replay
from processor.cli.run import run
from processor.cli.sql import sql
from processor.cli.verify import verify
from processor.errors import ProcessorError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the user can do something about, though no file is named."""


class Commands(click.Group):
    """A group whose commands end with a clear line, not a traceback, when the package says what is wrong."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an error of ours is printed, and the exit status is 1."""
        try:
            return super().invoke(ctx)
        except ProcessorError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output left, as `head` does: nothing to say, but not a success
            raise SystemExit(1) from None
        except OSError as error:
            if error.filename is None and error.errno not in DISK:
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            raise click.ClickException(f"{where}{error.strerror}") from error
        except Exception as error:
            botocore = type(error).__module__.partition(".")[0] == "botocore"  # not imported for its errors' sake
            if not botocore and not str(error).startswith("Invalid endpoint: "):  # which it calls a ValueError
                raise
            raise click.ClickException(f"AWS: {error}") from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="processor")
def main() -> None:
    """Stream processor for BLE sensor data: SORACOM Funnel → Kinesis → Lambda → DynamoDB."""


for command in (
    run,
    dashboard,
    query,
    export,
    sql,
    devices,
    quarantine,
    failures,
    replay,
    decode,
    formats,
    deploy,
    package,
    apex_files,
    cache,
    verify,
    audit,
):
    main.add_command(command)
