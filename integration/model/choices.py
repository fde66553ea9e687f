"""What random system calls are made with: few names, so that they meet, and sizes beside the borders of pages."""

import functools
import operator
import os

from hypothesis import strategies as st

from integration.model.place import Data

SLOTS_MAX = 5
LONGEST_NAME = "界" * 85
SIZES = (0, 1, 5, 100, 4095, 4096, 4097, 10_000, 65_535, 65_536, 65_537, 131_073, 300_000, 2_097_153)
FLAGS = (os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY)

paths = st.sampled_from(
    ["a", "b", "c", "s", "d", "d/a", "d/b", "d/s", "d/d", "d/d/a", "e", "e/a", "e/b", "s/a", "\n\t'", LONGEST_NAME]
)
wrong_paths = st.sampled_from(["x" * 256, "d/" + "ä" * 128, "a/", "d/.", "d/..", "missing/a", "d/d/d/d", "a/a/a"])
any_paths = st.one_of(paths, paths, paths, wrong_paths)
targets = st.sampled_from(["a", "b", "d", "d/a", "../b", "../d", "s", ".", "missing", "x" * 4000])
modes = st.sampled_from([0o644, 0o600, 0o755, 0o777, 0o000, 0o400, 0o111])
sizes = st.sampled_from(SIZES)
small_sizes = st.sampled_from(SIZES[:-1])
data = st.builds(Data, st.integers(1, 255), sizes)
small_data = st.builds(Data, st.integers(1, 255), small_sizes)
times_ns = st.integers(0, 10**18 - 1)
access = st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
flags = st.builds(
    lambda one, others: functools.reduce(operator.or_, others, one), access, st.sets(st.sampled_from(FLAGS), max_size=2)
)
names_of_xattrs = st.sampled_from(["user.a", "user.b", "user.ä", "user."])
values = st.sampled_from([b"", b"v", b"\0\xff", b"w" * 1000])
picks = st.integers(0, SLOTS_MAX - 1)
mounts = st.integers(0, 1)
