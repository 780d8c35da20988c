"""Opening: the adapters that a configuration names, each imported only when it is needed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING

from ingestify.errors import ConfigError, StoreError, StoreUnavailableError
from ingestify.model.catalog import DatasetQuery
from ingestify.model.layout import OWN_FOLDER
from ingestify.open_files import OpenFiles
from ingestify.ports import Catalog, Fetcher, FileStore

if TYPE_CHECKING:
    from ingestify.config import Config

SAMPLE = 100  # Files, and objects, that are looked at to tell whether a store is the right one


def open_catalog(config: Config) -> AbstractAsyncContextManager[Catalog]:
    """The Catalog at the configuration's ``metadata_url``; made where there is none."""
    url = config.main.metadata_url
    if url.path is None:
        from ingestify.adapters.catalog.memory import MemoryCatalog

        return MemoryCatalog.open()
    from ingestify.adapters.catalog.sqlite import SqliteCatalog

    prefix = config.main.metadata_options.table_prefix
    return SqliteCatalog.open(url.path, table_prefix=prefix)


def open_store(
    config: Config, open_files: OpenFiles | None = None
) -> AbstractAsyncContextManager[FileStore]:
    """The FileStore at the configuration's ``file_url``; it need not be there (see `settle_in`)."""
    url = config.main.file_url
    if url.path is None:
        from ingestify.adapters.files.memory import MemoryFileStore

        return MemoryFileStore.empty()
    from ingestify.adapters.files.local import LocalFileStore

    if open_files is None:
        return LocalFileStore.at(url.path, make=False)
    return LocalFileStore.at(
        url.path, batch_files=open_files.publishing, temp_files=open_files.exchanges, make=False
    )


async def settle_in(config: Config, catalog: Catalog, store: FileStore) -> None:
    """Make *store* the place of the catalog's Files, unless these must lie somewhere else.

    Raises:
        StoreUnavailableError: it has none of the Files that the catalog knows, or cannot be made.
    """
    name = await catalog.catalog_id()
    if name not in await store.catalogs() and not await _has_files_of(catalog, store):
        place = config.main.file_url.path
        raise StoreUnavailableError(
            f"{place} has none of the files of this catalog, {config.main.metadata_url.path}: is"
            " the disk mounted, is file_url right? If they are lost for good, make an empty file"
            f" {place}/{OWN_FOLDER}/catalogs/{name}; then `ingestify verify --repair` fetches them"
            " again"
        )
    await store.register(name)


async def _has_files_of(catalog: Catalog, store: FileStore) -> bool:
    """Whether *store* has any of the Files that *catalog* knows, or there are none to have.

    A copy of a catalog has another name than the store knows, and an old one may have none.
    """
    first = await catalog.kept_files(DatasetQuery(stage=None), limit=SAMPLE)
    for each in first:
        try:
            async with aclosing(store.open(each.file.path)) as pieces:  # type: ignore[type-var]
                async for _ in pieces:
                    return True
        except StoreError:
            continue
    some = []
    async with aclosing(store.list()) as listed:  # type: ignore[type-var]
        async for found in listed:
            some.append(found.path)
            if len(some) == SAMPLE:
                break
    return not first or bool(some and await catalog.referenced(some))


def check_catalog(config: Config) -> None:
    """Refuse a *config* whose catalog is not there: only a Run makes one.

    Raises:
        ConfigError: there is no catalog.
    """
    path = config.main.metadata_url.path
    if path is None:
        raise ConfigError("this lake is in memory: it is empty whenever a command begins")
    if not path.is_file():
        raise ConfigError(f"there is no lake yet, {path} is missing; `ingestify run` makes it")


def open_fetcher(open_files: OpenFiles) -> AbstractAsyncContextManager[Fetcher]:
    """What makes HTTP exchanges."""
    from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher

    return AiohttpFetcher.open(
        connections=open_files.exchanges, keeps_connections=open_files.keeps_connections
    )
