"""Who did what, from where, and what came of it.

log      the records in SQL, each in the transaction of the deed itself
record   what one says, and how each holds fast the one before it          | origin  who acts, and from where
"""
