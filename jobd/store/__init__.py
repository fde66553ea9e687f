"""What is kept: jobs and their events in SQL, logs on disk."""
