"""From the text of a job to what it asks for, or to every problem in it."""
