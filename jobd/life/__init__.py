"""The life of a job: what can happen to it, and what it becomes."""
