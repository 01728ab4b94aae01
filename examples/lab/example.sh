# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the examples share. They run on the two sites of examples/two-sites, which come up if they are not up yet, and
# can be run again, in any order, but that failover loses dc1. What is shown is what was typed there, and what it said.
set -euo pipefail
example=$(cd "$(dirname "$0")" && pwd)
two_sites=$example/../two-sites

"$two_sites" up

at() { "$two_sites" exec "$@"; }
# show SITE COMMAND...
show() {
    local site=$1
    shift
    printf '\n%s# %s\n' "$site" "$*"
    at "$site" "$@"
}
tell() { printf '\n--- %s\n' "$*"; }
die() { echo "$(basename "$example"): $*" >&2; exit 1; }

# put SITE FILE: a file of the example into /etc/drctl.
put() {
    tell "$2 becomes /etc/drctl/$2 at $1"
    grep -v '^#' "$example/$2"
    at "$1" tee "/etc/drctl/$2" <"$example/$2" >/dev/null
}
# append SITE FILE: to drctl.conf, from the first group of FILE on, in the place of what is there already.
append() {
    local group
    group=$(sed -n '/^\[/{s/[][]/\\&/g;p;q}' "$example/$2")
    tell "$2 becomes the end of /etc/drctl/drctl.conf at $1"
    grep -v '^#' "$example/$2"
    at "$1" sed -i "/^$group/,\$d" /etc/drctl/drctl.conf
    at "$1" tee -a /etc/drctl/drctl.conf <"$example/$2" >/dev/null
}

# wait_for SECONDS COMMAND...
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "in vain: $*"
        sleep 0.2
    done
}

# The lab has no systemd. A machine of your own does this by: systemctl enable --now drctl
daemon_start() {
    printf '\n%s# drctl daemon\n' "$1"
    # shellcheck disable=SC2016 # for the inner shell
    at "$1" sh -c 'setsid drctl daemon >/var/tmp/drctl-daemon.log 2>&1 </dev/null & echo $! >/run/drctl-daemon.pid'
}
# shellcheck disable=SC2016 # for the inner shell
daemon_runs() { at "$1" sh -c 'kill -0 "$(cat /run/drctl-daemon.pid)"'; }
daemon_ended() { ! daemon_runs "$1"; }
daemon_stop() {
    printf '\n%s# drctl daemon is stopped\n' "$1"
    # shellcheck disable=SC2016 # for the inner shell
    at "$1" sh -c 'kill "$(cat /run/drctl-daemon.pid)"; cat /var/tmp/drctl-daemon.log' 2>/dev/null || true
    wait_for 90 daemon_ended "$1"
}
