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

declare -A before1 after1 before2 after2 seen at_dr1

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

tell_test() {
    local vm verdict seconds seen run
    chapter "Test failover: copies of the VMs start at dr1, in a bubble; shop goes on at dc1 and knows nothing of it"
    run_drctl dr1 failover shop --test
    jq -r '.vms[] | [.vm, .verdict, .boot_seconds, .seen] | join("\t")' "$lab/demo.json" | while IFS=$'\t' read -r vm verdict seconds seen; do
        line "$(printf '%-4s %-8s booted in %4.1f s  %s' "$vm" "$verdict" "$seconds" "$seen")"
    done
    jq -ne 'input | all(.vms[]; .verdict == "passed")' "$lab/demo.json" >/dev/null || die "not every copy is proven to work"
    run=$(jq -r .run "$lab/demo.json")
    run_drctl dr1 run show "$run" --report "/root/$run.html"
    line "the whole of it on one page, with pictures of the screens: $lab/dr1/root/root/$run.html"
    shop_runs_at_dc1 || die "shop does not run at dc1 any more"
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
    cp "$lab/demo.json" "$lab/failover.json"
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

# What is going to be wrong: the VMs of a site that comes back start by themselves.
expect_return() {
    local vm
    for vm in $vms; do virsh_at dc1 autostart "$vm" >/dev/null || die "$vm cannot be set to autostart"; done
    drctl_at dc1 guard install >"$lab/demo.log" 2>&1 && at_site dc1 sh -c 'kill -HUP "$(cat /run/libvirtd.pid)"' ||
        die "the guard of dc1 cannot be installed: $(tail -n 3 "$lab/demo.log")"
    pair_as_operators dc1 dr1 && pair_as_operators dr1 dc1 || die "the sites cannot be paired: $(tail -n 3 "$lab/demo.log")"
}
# pair_as_operators SITE OTHER: SITE may not only keep points at OTHER, but move VMs from there, too.
pair_as_operators() {
    local key
    key=$(drctl_at "$1" site add "$2" "root@${address[$2]}" --accept-key --operator 2>"$lab/demo.log" | grep '^restrict,command=') &&
        echo "$key" >"$lab/$2/root/root/.ssh/authorized_keys" && drctl_at "$1" site check "$2" >"$lab/demo.log" 2>&1
}

tell_work_at_dr1() {
    chapter "Life goes on at dr1: db stores 2 MiB of orders"
    guest_run dr1 db 'dd if=/dev/urandom of=/data/orders bs=64k count=32 conv=fsync 2>/dev/null' || die "db at dr1 cannot write"
    orders=$(guest_run dr1 db 'sha256sum </data/orders') || die "db at dr1 cannot read"
}

tell_return() {
    chapter "dc1 has power again, and its VMs are set to autostart: the old copies stay down"
    cmd_power_on dc1
    line "dc1# virsh list: $(virsh_at dc1 list --name | xargs | sed 's/^$/none runs/')"
    line "dc1# virsh start db"
    ! virsh_at dc1 start db 2>"$lab/demo.log" || die "the old copy of db has started"
    fold -s -w 100 < <(sed -n 's/.*\(VM db belongs.*\)/\1/p' "$lab/demo.log") | sed 's/^/     /'
    [ -z "$(virsh_at dc1 list --name)" ] || die "an old copy runs at dc1"
}

# What dr1 has sent in all of its replications.
sent_by_dr1() {
    local run
    for run in $(drctl_at dr1 run list --json | jq -r '.[] | select(.kind == "replicate") | .run'); do
        drctl_at dr1 run show "$run" --json
    done | jq -s '[.[].result[]?.sent_bytes // 0] | add // 0'
}

tell_failback() {
    local kept bytes
    chapter "Failback: dc1 keeps what it had as points, gets only what differs, and takes shop over"
    counters dr1 at_dr1
    line "counters at dr1 just before: $(show_counters at_dr1)"
    run_drctl dc1 failback shop --yes
    bytes=$(sent_by_dr1)
    down=$(jq -r .down_seconds "$lab/demo.json")
    kept=$(drctl_at dc1 points --json | jq '[.[] | select(.label == "diverged")] | length')
    line "$(size "$bytes") over the wire; what dc1 had is kept in $kept points, labelled diverged"
    [ "$kept" = 3 ] || die "dc1 has not kept what it had"
}

tell_home() {
    local vm resumed
    chapter "Proof, from inside the guests at home: nothing that was on disk at dr1 is lost"
    line "$(printf '%-4s %15s %17s' "" "last at dr1" "came up with")"
    for vm in $vms; do
        guest_wait dc1 "$vm"
        resumed=$(guest_value dc1 "$vm" resumed) || die "$vm at dc1 does not answer"
        line "$(printf '%-4s %15s %17s' "$vm" "${at_dr1[$vm]}" "$resumed")"
        [ "$resumed" -ge "${at_dr1[$vm]}" ] || die "$vm has lost what it had written"
    done
    [ "$(guest_run dc1 db 'sha256sum </data/orders')" = "$orders" ] || die "the orders of dr1 are not at dc1"
    line "the orders that db took at dr1 are there"
    [ -z "$(virsh_at dr1 list --name)" ] || die "something runs at dr1 still"
}

# Of the failover, whose result has been put aside.
tell_result() {
    jq -r '[.rto_seconds, ([.vms[].rpo_seconds] | max)] | join(" ")' "$lab/failover.json" | {
        read -r rto rpo
        printf '\nFailover: RTO %.1f s (from the command until the last VM was ready), RPO %.1f s (age of the oldest point used)\n' "$rto" "$rpo"
        printf 'Failback: down for %.1f s, nothing lost\n' "$down"
    }
}

# Bytes and points are counted from the beginning of the sites.
told_already() { drctl_at dc1 points --json 2>"$lab/demo.log" | jq -ne 'input | any(.[]; .label == "diverged")' >/dev/null; }

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
    [ ! -e "$lab/complete" ] || ! told_already || die "the story was told at these sites already: two-sites down, then the demo again"
    trap demo_end EXIT
    trap 'exit 130' INT TERM
    cmd_up
    expect_return
    tell_replication
    tell_test
    tell_disaster
    tell_failover
    tell_proof
    tell_work_at_dr1
    tell_return
    tell_failback
    tell_home
    tell_result
}
