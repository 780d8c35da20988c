"""A simulated provider in a process of its own, and a configuration that asks it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ingestify.config import Config
from ingestify.errors import ConfigError


@contextmanager
def simulator(options: Sequence[str]) -> Iterator[Config]:
    """The configuration of an empty lake in memory, whose one Source is a simulated provider.

    *options* are those of `python -m ingestify.testing`.

    Raises:
        ConfigError: it does not start with these.
    """
    command = [sys.executable, "-m", "ingestify.testing", *options]
    # Of its own session: Ctrl-C on a terminal is for us, and the provider is ended below.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            base_url = process.stdout.readline().strip() if process.stdout else ""
            if not base_url:
                raise ConfigError(f"the simulator does not start with: {' '.join(options)}")
            yield Config.from_values(
                metadata_url="memory://",
                file_url="memory://",
                sources={
                    "simulator": {
                        "type": "statsbomb_github",
                        "configuration": {"base_url": base_url},
                    }
                },
                ingestion_plans=[{"source": "simulator", "dataset_type": "match"}],
            )
        finally:
            process.terminate()
