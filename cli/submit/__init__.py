"""From a folder on this machine to a job: what is shipped, what is said of it, and how it is followed.

packages    the text that is submitted, with what it names shipped     | following  a job that was submitted
ship        what the server lacks of a folder
provenance  where a folder comes from, as git knows it                 | spectext   specs as clients write them
treewalk    which files of it a job gets, by ignorerules where there is no git
"""
