"""Tries an installed wheel, in an environment that has nothing else. Run by ``make build``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import entry_points, version
from importlib.resources import files
from pathlib import Path

import ingestify

TEMPLATE = ("config.yaml", "query.py", "README.md", "gitignore")


def main() -> None:
    """Fail unless every entry point loads, every file travelled, and the command works."""
    home = Path(ingestify.__file__)
    checkout = Path(__file__).parents[1] / "ingestify"
    assert checkout not in home.parents, f"this is the checkout, not the wheel: {home}"
    assert (home.parent / "py.typed").is_file()
    for name in ingestify.__all__:
        getattr(ingestify, name)
    groups = ("ingestify.sources", "ingestify.kloppy_loaders")
    points = [point for group in groups for point in entry_points(group=group)]
    assert len(points) >= 2, points
    for point in points:
        point.load()
        package = files(point.value.split(":")[0].split(".")[0])
        assert (package / "py.typed").is_file(), point
    template = files("ingestify_statsbomb") / "templates" / "statsbomb_github"
    missing = [name for name in TEMPLATE if not (template / name).is_file()]
    assert not missing, missing
    with tempfile.TemporaryDirectory() as folder:
        command = Path(sys.executable).with_name("ingestify")
        for arguments in (["init", "--template", "statsbomb_github", "."], ["config", "check"]):
            subprocess.run([command, *arguments], cwd=folder, check=True, capture_output=True)
        left = sorted(path.name for path in Path(folder).iterdir())
        assert left == [".gitignore", "README.md", "config.yaml", "query.py"], left
    sys.stdout.write(f"the wheel of ingestify {version('ingestify')} works\n")


if __name__ == "__main__":
    main()
