"""Refuses hosts whose addresses lie in somebody's own network."""

from __future__ import annotations

import ipaddress
from typing import Any, Protocol

from ingestify.errors import UnsafeTargetError

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Resolver(Protocol):
    """What aiohttp calls a resolver."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]: ...
    async def close(self) -> None: ...


class PublicResolver:
    """Answers with what *resolver* finds, if all of it is public.

    The connection is made to the very addresses that were looked at: nobody resolves again.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            refuse_private(host, each["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def refuse_private(host: str, address: str) -> None:
    """Raise `UnsafeTargetError` unless *address*, to which *host* resolves, is public."""
    if not is_public(address):
        raise UnsafeTargetError(f"{host} has the address {address}, which is not public")


def is_public(address: str) -> bool:
    """Whether *address* is reachable for everybody, also where IPv6 carries an IPv4 in it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def literal_address(host: str) -> str | None:
    """*host* if it is an address itself, which no resolver is asked for."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
