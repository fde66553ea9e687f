"""Jobs and machines as files: what jobd puts into the tree of pfs.

cluster    all of it at the top: jobs/ nodes/ clusters/ aliases/ me queue status
jobs       the directory jobs/: names, drops, numbers
views      its by-state/, by-user/ and by-node/
drafts     texts in jobs/, and how closing one submits it
job        the directory of one job
jobtexts   the texts in it
processes  tasks    its processes, or the tasks of an array
streams    control  its logs, and `ctl`
events     the history of the datacenter
nodes      clusters aliases secrets  the directories of these names
sources    what files are made from
facts      how facts are written
"""
