"""The engine: takes what happens to jobs, keeps it, and does what follows."""
