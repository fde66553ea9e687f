"""The job service: what a job is, where it runs, and the daemon that runs it.

Cores (no clock, no I/O), lowest first:

    spec         from the text of a job to what it asks for
    identity     who a machine is: nodes, their instances, and clusters
    life         the states of a job, the events that change them, and what each state wants done
    scheduling   which waiting job starts where, and why the others wait
    logformat    the log: pieces of output, and how the pieces of several processes become one file
    ctltext      what is written to a `ctl` file; ctl has the commands of a job's, nodectl those of a node's
    nodestate    how a node stands: heard of or not, and whether it takes new work
    environment  the variables that every process of a job sees
    wire         what server and node say to each other
    manifest     what a client ships: a tree by the hashes of its contents
    imagename    what an engine understands by the name of an image
    job          a job as the service holds it

Shells do the I/O around them and decide nothing:

    store        jobs, their events, drafts and nodes in SQL; logs on disk
    engine       takes what happens to jobs, keeps it, and does what follows
    files        jobs and nodes as files of the tree
    node         the daemon on a machine that runs jobs
"""
