"""The job service: what a job is, where it runs, and the daemon that runs it.

Cores (no clock, no I/O), lowest first:

    units        sizes and durations as people write them
    request      the cluster request: `2:[8:gtx1070]`
    specyaml     a spec file as a tree of values that know their line and column
    specvalues   how each kind of value of a spec is read
    spec         the spec file: text to `JobSpec`, or every problem in it
    ctl          the commands of a `ctl` file
    logformat    the log: pieces of output, and how the pieces of several processes become one file
    lifecycle    the states of a job and the events that change them
    scheduler    which waiting job starts where, and why the others wait
    environment  the variables that every process of a job sees
    wire         what server and node say to each other
    job          a job as the service holds it
    nodeview     a machine as the scheduler counts with it
    assign       from a job to the task that a node is given

Shells do the I/O around them and decide nothing:

    schema, db   jobs, their events, drafts and nodes in SQL
    logs         the logs on disk
    fleet        the machines, and which are connected
    workshop     the directories of a job, and the copy of what it names
    engine       takes what happens to jobs, keeps it, and does what follows
    sessions     the server's end of a node's connection
    files        jobs and nodes as files of the tree
    node         the daemon on a machine that runs jobs
"""
