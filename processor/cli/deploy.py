"""`processor deploy`, `package` and `apex-files`: the functions' code to AWS, by apex's files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from processor import deploy as deployment
from processor.apex import ALIAS, FunctionConfig, deployed_function, function_names, read_function, write_files
from processor.errors import DeployError, SettingsError
from processor.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]


class ApexFolder(click.ParamType[Path]):
    """A folder that holds an apex project."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Turn a path into a Path, of a folder that has project.json."""
        folder = Path(value)
        if not (folder / "project.json").is_file():
            self.fail(f"{folder} is no apex project: it has no project.json", param, ctx)
        return folder


def _apex() -> str:
    """Find apex's project as a user expects: here, below here, or beside this package in its checkout."""
    places = (Path(), Path("apex"), CHECKOUT / "apex")
    return str(next((place for place in places if (place / "project.json").is_file()), places[-1]))


apex_option = click.option("--apex", "root", type=ApexFolder(), default=_apex, help="apex's project. Default: this "
                           "folder, its `apex`, or the clone's.")  # fmt: skip
env_option = click.option("-e", "--env", required=True, metavar="ENV", help="The environment, as in `apex -e ENV`.")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@env_option
@click.option("--dry-run", is_flag=True, help="Build, show what would change, and change nothing.")
@click.option("--rollback", is_flag=True, help=f"Point the alias `{ALIAS}` at the version published before its own.")
@click.option("--region", help="AWS region. Default: the project file's, or the AWS environment's.")
@apex_option
def deploy(names: tuple[str, ...], env: str, dry_run: bool, rollback: bool, region: str | None, root: Path) -> None:
    """Deploy functions (all of them, or those called NAME; * is allowed) by apex's files, without apex.

    It shows what changes, then builds on what Terraform created: configuration where it differs, code, a version, the
    alias. What is the same already stays as it is.
    """
    configs = [deployed_function(root / "functions" / name, env) for name in function_names(root, names)]
    for config in configs:
        client = _client(config, region)
        try:
            if rollback:
                _rollback(client, config, dry_run)
            else:
                _deploy(client, config, dry_run)
        finally:
            client.close()


def _deploy(client: Any, config: FunctionConfig, dry_run: bool) -> None:
    click.echo(f"{config.name}: building …", err=True)
    zipped = deployment.package(config, deploying=not dry_run, report=_note)
    plan = deployment.compare(client, config, zipped)
    _show(config.name, plan.lines)
    if not plan.unchanged and not dry_run:
        click.echo(f"  deployed: {ALIAS} serves version {deployment.deploy(client, plan)}")


def _rollback(client: Any, config: FunctionConfig, dry_run: bool) -> None:
    served, earlier = deployment.previous(client, config)
    version = earlier["Version"]
    about = f"published {earlier['LastModified']}, {earlier['CodeSize']:,} bytes"
    _show(config.name, [f"alias {ALIAS}: version {served} → version {version} ({about})"])
    if not dry_run:
        deployment.serve(client, config, version)
        click.echo(f"  rolled back: {ALIAS} serves version {version}")


def _show(name: str, lines: list[str]) -> None:
    click.echo(name)
    for line in lines:
        click.echo(f"  {line}")


def _note(line: str) -> None:
    click.echo(f"  {line}", err=True)


def _client(config: FunctionConfig, region: str | None) -> Any:
    """Make the Lambda client: region and profile as apex finds them, in its project's file or the environment."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.session.Session(profile_name=config.profile)
        region = region or config.region or Settings.read().region or session.region_name
        if not region:
            raise DeployError("no region: set AWS_REGION, or a region in the AWS profile, or give --region")
        # An upload of some megabytes takes longer than a request usually may.
        return session.client("lambda", region_name=region, config=Config(read_timeout=300, connect_timeout=10))
    except (BotoCoreError, ValueError) as error:
        raise DeployError(f"AWS cannot be reached: {error}") from error


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"),
              show_default=True, help="Where NAME.zip goes.")  # fmt: skip
@apex_option
def package(names: tuple[str, ...], output: Path, root: Path) -> None:
    """Build functions' packages by apex's hooks, without deploying them, and say how large they are."""
    output.mkdir(parents=True, exist_ok=True)
    for name in function_names(root, names):
        config = read_function(root / "functions" / name)
        zipped = deployment.package(config, report=_note)
        path = output / f"{name}.zip"
        path.write_bytes(zipped.data)
        click.echo(f"{path}: {len(zipped.data) / 1e6:.2f} MB for {config.runtime} on {config.architecture}")
        click.echo(f"  CodeSha256 {zipped.sha256}")


@click.command("apex-files")
@click.option("--terraform", type=click.Path(path_type=Path, file_okay=False), default=CHECKOUT / "infra/terraform",
              help="The folder that `terraform apply` was run in. Default: the clone's infra/terraform.")  # fmt: skip
@click.option("--input", "source", type=click.File("r"), help="Read `terraform output -json apex_files` from here "
              "instead; - is standard input.")  # fmt: skip
@apex_option
def apex_files(terraform: Path, source: Any, root: Path) -> None:
    """Write apex's files of an environment (project.ENV.json, function.ENV.json) from Terraform's output."""
    text = source.read() if source else _output(terraform)
    try:
        files = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"expected the JSON of `terraform output -json apex_files`: {error}") from error
    for path, changed in write_files(root, files):
        click.echo(f"{path}: {'written' if changed else 'unchanged'}")


def _output(folder: Path) -> str:
    program = shutil.which("terraform")
    if program is None:
        raise SettingsError("there is no terraform here: pipe its output: `… output -json apex_files | … --input -`")
    command = [program, f"-chdir={folder}", "output", "-json", "apex_files"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 (ours)
    if done.returncode:
        raise SettingsError(f"{folder} has no output apex_files yet: run `terraform apply` there first")
    return done.stdout
