"""Measurements against the alternative, in the same run; see script/bench."""
