# Runs one task in its sandbox and writes down how it ended. It has a session of its own: it outlives the daemon.
#
# Arguments: the task's directory; how much of its output is kept, in blocks of 512 bytes; the command. Descriptors: 5
# and 6, the two ends of the pipe that the task writes into; 7, what the sandbox's shell reads; 9, the task's record,
# and the lock on it: whoever finds it free knows that neither this nor the task lives. The task writes into a pipe,
# not into `output` itself, which it could cut short; and the pipe's end says that none of its processes is left.
# Should `output` take no more (a full disk, or all that is kept), tee lets the rest go, and the task goes on.
trap : HUP INT QUIT TERM
umask 077
cd "$1" || exit 125
blocks=$2
shift 2

start_time() {
    shift 19
    start_time=$1
}

set -f
read -r line < /proc/$$/stat
start_time ${line##*) }
printf 'pid %s %s\n' "$$" "$start_time" >&9

{
    trap '' XFSZ
    ulimit -f "$blocks"
    exec tee -a output <&5 > /dev/null 2>&1 5<&- 6>&- 7<&-
} &
writer=$!
exec 5<&-
umask 022
"$@" <&7 2>&6 3>&9 >&6 6>&- 7<&- 9>&-
code=$?
exec 6>&-
while kill -0 "$writer" 2> /dev/null; do
    wait "$writer"
done
printf 'exit %s\n' "$code" >&9
