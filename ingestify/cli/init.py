"""`ingestify init`: a folder to begin with, from a template that a source's package brings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingestify.cli.options import common_options
from ingestify.cli.screen import say, write
from ingestify.cli.session import Session
from ingestify.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

GROUP = "ingestify.sources"
HIDDEN = {"gitignore": ".gitignore", "env.example": ".env.example"}  # packages may drop dotfiles


@click.command("init")
@click.pass_obj
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("--template", metavar="NAME", help="What to begin with.")
@click.option("--list", "only_list", is_flag=True, help="List the templates.")
@common_options
def init_command(session: Session, *, path: Path, template: str | None, only_list: bool) -> int:
    """Write a configuration and what belongs to it into PATH.

    Nothing that exists is ever overwritten.
    """
    templates = _templates()
    if only_list:
        for name in sorted(templates):
            write(name)
        return 0
    known = ", ".join(sorted(templates)) or "none"
    if template is None:
        raise ConfigError(f"say which template with --template; there is: {known}")
    if template not in templates:
        raise ConfigError(f"there is no template {template!r}; there is: {known}")
    for file in write_template(templates[template], path):
        write(f"wrote {file}")
    _say_what_next(session, path)
    return 0


def write_template(template: Traversable, folder: Path) -> list[Path]:
    """Write the files of *template* into *folder*; all of them, or none.

    Raises:
        ConfigError: one of them exists already.
    """
    contents = {folder / name: file.read_bytes() for name, file in _files(template)}
    taken = [str(file) for file in contents if file.exists() or file.is_symlink()]
    if taken:
        raise ConfigError(f"nothing was written, since there is already: {', '.join(taken)}")
    for file, content in contents.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as opened:
            opened.write(content)
    return list(contents)


def _templates() -> dict[str, Traversable]:
    """Every template by name: the folders in ``templates/`` of the packages that bring sources."""
    from importlib.metadata import entry_points
    from importlib.resources import files

    found: dict[str, Traversable] = {}
    packages = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
    for package in sorted(packages):
        try:
            folder = files(package) / "templates"
        except Exception as exc:  # a package of somebody else's, with bugs of its own
            say(f"Warning: {package} cannot be imported: {exc}")
            continue
        if folder.is_dir():
            found |= {
                each.name: each for each in folder.iterdir() if (each / "config.yaml").is_file()
            }
    return found


def _files(folder: Traversable, below: str = "") -> Iterator[tuple[str, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.name == "__pycache__":
            continue
        if each.is_dir():
            yield from _files(each, f"{below}{each.name}/")
        else:
            yield below + HIDDEN.get(each.name, each.name), each


def _say_what_next(session: Session, path: Path) -> None:
    if session.quiet:
        return
    say("\nNext:")
    if path != Path():
        say(f"  cd {path}")
    say("  ingestify plan     to see what a run would do")
    say("  ingestify run      to fetch what is new or changed")
