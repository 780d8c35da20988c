"""Probe: asks the Source of one configuration after the other, and says what it found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from anyio import CancelScope

from benchmarks.provider.announced import Announced, Reading, draw
from benchmarks.provider.figures import (
    Endpoint,
    Estimate,
    StepFigures,
    endpoints_of,
    estimate_of,
    steps_of,
)
from benchmarks.provider.measuring import Measuring
from benchmarks.provider.ration import Ration
from benchmarks.provider.recording import RecordingFetcher
from ingestify.cli.exit_codes import COULD_NOT_GO_ON, STOPPED_ON_PURPOSE, cause_of
from ingestify.cli.session import in_memory
from ingestify.client import Client
from ingestify.clock import SystemClock
from ingestify.config import Config
from ingestify.config.secrets import credentials_in, secrets_in
from ingestify.engine import WORKERS
from ingestify.errors import ConfigError, IngestifyError, StopProcessing
from ingestify.model.http import Limits
from ingestify.open_files import OpenFiles
from ingestify.opening import open_catalog, open_fetcher
from ingestify.pipeline.choose import Plan
from ingestify.plugins import build_source, load_fetch_policy
from ingestify.plugins.plans import check_data_feeds
from ingestify.ports import Fetcher, Source
from ingestify.throttle import Throttle

LISTS_SHARE = 4  # one in so many requests may be made for lists
AGAIN_SHARE = 8  # one in so many is kept for asking again
MOST_PROBLEMS = 20  # that are told in words


@dataclass(kw_only=True)
class Findings:
    """What is known of one Source so far. Figures are made of it whenever they are asked for."""

    source: str
    provider: str
    limits: Limits
    most_requests: int
    recorder: RecordingFetcher
    problems: Counter[str] = field(default_factory=Counter)
    error: str | None = None  # why it ended early
    exit_code: int = 0
    announced: Announced = field(default_factory=Announced)
    measuring: Measuring | None = None
    throttle: Throttle | None = None

    @property
    def requests(self) -> int:
        """Sent so far."""
        return len(self.recorder.exchanges)

    @property
    def was_answered(self) -> bool:
        """Whether there was any answer that could be used."""
        return any(each.is_good for each in self.recorder.exchanges)

    @property
    def learnt_rate(self) -> float | None:
        """Requests a second that the provider's refusals leave; None: there was none."""
        rates = [
            host.rate
            for host in (self.throttle.snapshot() if self.throttle else ())
            if host.rate is not None and host.refused
        ]
        return min(rates, default=None)

    @property
    def endpoints(self) -> list[Endpoint]:
        """See `endpoints_of`."""
        return endpoints_of(self.recorder.exchanges)

    @property
    def steps(self) -> list[StepFigures]:
        """See `steps_of`."""
        if self.measuring is None:
            return []
        return steps_of(self.measuring.steps, self.recorder.exchanges)

    @property
    def estimate(self) -> Estimate | None:
        """See `estimate_of`."""
        if self.measuring is None:
            return None
        return estimate_of(
            self.announced,
            self.recorder.exchanges,
            self.steps,
            self.measuring.weights,
            self.measuring.failed,
            self.limits,
        )

    def complain(self, text: str) -> None:
        """Remember what went wrong, in words that hold no secret."""
        if text in self.problems or len(self.problems) < MOST_PROBLEMS:
            self.problems[text] += 1
        else:
            self.problems["others"] += 1


@dataclass(kw_only=True)
class Probe:
    """Asks every chosen Source of *config*, so many *requests* in all, one after the other.

    `findings` grow while it goes on, so that something can be said whenever it is ended.

    Args:
        seed: the same one draws the same lists and Files, as long as the provider has the same.
        say: told what is being done.
    """

    config: Config
    requests: int
    source: str | None = None
    seed: int = 0
    say: Callable[[str], None] = print
    findings: list[Findings] = field(default_factory=list)

    async def run(self) -> None:
        """Fill `findings`. What one Source failed of stands there, and does not keep the others.

        Raises:
            ConfigError: there is no such Source, or one cannot be used as it is configured.
        """
        plans = self._plans()
        share = self.requests // len(plans)
        if share < 1:
            raise ConfigError(f"{self.requests} requests are too few for {len(plans)} sources")
        async with AsyncExitStack() as stack:
            open_files = OpenFiles.within_limit(
                wanted=self._most_at_once, hosts=len(plans), plans=len(plans)
            )
            fetcher = await stack.enter_async_context(open_fetcher(open_files))
            for source, some in plans.items():
                await self._look_at(source, some, fetcher, share)

    @property
    def _most_at_once(self) -> int:
        return self.config.main.concurrency or WORKERS

    def _plans(self) -> dict[Source, list[Plan]]:
        """The plans on each chosen Source."""
        config = self.config
        written = [plan for plan in config.ingestion_plans if self.source in (None, plan.source)]
        if not written:
            known = ", ".join(sorted({plan.source for plan in config.ingestion_plans})) or "none"
            chosen = "" if self.source is None else f" called {self.source}"
            raise ConfigError(f"there is no plan on a source{chosen}; the plans' are: {known}")
        sources = {
            name: build_source(name, config.sources[name], config.folder)
            for name in dict.fromkeys(plan.source for plan in written)
        }
        plans: dict[Source, list[Plan]] = {source: [] for source in sources.values()}
        for plan in written:
            source = sources[plan.source]
            check_data_feeds(source, plan)
            policy = load_fetch_policy(plan.fetch_policy, folder=config.folder)
            keys = list(config.identifier_keys(source.provider, plan.dataset_type))
            scope = config.scope_of(plan)
            plans[source].append(
                Plan(scope=scope, source=source, policy=policy, identifier_keys=keys)
            )
        return plans

    async def _look_at(
        self, source: Source, plans: Sequence[Plan], fetcher: Fetcher, requests: int
    ) -> None:
        found = Findings(
            source=source.name,
            provider=source.provider,
            limits=source.limits,
            most_requests=requests,
            recorder=RecordingFetcher(fetcher, source.base_url),
        )
        self.findings.append(found)
        try:
            async with self._throttle(source) as throttle:
                await self._measure(source, plans, throttle, found)
        except Exception as exc:
            cause = cause_of(exc)
            if isinstance(cause, ConfigError) or not isinstance(cause, IngestifyError):
                raise
            found.error = str(cause)
            is_meant = isinstance(cause, StopProcessing)
            found.exit_code = STOPPED_ON_PURPOSE if is_meant else COULD_NOT_GO_ON

    @asynccontextmanager
    async def _throttle(self, source: Source) -> AsyncIterator[Throttle]:
        """The limits of this probe. Only a daily quota is shared with runs, if there is a lake:
        as of a plan's requests, it is written down there."""
        place = self.config.main.metadata_url.path
        is_shared = source.limits.daily_quota and place is not None and place.exists()
        config = self.config if is_shared else in_memory(self.config)
        async with open_catalog(config) as catalog:
            throttle = Throttle(SystemClock(), catalog)
            try:
                yield throttle
            finally:
                with CancelScope(shield=True):
                    await throttle.give_back()

    async def _measure(
        self,
        source: Source,
        plans: Sequence[Plan],
        throttle: Throttle,
        found: Findings,
    ) -> None:
        rng, ration = random.Random(self.seed), Ration(found.most_requests)
        client = self._client(source, throttle, ration, found.recorder)
        found.throttle = throttle

        def say(text: str) -> None:
            self.say(client.redactor.redact(f"{source.name}: {text}"))

        say("what it has")
        reading = Reading(
            source=source,
            plans=plans,
            client=client,
            ration=ration,
            random=rng,
            complain=lambda text: found.complain(client.redactor.redact(text)),
            found=found.announced,
        )
        with ration.part(max(2, ration.most // LISTS_SHARE)):
            await reading.read()
        measuring = found.measuring = Measuring(
            client=client,
            recorder=found.recorder,
            ration=ration,
            most=min(source.limits.concurrency, self._most_at_once),
            complain=found.complain,
            progress=say,
        )
        await measuring.look_at_inline(found.announced)
        lots = {
            feed: lot
            for feed, lot in found.announced.lots.items()
            if feed not in found.announced.inline
        }
        files = ration.left - ration.most // AGAIN_SHARE
        with ration.part(files):
            await measuring.take_steps(draw(lots, files, rng) if lots and files > 0 else [])
        await measuring.ask_again(found.announced)

    def _client(
        self, source: Source, throttle: Throttle, ration: Ration, recorder: RecordingFetcher
    ) -> Client:
        client = Client(
            source, fetcher=recorder, throttle=throttle, clock=SystemClock(), allowance=ration
        )
        client.redactor.learn(secrets_in(self.config))
        client.redactor.learn_credentials(tuple(credentials_in(self.config)))
        recorder.redactor = client.redactor
        return client
