"""What the engine itself costs: `python -m benchmarks.engine_alone`.

One Source offers Datasets in pages of 100; Catalog, FileStore and Fetcher are those of
`benchmarks.null`, which do nothing but answer. What a stage costs a Dataset is what a run with it
takes more than one without it, over the difference of two numbers of Datasets, so that start-up and
the fixed cost of a run are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import ingestify
from benchmarks.bare import fastest_loop
from benchmarks.null import BODY, NullCatalog, NullFetcher, NullFileStore
from benchmarks.report import Section, table
from ingestify.config import load_config
from ingestify.engine import Engine

PAGE = 100
MANY, FEW = 20_000, 2_000
ROUNDS = 5
COLLECTIONS = 100_000  # objects between two of the garbage collector's, as the command line has it
STAGES = {
    "listed": "discover and plan: everything is up to date",
    "bare": "… and pool and commit: everything is new, and has no File",
    "content": f"… and one body of {len(BODY) // 1000} kB at hand: checked, hashed, gzipped",
    "url": "… and its request: a turn at the host, an exchange, no network",
}
CONFIG = """\
main:
  metadata_url: sqlite:///{folder}/catalog.db
  file_url: {folder}/files
sources:
  many:
    type: benchmarks.engine_alone.ManySource
    configuration:
      base_url: http://null.invalid/
ingestion_plans:
  - source: many
    dataset_type: thing
"""


class ManySource(ingestify.Source):
    """Offers as many Datasets as it is told, each with one File or none."""

    provider = "many"

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.count = 0
        self.kind = "bare"

    async def discover_datasets(
        self, dataset_type: str, selector: ingestify.Selector, **_: Any
    ) -> AsyncIterator[list[ingestify.DatasetResource]]:
        """Pages of them."""
        for first in range(0, self.count, PAGE):
            yield [self._resource(number) for number in range(first, first + PAGE)]

    def _resource(self, number: int) -> ingestify.DatasetResource:
        resource = ingestify.DatasetResource(dataset_resource_id={"id": number}, name="thing")
        if self.kind == "content":
            resource.add_file("data", content=BODY, token="1")  # noqa: S106  # of change
        elif self.kind in ("url", "listed"):
            resource.add_file("data", url=f"http://null.invalid/{number}", token="1")  # noqa: S106
        return resource


async def cpu_seconds(kind: str, count: int, folder: Path) -> float:
    """What one run over *count* Datasets takes."""
    source, catalog = ManySource("many", base_url="http://null.invalid/"), NullCatalog()
    source.kind, source.count = kind, count
    config = load_config(folder / "config.yaml")
    with ExitStack() as patches:
        adapters = {"catalog": catalog, "store": NullFileStore(), "fetcher": NullFetcher()}
        for port, adapter in adapters.items():
            patches.enter_context(patch(f"ingestify.engine.open_{port}", _opening(adapter)))
        async with Engine(config, sources={"many": source}) as engine:
            if kind == "listed":
                catalog.learn()
                await _run(engine, stored=count)
                await _run(engine, skipped=count)
                catalog.repeat()
            gc.collect()
            began = time.process_time()
            await _run(engine, **{"skipped" if kind == "listed" else "stored": count})
            return time.process_time() - began


async def _run(engine: Engine, **expected: int) -> None:
    summary = await engine.run()
    for counter, count in expected.items():
        found = getattr(summary.counters, counter)
        if found != count or summary.exit_code:
            raise RuntimeError(f"{found} {counter}, not {count}: {summary.failures[:1]}")


def _opening(adapter: object) -> Any:
    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[object]:
        yield adapter

    return opened


def engine_section(*, rounds: int, folder: Path) -> Section:
    """µs a Dataset, stage by stage."""
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    taken: dict[str, list[float]] = {kind: [] for kind in STAGES}
    for _ in range(rounds):
        for kind, each in taken.items():
            many, few = (_measure(kind, count, folder) for count in (MANY, FEW))
            each.append((many - few) / (MANY - FEW) * 1e6)
    sums = {kind: median(each) for kind, each in taken.items()}
    own: dict[str, float] = {}
    for kind, total in sums.items():
        own[kind] = total - sum(own.values())
    rows = [
        (STAGES[kind], f"{own[kind]:.1f}", f"{sums[kind]:.1f}", f"{min(taken[kind]):.1f}")
        for kind in STAGES
    ]
    header = ("stage", "µs a dataset", "in sum", "least")
    text = f"{table(header, rows)}\n\nCPU; medians; rounds: {rounds}. {MANY:,} datasets."
    figures = {
        "engine: discover and plan µs": own["listed"],
        "engine: pool and commit µs": own["bare"],
        "engine: discover, plan, pool, commit µs": sums["bare"],
        "engine: body µs": own["content"],
        "engine: request µs": own["url"],
    }
    return Section(title="The engine alone", text=text, figures=figures)


def _measure(kind: str, count: int, folder: Path) -> float:
    before = gc.get_threshold()
    gc.set_threshold(COLLECTIONS, *before[1:])
    try:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            return runner.run(cpu_seconds(kind, count, folder))
    finally:
        gc.set_threshold(*before)


def main() -> None:
    """Measure each stage, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_alone", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        print(engine_section(rounds=rounds, folder=Path(name)).text)


if __name__ == "__main__":
    main()
