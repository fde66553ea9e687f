"""Jobs and nodes as files: what jobd puts into the tree of pfs.

jobs      the directory jobs/: names, drops, numbers
drafts    texts in jobs/, and how closing one submits it
job       the directory of one job, one class per kind of file
nodes     the directory nodes/
"""
