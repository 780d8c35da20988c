"""Invented clubs, squads and officials for the generated StatsBomb-format provider."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")
Json = dict[str, Any]

TEAMS_PER_COMPETITION = 20
SQUAD_SIZE = 18

SPAIN: Json = {"id": 214, "name": "Spain"}
COUNTRIES: tuple[Json, ...] = (
    SPAIN,
    {"id": 11, "name": "Argentina"},
    {"id": 31, "name": "Brazil"},
    {"id": 56, "name": "Croatia"},
    {"id": 78, "name": "France"},
    {"id": 183, "name": "Portugal"},
    {"id": 220, "name": "Sweden"},
    {"id": 242, "name": "Uruguay"},
)

PLACES = (
    "Valdoria", "Peñalume", "Castroviña", "Montebrío", "Sanmoral", "Ondárrabe", "Güemira",
    "Riosenda", "Altamareja", "Cabo Lirio", "Torrealma", "Nuévola", "Puerto Ánade", "Vallegrís",
    "Monçalva", "Estrelía", "Fontebréa", "Lagomar", "Zubialde", "Brañaluz",
)  # fmt: skip
CLUBS = ("Atlético {}", "Deportivo {}", "Real {}", "Racing {}", "{}", "Unión {}", "{} CF")
STADIUMS = ("Estadio de {}", "Campo Nuevo de {}", "Estadio Municipal {}", "{} Arena")

FIRST_NAMES = (
    "Adrián", "Álvaro", "Amadís", "Bruno", "Celso", "Darío", "Efrén", "Elías", "Fermín", "Gael",
    "Germán", "Íñigo", "Isidro", "Joaquín", "Jörgen", "Léandre", "Lisandro", "Luka", "Martín",
    "Néstor", "Nuño", "Óscar", "Raúl", "Régis", "Rubén", "Saúl", "Tadeo", "Tomé", "Vîctor",
    "Zlatko",
)  # fmt: skip
SURNAMES = (
    "Abelmora", "Arrizola", "Baldeón", "Bragánz", "Candelás", "Čarnović", "Dorvalén", "Echarte",
    "Espinedo", "Ferrándiz", "Galarreta", "Gonçálvares", "Hermosel", "Illarra", "Jaurena",
    "Küllberg", "Lamprín", "Lourenzal", "Marzábal", "Mondéjar", "Núñezal", "Olavide", "Ponferro",
    "Quirós", "Rondeño", "Sørdahl", "Tejerizo", "Urkiza", "Valtueña", "Zárrate",
)  # fmt: skip


class Dice:
    """Draws that depend on the given words alone: the same in every process and Python version."""

    def __init__(self, *words: object) -> None:
        source = random.Random("/".join(map(str, words)))
        self.unit = source.random  # in [0, 1)
        self._bits = source.getrandbits

    def below(self, end: int) -> int:
        return int(self.unit() * end)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        keyed = [(self.unit(), index) for index in range(len(items))]
        return [items[index] for _, index in sorted(keyed)]

    def uuid(self) -> str:
        digits = f"{self._bits(128):032x}"
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-"
            f"{'89ab'[int(digits[16], 16) % 4]}{digits[17:20]}-{digits[20:]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    id: int
    name: str
    nickname: str | None
    jersey_number: int
    country: Json

    @property
    def reference(self) -> Json:
        return {"id": self.id, "name": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A club. The first eleven of its squad are in the order of the positions of a line-up."""

    id: int
    name: str
    country: Json
    stadium: Json
    manager: Json
    squad: tuple[Player, ...]  # goalkeepers at 0 and 11

    @property
    def reference(self) -> Json:
        return {"id": self.id, "name": self.name}


@lru_cache(maxsize=64)
def teams_of(seed: int, competition_id: int) -> tuple[Team, ...]:
    """The clubs of a competition, the same in each of its seasons."""
    dice = Dice(seed, "teams", competition_id)
    places = dice.shuffled(PLACES)
    return tuple(
        _team(dice, 200_000 + competition_id * 100 + number, places[number])
        for number in range(TEAMS_PER_COMPETITION)
    )


def referee(dice: Dice) -> Json:
    return {"id": 9_000 + dice.below(40), "name": _full_name(dice), "country": SPAIN}


def _team(dice: Dice, team_id: int, place: str) -> Team:
    numbers = [1, *dice.shuffled(range(2, 26))]
    squad = tuple(_player(dice, team_id, n, numbers[n]) for n in range(SQUAD_SIZE))
    # A tab at the end of a stadium's name is in real lists too.
    stadium_name = dice.pick(STADIUMS).format(place) + ("\t" if team_id % 10 == 7 else "")
    return Team(
        id=team_id,
        name=dice.pick(CLUBS).format(place),
        country=SPAIN,
        stadium={"id": team_id + 50_000, "name": stadium_name, "country": SPAIN},
        manager={
            "id": team_id + 70_000,
            "name": _full_name(dice),
            "nickname": None,
            "dob": f"{1960 + dice.below(25)}-{1 + dice.below(12):02}-{1 + dice.below(28):02}",
            "country": dice.pick(COUNTRIES),
        },
        squad=squad,
    )


def _player(dice: Dice, team_id: int, number: int, jersey_number: int) -> Player:
    name = _full_name(dice)
    first, surname, *_ = name.split()
    return Player(
        id=team_id * 100 + number,
        name=name,
        nickname=f"{first} {surname}" if dice.chance(0.4) else None,
        jersey_number=jersey_number,
        country=SPAIN if dice.chance(0.6) else dice.pick(COUNTRIES),
    )


def _full_name(dice: Dice) -> str:
    return f"{dice.pick(FIRST_NAMES)} {dice.pick(SURNAMES)} {dice.pick(SURNAMES)}"
