"""What users may import is what is written down, and it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import ingestify


def test_public_names_are_sorted_and_real() -> None:
    """Every name in ``__all__`` can be had, once, in order."""
    assert list(ingestify.__all__) == sorted(ingestify.__all__, key=_order)
    assert len(set(ingestify.__all__)) == len(ingestify.__all__)
    for name in ingestify.__all__:
        assert getattr(ingestify, name) is not None


def test_every_home_is_public() -> None:
    """What can be imported lazily and what is written in ``__all__`` are the same names."""
    assert set(ingestify._HOME_OF) | {"__version__"} == set(ingestify.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typo is answered as Python answers it."""
    assert not hasattr(ingestify, "Sauce")


def test_importing_the_package_loads_nothing_heavy() -> None:
    """``import ingestify`` does not pay for what the caller does not use."""
    heavy = ("aiohttp", "kloppy", "polars", "pydantic", "rich", "click", "msgspec")
    code = f"import sys, ingestify; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, as the linter sorts them."""
    if name.isupper():
        return (0, name)
    return (1, name) if name[0].isupper() else (2, name)
