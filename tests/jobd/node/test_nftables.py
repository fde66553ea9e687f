"""What the kernel's firewall is told, byte by byte, and what is understood of its answers."""

import struct
from collections.abc import Iterator

import pytest

from jobd.node.nftables import Refused, comments, drop_where, replace, rules_of

COMMENT = "containers of pfs jobs reach no other container"
RULE = drop_where(6, bytes.fromhex("027066"), COMMENT)
REQUEST, ACKNOWLEDGE, CREATE, APPEND, DUMP = 1, 4, 0x400, 0x800, 0x300
DONE, ERROR = 3, 2


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while data:
        size, kind, flags = struct.unpack_from("=IHH", data)
        assert size % 4 == 0
        yield kind, flags, data[16:size]
        data = data[size:]


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def words(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else " " for byte in data)


def test_a_table_is_replaced_in_one_transaction() -> None:
    found = list(messages(replace("pfs", "wall", [RULE, RULE])))
    # of subsystem 10: a table there, gone, there; a chain; its rules; between a begin and an end
    kinds = [16, 0xA00, 0xA02, 0xA00, 0xA03, 0xA06, 0xA06, 17]
    assert [kind for kind, _, _ in found] == kinds
    flags = [REQUEST | CREATE, REQUEST, REQUEST | CREATE, REQUEST | CREATE]
    rules = REQUEST | CREATE | APPEND
    # one answer is asked for, to the last
    assert [flag for _, flag, _ in found] == [REQUEST, *flags, rules, rules | ACKNOWLEDGE, REQUEST]
    assert {body[:4] for _, _, body in found[1:-1]} == {bytes([7, 0, 0, 0])}, "of the family of bridges"
    assert {body for _, _, body in (found[0], found[-1])} == {bytes([0, 0, 0, 10])}
    assert "filter" in words(found[4][2])


def test_a_rule_compares_bytes_of_the_frames_header_and_drops() -> None:
    # load 3 bytes at 6 of the link's header into a register, compare it for equality, drop
    payload = "0800 0100 00000001 0800 0200 00000000 0800 0300 00000006 0800 0400 00000003"
    compare = "0800 0100 00000001 0800 0200 00000000 0c00 0300 0700 0100 027066 00"
    verdict = "0800 0100 00000000 1000 0200 0c00 0200 0800 0100 00000000"
    assert RULE in COMMENTED, "as a kernel tells it"
    for expected in (payload, compare, verdict):
        assert bytes.fromhex(expected) in RULE
    assert words(RULE).index("payload") < words(RULE).index("cmp") < words(RULE).index("immediate")


# what a kernel told of the rules of a chain, of one with a comment and of one without
COMMENTED = bytes.fromhex(
    "00010000060a020800000000511500000700000208000100706673000900020077616c6c000000000c000300000000000000000294000400"
    "340001000c0001007061796c6f6164002400020008000100000000010800020000000000080003000000000608000400000000032c000100"
    "08000100636d700020000200080001000000000108000200000000000c0003000700010002706600300001000e000100696d6d6564696174"
    "650000001c0002000800010000000000100002000c0002000800010000000000360007000030636f6e7461696e657273206f662070667320"
    "6a6f6273207265616368206e6f206f7468657220636f6e7461696e6572000000"
)
PLAIN = bytes.fromhex(
    "c8000000060a020809000000217800000700000208000100706673000900020077616c6c000000000c000300000000000000000294000400"
    "340001000c0001007061796c6f6164002400020008000100000000010800020000000000080003000000000608000400000000032c000100"
    "08000100636d700020000200080001000000000108000200000000000c0003000700010002706600300001000e000100696d6d6564696174"
    "650000001c0002000800010000000000100002000c0002000800010000000000"
)


def test_rules_are_told_by_their_comments() -> None:
    (question,) = messages(rules_of("pfs", "wall"))
    assert question[:2] == (0xA07, REQUEST | DUMP)
    last = message(DONE, bytes(4))
    assert comments(COMMENTED + PLAIN) == ([COMMENT, ""], False)
    assert comments(PLAIN + COMMENTED + last) == (["", COMMENT], True)
    assert comments(last) == ([], True)


def test_what_is_taken_down_has_no_rules_and_what_is_told_to_be_done_is_done() -> None:
    assert comments(message(ERROR, struct.pack("=i", 0) + bytes(16))) == ([], True)
    with pytest.raises(Refused) as caught:
        comments(message(ERROR, struct.pack("=i", -95) + bytes(16)))
    assert caught.value.errno == 95
