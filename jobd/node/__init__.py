"""The node daemon: takes tasks from a server, runs them, ships their output, tells how they ended.

daemon      the connection to the server, and a `Task` for everything that was started here
task, ship  one task's life; its output, on its way to the server
dataroot    what the server assigns becomes what a runtime is told
state       what the daemon itself must know after a restart
runtime     what a runtime promises (two of them follow)
docker      one container per task: collector, engine, spool
sandbox     one bubblewrap per task: userland, supervisor.sh
tail, processes, attrs   following a file; processes and signals; what the machine is
"""
