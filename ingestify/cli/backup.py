"""`ingestify backup`: a copy of the catalog that can be relied on, also while a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingestify.cli.options import catalog_options, json_option
from ingestify.cli.progress import Tally
from ingestify.cli.screen import plural, size, write, write_json
from ingestify.cli.session import Session
from ingestify.cli.supervise import supervise
from ingestify.errors import ConfigError
from ingestify.opening import check_catalog

if TYPE_CHECKING:
    from ingestify.config import Config
    from ingestify.engine import Engine
    from ingestify.model.catalog import CatalogCopy


@click.command("backup")
@click.pass_obj
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file that is at PATH.")
@json_option
@catalog_options
def backup_command(session: Session, *, path: Path, force: bool, as_json: bool) -> int:
    """Copy the catalog to PATH, also while a run goes on.

    The copy shows one moment, and is looked through before it gets its name. The files of the lake
    are not in it: they are never overwritten, so copy their folder afterwards with any tool.
    """
    config = session.load_config()
    check_catalog(config)
    _check_target(config, path, force=force)
    tally = Tally("copying pages")

    def show(done: int, total: int) -> None:
        tally.done, tally.total = done, total

    async def work(engine: Engine) -> CatalogCopy:
        return await engine.catalog.back_up(path, replace=force, progress=show)

    outcome = supervise(session, config, work, tally=tally)
    if outcome.result is None:
        return outcome.signal_code or 0
    _report(config, outcome.result, as_json=as_json)
    return outcome.signal_code or 0


def _check_target(config: Config, path: Path, *, force: bool) -> None:
    """Refuse what is a wrong command rather than a failure.

    Raises:
        ConfigError: there must be no copy at *path*.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to put a copy in")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already; --force replaces it")
    if path.resolve() == config.main.metadata_url.path:
        raise ConfigError(f"{path} is the catalog itself: copy it elsewhere")
    files = config.main.file_url.path
    if files is not None and path.resolve().is_relative_to(files.resolve()):
        raise ConfigError(
            f"{path} lies among the files of the lake in {files}, where it would count as debris;"
            " keep it elsewhere, best on another disk"
        )


def _report(config: Config, made: CatalogCopy, *, as_json: bool) -> None:
    files = config.main.file_url.path
    if as_json:
        write_json({"copy": made, "files_not_included": str(files) if files else None})
        return
    write(
        f"{made.path}: {plural(made.datasets, 'dataset')}, {plural(made.revisions, 'revision')},"
        f" {plural(made.files, 'file')}, {plural(made.runs, 'run')}; {size(made.size)}."
    )
    write(f"The files themselves are not in it: copy {files} as well, after the catalog.")
