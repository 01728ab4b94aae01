# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What all parts of the lab share: where it is, waiting with a deadline, processes by pid and start time.

lab=$(realpath -m "${DRCTL_LAB:-${XDG_RUNTIME_DIR:-/tmp}/drctl-lab-$(id -u)}")
# Where only the examples are, the program is the one that is installed.
if [ -e "$top/meson.build" ]; then installed=; else installed=$(command -v drctl || true); fi
drctl=${DRCTL:-${installed:-$top/build/drctl/drctl}}
[ "$drctl" = none ] || drctl=$(realpath -m "$drctl")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/drctl-lab
vms="db app web"

declare -A address=([dc1]=10.77.0.1 [dr1]=10.77.0.2)

die() { echo "two-sites: $*" >&2; exit 1; }
say() { echo "$*" >&2; }

require_site() {
    [ -n "${address[${1:-none}]-}" ] || die "no site ${1:-given}: the sites are dc1 and dr1"
}

# wait_until SECONDS COMMAND...: try until it succeeds; false when the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

# A process is remembered as "PID START": the start time tells it from a later one with the same pid. A zombie is
# none: the pid 1 of many containers never collects those.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) && stat=${stat##*) } && [ "${stat%% *}" != Z ] && cut -d' ' -f20 <<<"$stat"
}
remember() { echo "$2 $(start_time "$2")" >"$1"; }
# The remembered pid, if that process still lives.
recall() {
    local pid start
    [ -s "$1" ] && read -r pid start <"$1" && [ "$(start_time "$pid")" = "$start" ] && echo "$pid"
}
# launch FILE LOG COMMAND...: start it in the background and remember it in FILE before it can do anything.
launch() {
    local file=$1 log=$2
    shift 2
    ( remember "$file" $BASHPID && exec setsid "$@" ) >"$log" 2>&1 </dev/null {lab_lock}<&- &
    disown
}
gone() { ! recall "$1"; }
only_child() { pgrep -P "$1" | head -n 1 | grep .; }

# One change of a lab at a time. The lock is on the directory itself, so it leaves no file.
lock_lab() {
    [ -z "${lab_lock-}" ] || return 0
    exec {lab_lock}<"$lab"
    flock --timeout 120 "$lab_lock" || die "another two-sites works on $lab"
}

# A command as root of the lab: in a user namespace of its own for an ordinary user.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else unshare --map-root-user --map-auto "$@"; fi
}
