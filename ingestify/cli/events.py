"""`ingestify events`: what the lake has told, and how far its readers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ingestify.cli.lake import read_lake
from ingestify.cli.options import catalog_options, json_option
from ingestify.cli.screen import Row, moment, say, write_json, write_records
from ingestify.cli.session import Session

if TYPE_CHECKING:
    from ingestify.model.event import Event
    from ingestify.ports import Catalog


@click.group("events")
def events_command() -> None:
    """Look at the event log and its readers."""


@events_command.command("list")
@click.pass_obj
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="ID", help="Only later.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N")
@json_option
@catalog_options
def events_list_command(session: Session, *, after: int, limit: int, as_json: bool) -> int:
    """List events in the order of commits."""

    async def work(catalog: Catalog) -> int:
        events = await catalog.events(after=after, limit=limit)
        if as_json:
            write_json(events)
        elif events:
            header = ("EVENT", "TIME", "TYPE", "OF", "IDENTITY", "REVISION", "FEEDS")
            write_records(header, [_event_row(event) for event in events])
        else:
            say("No event so far." if not after else f"No event after {after}.")
        if len(events) == limit:
            say(f"There may be more; --after {events[-1].id} shows them.")
        return 0

    return read_lake(session.load_config(), work)


@events_command.command("readers")
@click.pass_obj
@json_option
@catalog_options
def events_readers_command(session: Session, *, as_json: bool) -> int:
    """List who reads the events, and how many wait for each."""

    async def work(catalog: Catalog) -> int:
        readers = await catalog.readers()
        if as_json:
            write_json(readers)
        elif readers:
            rows = [(each.name, each.event, moment(each.moved_at), each.behind) for each in readers]
            write_records(("READER", "EVENT", "MOVED", "BEHIND"), rows)
        else:
            say("Nobody has read the events so far.")
        return 0

    return read_lake(session.load_config(), work)


def _event_row(event: Event) -> Row:
    about = msgspec.json.decode(event.subject)
    identity = about["identifier"] or {}
    return (
        event.id,
        moment(event.time),
        event.type,
        f"{about['provider']}/{about['dataset_type']}",
        "/".join(f"{name}={value}" for name, value in identity.items()),
        event.revision,
        ",".join(event.changed_feeds),
    )
