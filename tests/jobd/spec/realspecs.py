"""Specs as people and programs write them: what the tests of half-written ones cut everywhere."""

from pathlib import Path

# a text by the name of its file; the bytes count, to the last newline or none
REAL = {path.name: path.read_bytes() for path in sorted(Path(__file__).with_name("real").iterdir())}
