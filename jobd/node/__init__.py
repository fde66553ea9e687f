"""The node daemon: takes tasks from a server, runs them, ships their output, tells how they ended.

daemon      the connection to the server, and a `Task` for everything that was started here
task, ship  one task's life; its output, on its way to the server
dataroot    what the server assigns becomes what a runtime is told; secretfiles, what only the task may read
state       what the daemon itself must know after a restart
runtime     what a runtime promises (two of them follow)
admission   what the node's owner lays down, before each start: policy, hostmounts, hostpaths, staging
watchdog    ends what the server starts elsewhere when it has not heard of the node
docker      one container per task: images, collector, engine, spool
networks    who reaches whom: ownbridge, wall, nftables
sandbox     one bubblewrap per task: userland, seccomp, etc, record, supervisor.sh
gate        what a program waits behind that begins together with others; fellows, until it can find them
attachments what users have in tasks: execs (containers), entering, keeper, confined (sandboxes), dialing (ports)
tail, watch, processes   following a file; being told that it grew; processes and signals
ends, gpus, attrs        how a task ended, in words; the machine's GPUs; what else the machine is
"""
