"""A database that many attempts read and each changes for itself: tables of records, copied on write."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Tables = Mapping[str, Mapping[str, Record]]


def state_hash(state: Any) -> str:
    """SHA-256 of a JSON structure: the order of keys doesn't count, that of lists does (#55)."""
    text = json.dumps(state, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A record that is not what it was."""

    table: str
    record: str
    """Its key in the table."""
    before: Record | None
    """None: there was none."""
    after: Record | None

    def to_json(self) -> dict[str, Any]:
        path = f"{self.table}/{self.record}"
        return {"table": self.table, "record": self.record, "path": path, "before": self.before, "after": self.after}


class Database:
    """A private view of shared tables. Only records that were written take memory of their own."""

    def __init__(self, tables: Tables) -> None:
        self._base = tables
        self._written: dict[str, dict[str, Record]] = {}

    def keys(self, table: str) -> list[str]:
        """Keys of a table's records: those of the beginning first, in their order."""
        base = self._base.get(table, {})
        return [*base, *(key for key in self._written.get(table, {}) if key not in base)]

    def get(self, table: str, key: str) -> Record | None:
        """A record to read, never to change; None where there is none."""
        written = self._written.get(table, {})
        return written[key] if key in written else self._base.get(table, {}).get(key)

    def records(self, table: str) -> Iterator[Record]:
        """All records of a table, to read."""
        for key in self.keys(table):
            record = self.get(table, key)
            assert record is not None
            yield record

    def edit(self, table: str, key: str) -> Record:
        """A private copy of a record, to change in place. Raises `KeyError` where there is none."""
        record = self.get(table, key)
        if record is None:
            raise KeyError(f"{table}/{key}")
        return self.put(table, key, deepcopy(record))

    def put(self, table: str, key: str, record: Record) -> Record:
        """Write a whole record, a new one or another in its place."""
        self._written.setdefault(table, {})[key] = record
        return record

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside or, where it raises, none."""
        before = {table: dict(records) for table, records in self._written.items()}
        try:
            yield
        except BaseException:
            self._written = before
            raise

    def merge(self, update: Mapping[str, Mapping[str, Any]]) -> None:
        """Lay nested values over the records; lists are replaced, not joined."""
        for table, records in update.items():
            for key, values in records.items():
                self.put(table, key, _merged(self.get(table, key) or {}, values))

    def changes(self) -> list[Change]:
        """Every record that differs from the beginning, by table and key."""
        found = []
        for table, records in sorted(self._written.items()):
            for key, record in sorted(records.items()):
                before = self._base.get(table, {}).get(key)
                if before != record:
                    found.append(Change(table=table, record=key, before=before, after=record))
        return found

    def tables(self) -> dict[str, dict[str, Record]]:
        """The whole database as it stands, to read."""
        names = [*self._base, *(table for table in self._written if table not in self._base)]
        return {table: {**self._base.get(table, {}), **self._written.get(table, {})} for table in names}

    def hash(self) -> str:
        """`state_hash` of the whole."""
        return state_hash(self.tables())

    def changes_hash(self) -> str:
        """Equal for two views of the same tables just where `hash` is, and far cheaper."""
        return state_hash([[change.table, change.record, change.after] for change in self.changes()])

    def state_dict(self) -> dict[str, Any]:
        """The records written so far, as JSON."""
        return deepcopy(self._written)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._written = deepcopy(dict(state))


def _merged(base: Mapping[str, Any], update: Any) -> Any:
    if not isinstance(update, Mapping):
        return deepcopy(update)
    made = deepcopy(dict(base))
    for key, value in update.items():
        inner = made.get(key)
        made[key] = _merged(inner if isinstance(inner, Mapping) else {}, value)
    return made
