"""A small invented shop as a SQLite file: five tables with foreign keys, the same in every run."""

import random
import sqlite3
from pathlib import Path

WORLD_SEED = 13
CATEGORIES = ("toys", "books", "garden", "kitchen", "music", "sports", "lamps", "paper")
THINGS = ("kite", "atlas", "rake", "kettle", "drum", "racket", "lantern", "folder", "puzzle", "novel", "spade", "pan")
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "silver")
CITIES = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Hazel", "Juniper", "Larch", "Maple")
NAMES = (
    "Ada",
    "Bo",
    "Cleo",
    "Dov",
    "Eli",
    "Fay",
    "Gil",
    "Hana",
    "Ivo",
    "Jun",
    "Kai",
    "Lea",
    "Mio",
    "Noa",
    "Ola",
    "Pia",
)
SURNAMES = ("Abel", "Brandt", "Castro", "Dahl", "Eriks", "Faber")
TABLES = """
create table category (id integer primary key, name text not null);
create table product (
    id integer primary key, name text not null, colour text not null, price real not null, weight integer not null,
    category_id integer not null references category(id)
);
create table customer (id integer primary key, name text not null, city text not null, age integer not null);
create table purchase (
    id integer primary key, customer_id integer not null references customer(id), month text not null,
    delivery text not null
);
create table purchase_line (
    purchase_id integer not null references purchase(id), product_id integer not null references product(id),
    amount integer not null, discount integer not null, primary key (purchase_id, product_id)
);
"""
MONTHS = ("January", "February", "March", "April", "May", "June")


def make_shop(path: Path) -> None:
    """Write the shop's database. Raises `FileExistsError` where there is a file already."""
    if path.exists():
        raise FileExistsError(path)
    rng = random.Random(WORLD_SEED)
    database = sqlite3.connect(path)
    try:
        database.executescript(TABLES)
        for table, rows in _rows(rng).items():
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(f"insert into {table} values ({marks})", rows)
        database.commit()
    finally:
        database.close()


def _rows(rng: random.Random) -> dict[str, list[tuple]]:
    kinds = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
    people = [f"{name} {surname}" for name in NAMES for surname in SURNAMES]
    products = [
        (i, name, name.split()[0], rng.randrange(150, 20_000) / 100, rng.randrange(50, 5000), rng.randint(1, 8))
        for i, name in enumerate(rng.sample(kinds, 80), 1)
    ]
    customers = [(i, name, rng.choice(CITIES), rng.randint(18, 80)) for i, name in enumerate(rng.sample(people, 60), 1)]
    purchases = [
        (i, rng.randint(1, 60), rng.choice(MONTHS), rng.choice(("post", "courier", "pickup"))) for i in range(1, 241)
    ]
    lines = [
        (purchase, product, rng.randint(1, 9), rng.choice((0, 0, 0, 5, 10, 20)))
        for purchase in range(1, 241)
        for product in rng.sample(range(1, 81), rng.randint(1, 4))
    ]
    return {
        "category": list(enumerate(CATEGORIES, 1)),
        "product": products,
        "customer": customers,
        "purchase": purchases,
        "purchase_line": lines,
    }
