# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The story on one screen. What the guests' counters say is not only shown but checked: a demo that ends well has
# proved that the recovered guests came from the last recovery point.

now() { echo "${EPOCHREALTIME/./}"; }
# since MICROSECONDS: "1.2 s"
since() { awk -v t=$(($(now) - $1)) 'BEGIN { printf "%.1f s", t / 1e6 }'; }
chapter=0
chapter() {
    chapter=$((chapter + 1))
    printf '\n%d. %s\n' $chapter "$1"
}
line() { printf '   %s\n' "$*"; }

# run_drctl SITE ARGS...: the command as a user would type it; its --json goes into $lab/demo.json.
run_drctl() {
    local site=$1 start
    shift
    printf '   %s' "$site# drctl $* "
    start=$(now)
    drctl_at "$site" "$@" --json >"$lab/demo.json" 2>"$lab/demo.log" </dev/null || {
        echo
        die "drctl $* failed at $site: $(tail -n 5 "$lab/demo.log")"
    }
    echo "($(since "$start"))"
}

# counters SITE ARRAY: the counter of each guest.
counters() {
    local -n into=$2
    local vm
    for vm in $vms; do into[$vm]=$(guest_value "$1" "$vm" counter) || die "$vm at $1 does not tell its counter"; done
}
show_counters() {
    local -n from=$1
    local vm text=""
    for vm in $vms; do text+=", $vm ${from[$vm]}"; done
    echo "${text#, }"
}

size() { numfmt --to=iec-i --suffix=B --format=%.1f "$1" | sed 's/[A-Z].*/ &/'; }
# The table of a `replicate`; what was sent in all is in $sent.
show_points() {
    local vm point changed went seconds
    sent=$(jq -s 'map(.sent_bytes) | add' "$lab/demo.json")
    jq -r '[.vm, .point, .changed_bytes, .sent_bytes, .seconds] | join(" ")' "$lab/demo.json" |
        while read -r vm point changed went seconds; do
            line "$(printf '%-4s %s  %10s changed %10s sent  %4.1f s' "$vm" "$point" "$(size "$changed")" "$(size "$went")" "$seconds")"
        done
}

shop_runs_at_dc1() {
    local vm
    for vm in $vms; do guest_up dc1 "$vm" >/dev/null 2>&1 || return 1; done
}

declare -A before1 after1 before2 after2 seen

tell_replication() {
    local full
    chapter "The vApp shop runs at dc1: db, then app, then web. Each guest counts durably on its disk"
    counters dc1 before1
    line "counters: $(show_counters before1)"

    chapter "First recovery point: the disks are read in full, compressed and sent to dr1"
    run_drctl dc1 replicate shop
    show_points
    full=$sent
    counters dc1 after1

    chapter "The guests go on writing; db stores 2 MiB of new orders"
    guest_run dc1 db 'dd if=/dev/urandom of=/data/orders bs=64k count=32 conv=fsync 2>/dev/null' || die "db at dc1 cannot write"
    counters dc1 before2
    line "counters: $(show_counters before2)"

    chapter "Next recovery point: only what has changed since"
    run_drctl dc1 replicate shop
    show_points
    line "$(size "$sent") over the wire instead of $(size "$full")"
    counters dc1 after2
}

tell_disaster() {
    chapter "dc1 loses power; what was written after the last point is gone"
    wait_until 30 grown_since_point || die "the guests at dc1 do not count any more"
    line "counters just before: $(show_counters seen)"
    cmd_crash dc1
    line "dc1# virsh list: $(at_site dc1 virsh list 2>&1 | sed 's/^two-sites: //; s/:.*//' || true)"
}
grown_since_point() {
    local vm
    counters dc1 seen
    for vm in $vms; do [ "${seen[$vm]}" -ge $((after2[$vm] + 3)) ] || return 1; done
}

tell_failover() {
    local vm state point rpo
    chapter "Failover: dr1 starts shop from its own store; nothing of dc1 can be reached"
    run_drctl dr1 failover shop --yes
    jq -r '.vms[] | [.vm, .state, .point, .rpo_seconds] | join(" ")' "$lab/demo.json" | while read -r vm state point rpo; do
        line "$(printf '%-4s %-8s from %s  %5.1f s old' "$vm" "$state" "$point" "$rpo")"
    done
}

# The counter with which a guest came up must be one that it had while the last point was made.
tell_proof() {
    local vm resumed data
    chapter "Proof, from inside the recovered guests: with which counter did they come up?"
    line "$(printf '%-4s %15s %17s %14s %12s' "" "at first point" "at second point" "last at dc1" "came up with")"
    for vm in $vms; do
        resumed=$(guest_value dr1 "$vm" resumed) || die "$vm at dr1 does not answer"
        line "$(printf '%-4s %15s %17s %14s %12s' "$vm" "${before1[$vm]}-${after1[$vm]}" \
            "${before2[$vm]}-${after2[$vm]}" "${seen[$vm]}" "$resumed")"
        [ "$resumed" -ge "${before2[$vm]}" ] && [ "$resumed" -le "${after2[$vm]}" ] ||
            die "$vm did not come from the second point"
    done
    resumed=$(guest_value dr1 db resumed)
    data=$(guest_value dr1 db resumed_vdb)
    line "db's second disk came up with $data: both disks are of one instant"
    [ $((resumed - data)) -eq 0 ] || [ $((resumed - data)) -eq 1 ] || die "the disks of db are of different instants"
    line "http://$(guest_address dr1 web)/ at dr1: $(guest_page dr1 web)"
}

tell_result() {
    jq -r '[.rto_seconds, ([.vms[].rpo_seconds] | max)] | join(" ")' "$lab/demo.json" | {
        read -r rto rpo
        printf '\nRTO %.1f s (from the command until the last VM was ready)   RPO %.1f s (age of the oldest point used)\n' "$rto" "$rpo"
    }
}

demo_end() {
    local status=$?
    trap - EXIT
    if [ -n "$keep" ] && [ -e "$lab/complete" ]; then
        say "the lab stays up in $lab: two-sites status, two-sites guest dr1 db status, two-sites down"
    elif [ -e "$lab/.two-sites" ]; then
        cmd_down
    fi
    exit $status
}

cmd_demo() {
    keep=
    [ "${1-}" != --keep ] || keep=1
    [ "$drctl" != none ] || die "the demo shows drctl: set DRCTL to the program"
    [ ! -e "$lab/complete" ] || shop_runs_at_dc1 || die "shop does not run at dc1 any more: two-sites down, then the demo again"
    trap demo_end EXIT
    trap 'exit 130' INT TERM
    cmd_up
    tell_replication
    tell_disaster
    tell_failover
    tell_proof
    tell_result
}
