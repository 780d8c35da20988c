"""Opening: the adapters that a configuration names, each imported only when it is needed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from ingestify.open_files import OpenFiles
from ingestify.ports import Catalog, Fetcher, FileStore

if TYPE_CHECKING:
    from ingestify.config import Config


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
    """The FileStore at the configuration's ``file_url``; made where there is none."""
    url = config.main.file_url
    if url.path is None:
        from ingestify.adapters.files.memory import MemoryFileStore

        return MemoryFileStore.empty()
    from ingestify.adapters.files.local import LocalFileStore

    if open_files is None:
        return LocalFileStore.at(url.path)
    return LocalFileStore.at(url.path, threads=open_files.syncing, temp_files=open_files.exchanges)


def open_fetcher(open_files: OpenFiles) -> AbstractAsyncContextManager[Fetcher]:
    """What makes HTTP exchanges."""
    from ingestify.adapters.http.aiohttp_fetcher import AiohttpFetcher

    return AiohttpFetcher.open(
        connections=open_files.exchanges, keeps_connections=open_files.keeps_connections
    )
