"""A small provider for tests: lists of Datasets and their files, changed as a test says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import ingestify
from ingestify.testing import FolderWorld


class ListSource(ingestify.Source):
    """Finds Datasets in ``selectors.json`` and ``list-<name>.json``."""

    provider = "lists"
    data_spec_versions = {"thing": {"data": "v1"}}  # noqa: RUF012  # as a connector writes it

    async def discover_selectors(
        self, dataset_type: str, *, http: ingestify.Http
    ) -> AsyncIterator[ingestify.Selector]:
        async for each in http.get_json_items("selectors.json"):
            yield ingestify.Selector({"list": each["list"]}, token=each.get("token"))

    async def discover_datasets(
        self,
        dataset_type: str,
        selector: ingestify.Selector,
        *,
        data_spec_versions: ingestify.DataSpecVersions,
        state: dict[str, Any],
        http: ingestify.Http,
    ) -> AsyncIterator[ingestify.DatasetResource]:
        async for each in http.get_json_items(http.url("list-{}.json", selector["list"])):
            resource = ingestify.DatasetResource(
                dataset_resource_id={"id": each["id"]}, name=f"thing {each['id']}"
            )
            for version in data_spec_versions["data"]:
                resource.add_file(
                    "data",
                    version,
                    url=http.url("data/{}-{}.json", each["id"], version),
                    token=each.get("token"),
                    optional=each.get("optional", False),
                )
            yield resource


class AlwaysDue(ingestify.FetchPolicy):
    """Whatever was asked for before now is due again."""

    def __init__(self) -> None:
        super().__init__(refetch_after=timedelta(0))


class ListWorld(FolderWorld):
    """What `ListSource` finds. Every change is visible to the next request."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.selectors: dict[str, str | None] = {}
        self.lists: dict[str, list[dict[str, Any]]] = {}

    def set_list(self, name: str, *entries: dict[str, Any], token: str | None = None) -> None:
        """List *entries* under *name*, whose Selector has *token*."""
        self.selectors[name] = token
        self.lists[name] = list(entries)
        self.put(f"list-{name}.json", json.dumps(list(entries)).encode())
        self._write_selectors()

    def bump(self, name: str, token: str) -> None:
        """Change nothing but the token of a Selector."""
        self.selectors[name] = token
        self._write_selectors()

    def set_data(self, key: int | str, content: Any, version: str = "v1") -> None:
        """Serve *content* as the file of Dataset *key*."""
        self.put(f"data/{key}-{version}.json", json.dumps(content).encode())

    def _write_selectors(self) -> None:
        selectors = [{"list": k, "token": v} for k, v in self.selectors.items()]
        self.put("selectors.json", json.dumps(selectors).encode())
