"""Records as plain values."""

from dataclasses import asdict, dataclass, field

from pfs.plain import fields_of


@dataclass(frozen=True, slots=True)
class Inner:
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outer:
    one: Inner
    many: tuple[Inner, ...]
    listed: list[Inner]
    named: dict[str, Inner] = field(default_factory=dict)
    none: Inner | None = None


def test_a_record_is_what_asdict_makes_of_it():
    record = Outer(Inner(("a", "b")), (Inner(), Inner(("c",))), [Inner(("d",))], {"e": Inner(("f",))})
    assert fields_of(record) == asdict(record)
