"""Single settings as people write them: addresses, durations, sizes and shares."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, NoReturn

from ingestify.errors import ConfigError

SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")  # of a Windows path; not an address
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SECRETS_MANAGER = re.compile(r"\s*(vault\+[A-Za-z0-9]+)://", re.IGNORECASE)
DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*\Z", re.IGNORECASE)
SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*\Z", re.IGNORECASE)
PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*\Z")

SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
BYTES = {"": 1, "b": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for unit, base in (("b", 1000), ("ib", 1024))
}
LONGEST = timedelta(days=3650)

NOT_YET = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
    "s3": "Amazon S3",
    "gs": "Google Cloud Storage",
    "gcs": "Google Cloud Storage",
    "az": "Azure Blob Storage",
    "abfs": "Azure Blob Storage",
    "abfss": "Azure Blob Storage",
}
CATALOG_FORM = "sqlite:///relative/catalog.db or sqlite:////absolute/catalog.db"
FILES_FORM = "file://relative/folder, file:///absolute/folder or a plain path"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogUrl:
    """Where the Catalog lives. Its text holds no secret."""

    kind: Literal["sqlite", "memory"]
    path: Path | None = None  # absolute; None: in memory

    @classmethod
    def parse(cls, written: str) -> CatalogUrl:
        """What a ``metadata_url`` stands for; relative paths begin in the working folder.

        Raises:
            ConfigError: it is no address of a Catalog, or of one that is not supported yet.
        """
        refuse_secrets_manager(written)
        scheme, rest = _split(written)
        if scheme == "memory" and not rest:
            return cls(kind="memory")
        if scheme != "sqlite":
            _refuse(scheme, CATALOG_FORM)
        if rest in ("", "/", "/:memory:"):
            return cls(kind="memory")
        if not rest.startswith("/"):
            raise ConfigError(f"sqlite:// is followed by one more slash: {CATALOG_FORM}")
        if "?" in rest:
            raise ConfigError(f"options after a ? are not supported: {CATALOG_FORM}")
        return cls(kind="sqlite", path=_absolute(rest[1:]))

    def __str__(self) -> str:
        return "memory://" if self.path is None else f"sqlite:///{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUrl:
    """Where the bytes of Files live. Its text holds no secret."""

    kind: Literal["local", "memory"]
    path: Path | None = None  # absolute; None: in memory

    @classmethod
    def parse(cls, written: str) -> FileUrl:
        """What a ``file_url`` stands for; relative paths begin in the working folder.

        ``file://database/files`` is relative, although a browser would take its first part for
        the name of a host.

        Raises:
            ConfigError: it is no address of a FileStore, or of one that is not supported yet.
        """
        refuse_secrets_manager(written)
        scheme, rest = _split(written)
        if scheme == "memory" and not rest:
            return cls(kind="memory")
        if scheme not in ("", "file"):
            _refuse(scheme, FILES_FORM)
        if not scheme and re.match(r"[A-Za-z0-9+]{2,}:", rest):
            raise ConfigError(f"neither an address nor a path: {FILES_FORM}")
        if not rest.strip():
            raise ConfigError(f"no folder is named: {FILES_FORM}")
        return cls(kind="local", path=_absolute(rest))

    def __str__(self) -> str:
        return "memory://" if self.path is None else f"file://{self.path}"


def refuse_secrets_manager(text: str) -> None:
    """Raise a `ConfigError` where *text* asks for a value from a secrets manager."""
    found = SECRETS_MANAGER.match(text)
    if found:
        raise ConfigError(
            f"{found[1].lower()}:// (a secrets manager) is not supported yet; put the value into "
            "an environment variable and write !ENV ${NAME}"
        )


def duration(written: object) -> timedelta:
    """Seconds as a number, or text with a unit: ``"500ms"``, ``"30s"``, ``"5m"``, ``"2h"``.

    Raises:
        ConfigError: it is no duration, or not above 0.
    """
    if isinstance(written, timedelta):
        span = written
    else:
        seconds = _measure(written, DURATION, SECONDS, 'seconds, or text such as "30s" or "5m"')
        if seconds > LONGEST.total_seconds():
            raise ConfigError(f"must be at most {LONGEST.days} days")
        span = timedelta(seconds=seconds)
    if not timedelta(0) < span <= LONGEST:
        raise ConfigError(f"must be above 0 and at most {LONGEST.days} days")
    return span


def size(written: object) -> int:
    """Bytes as a number, or text with a unit: ``"2 GB"`` (1000 cubed), ``"64 MiB"``.

    Raises:
        ConfigError: it is no size, or not at least 1 byte.
    """
    count = int(_measure(written, SIZE, BYTES, 'bytes, or text such as "64 MB" or "2 GiB"'))
    if not 1 <= count < 2**63:
        raise ConfigError("must be at least 1 byte, and less than 8 EiB")
    return count


def share(written: object) -> float:
    """A number between 0 and 1, or text such as ``"5%"``.

    Raises:
        ConfigError: it is no share.
    """
    percent = PERCENT.match(written) if isinstance(written, str) else None
    expected = 'a share between 0 and 1, or text such as "5%"'
    value = float(percent[1]) / 100 if percent else _measure(written, SIZE, {"": 1}, expected)
    if not 0 <= value <= 1:
        raise ConfigError(f"must be {expected}")
    return value


def size_in_words(count: int) -> str:
    """*count* bytes for people: ``"2.5 GB"``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _measure(
    written: object, form: re.Pattern[str], units: dict[str, float] | dict[str, int], expected: str
) -> float:
    """*written* in the smallest unit; a number has no unit. Never infinite."""
    if isinstance(written, str):
        found = form.match(written)
        factor = units.get(found[2].lower()) if found else None
        if found is None or factor is None:
            raise ConfigError(f"must be {expected}")
        value = float(found[1]) * factor
    elif isinstance(written, int | float) and not isinstance(written, bool):
        try:
            value = float(written)
        except OverflowError:
            value = math.inf
    else:
        raise ConfigError(f"must be {expected}")
    if not math.isfinite(value):
        raise ConfigError(f"must be {expected}")
    return value


def _split(written: str) -> tuple[str, str]:
    if CONTROL.search(written):
        raise ConfigError("must not hold control characters")
    found = SCHEME.match(written)
    if found is None:
        return "", written.strip()
    return found[1].lower(), written[found.end() :].strip()


def _refuse(scheme: str, form: str) -> NoReturn:
    if not scheme:
        raise ConfigError(f"must be an address: {form}")
    name = NOT_YET.get(scheme.partition("+")[0])
    if name:
        raise ConfigError(f"{scheme}:// ({name}) is not supported yet; use {form}")
    raise ConfigError(f"{scheme}:// is not known here; use {form}")


def _absolute(path: str) -> Path:
    """*path* from the working folder as it is now, so that a later `chdir` moves nothing."""
    if path.startswith("~/"):
        return Path(path).expanduser()
    return Path.cwd() / path
