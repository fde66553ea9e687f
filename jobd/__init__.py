"""The job service: what a job is, where it runs, and the daemon that runs it.

Cores (no clock, no I/O), lowest first:

    units        sizes and durations as people write them
    request      the cluster request: `2:[8:gtx1070]`
    specyaml     a spec file as a tree of values that know their line and column
    spec         the spec file: text to `JobSpec`, or every problem in it
    ctl          the commands of a `ctl` file
    logformat    the log: pieces of output, and how the pieces of several processes become one file
    lifecycle    the states of a job and the events that change them
    scheduler    which waiting job starts where, and why the others wait
    environment  the variables that every process of a job sees
    wire         what server and node say to each other

Shells do the I/O around them and decide nothing; `jobd.node` is the daemon on a machine that runs jobs.
"""
