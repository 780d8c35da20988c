"""How soon a reader sees what has arrived: `python -m benchmarks.visible`.

A run fetches many small matches; meanwhile another process asks the catalog how many there are, as
fast as it can. From the moment at which the provider has sent the last byte of the first match that
is complete, to the one at which there is one more than before, is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.contenders import INGESTIFY, Job
from benchmarks.process import BenchmarkError
from benchmarks.report import Section, shown_ms
from benchmarks.rounds import Spread
from benchmarks.simulated import Provider, serving
from benchmarks.workloads import SMALL, Situation

ROUNDS = 5
MATCHES = 1000
FEEDS = ("events", "lineups")


async def first_seen(catalog: Path, command: list[str], log: Path) -> float:
    """When the catalog shows the first Dataset of the run that *command* is."""
    from ingestify.adapters.catalog.sqlite import SqliteCatalog
    from ingestify.model.catalog import DatasetQuery

    async with SqliteCatalog.open(catalog) as reader:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)
        try:
            while not await reader.count(DatasetQuery()):
                if process.returncode is not None:
                    raise BenchmarkError(f"the run has ended, and there is nothing: see {log}")
            return time.monotonic()
        finally:
            await process.wait()


def delay(provider: Provider, folder: Path) -> float:
    """Seconds, in one run over an empty lake."""
    folder.mkdir()
    job = Job(situation=Situation.COLD, base_url=provider.base_url, folder=folder)
    command = INGESTIFY.prepare(job).arguments
    # Once with nothing wanted, so that the catalog is there to be looked at.
    nothing = [*command, "competition_id=11", "season_id=999999"]
    subprocess.run(nothing, check=False, capture_output=True)
    provider.order("trace")
    seen = asyncio.run(first_seen(folder / "catalog.db", command, folder / "log.txt"))
    sent = provider.stats()["sent"]
    matches = {path.partition("/")[2] for path in sent if path.startswith(FEEDS)}
    complete = [
        max(sent[f"{feed}/{match}"] for feed in FEEDS)
        for match in matches
        if all(f"{feed}/{match}" in sent for feed in FEEDS)
    ]
    return seen - min(complete)


def visible_section(*, rounds: int, folder: Path) -> Section:
    """Milliseconds."""
    workload = replace(SMALL, matches=MATCHES)
    with serving(workload) as provider:
        delays = [delay(provider, folder / f"visible-{number}") for number in range(rounds)]
    spread = Spread.of([each * 1000 for each in delays])
    text = (
        f"A reader in another process sees the first dataset {shown_ms(spread)} after the provider"
        f" has sent its last body, while the run goes on. Median, least and most of {rounds} runs."
    )
    return Section(title="First dataset", text=text, figures={"visible: ms": spread.middle})


def main() -> None:
    """Measure it, and print how long it took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visible", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", help="where the lakes are made, for the time being")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=arguments.folder) as name:
        print(visible_section(rounds=arguments.rounds, folder=Path(name).resolve()).text)


if __name__ == "__main__":
    main()
