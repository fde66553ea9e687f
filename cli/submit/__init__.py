"""From a folder on this machine to a job: what is shipped, and what is said of it.

packages    the text that is submitted, with what it names shipped
paddlecloud jobs of PaddleCloud's kind, in their folder of the tree    | shipping   how far that is, for people
ship        what the server lacks of a folder
provenance  where a folder comes from, as git knows it                 | spectext   specs as clients write them
treewalk    which files of it a job gets, by ignorerules where there is no git
"""
