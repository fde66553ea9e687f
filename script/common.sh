# What the scripts share; sourced by them after they went to the top of the clone. bash.

# System programs stand where an ordinary user's PATH may not reach.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() { # LINE…
    printf 'script/%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Run a command with all that it says in a log file: one line and the seconds on the terminal, or the log's end.
step() { # TITLE LOG COMMAND…
    local title=$1 log=$2 began=$SECONDS from
    shift 2
    printf '  %s … ' "$title"
    printf '\n== %s\n' "$title" >>"$log"
    from=$(wc -l <"$log")
    if "$@" >>"$log" 2>&1 </dev/null; then
        printf '%d s\n' $((SECONDS - began))
    else
        printf 'failed\n'
        tail -n "+$((from + 1))" "$log" | tail -n 15 | cut -c 1-200 | sed 's/^/    | /' >&2
        fail "$title failed; all of it is in $log"
    fi
}

# Run a command as root. Asks for a password where sudo does.
as_root() { # COMMAND…
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail "this needs root, and there is no sudo; let root run: $*"
    fi
}

# Wait until a condition holds.
wait_for() { # SECONDS COMMAND…
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
