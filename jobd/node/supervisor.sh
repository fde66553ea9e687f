# Runs one task in its sandbox and writes down how it ended. It has a session of its own: it outlives the daemon.
#
# Arguments: the task's directory, then the command. Descriptor 9 is the lock on `lock`: whoever finds it free knows
# that neither this nor the task lives. The task writes into a pipe, not into `output` itself, which it could cut
# short; and the pipe's end says that none of its processes is left. Should `output` take no more (a full disk), the
# task goes on.
trap : HUP INT QUIT TERM
umask 077
cd "$1" || exit 125
shift

start_time() {
    shift 19
    printf '%s' "$1"
}

set -f
read -r line < /proc/$$/stat
printf '%s %s\n' "$$" "$(start_time ${line##*) })" > pid.new
mv pid.new pid

{ cat || cat > /dev/null; } < pipe >> output &
writer=$!
umask 022
"$@" < script > pipe 2>&1 3> started 8< options 9>&-
code=$?
while kill -0 "$writer" 2> /dev/null; do
    wait "$writer"
done
printf '%s\n' "$code" > exit.new
mv exit.new exit
