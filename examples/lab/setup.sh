# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# up, env, status: the lab as a whole.

# The program: built when it is not there; DRCTL names another one, or "none".
program_build() {
    local build=$top/build
    [ "$drctl" != none ] && [ ! -x "$drctl" ] || return 0
    [ "$drctl" = "$build/drctl/drctl" ] || die "there is no program $drctl (DRCTL)"
    say "building drctl in $build ..."
    { [ -e "$build/build.ninja" ] || meson setup "$build" "$top"; } >"$lab/build.log" 2>&1 && ninja -C "$build" drctl/drctl >>"$lab/build.log" 2>&1 ||
        die "cannot build drctl: $(tail -n 5 "$lab/build.log"); .ci/install-dependencies installs what a build needs"
}

# What a step prints is of interest only when it fails. The step has to check all that it does: set -e is off in it.
quietly() {
    ("$@") >"$lab/step.log" 2>&1 || die "$(tail -n 5 "$lab/step.log" | sed '$s/^two-sites: //')"
}

drctl_at() { local site=$1; shift; at_site "$site" "$drctl" "$@"; }

network_start() {
    cp "$here/lab/network.xml" "$lab/$1/root/var/tmp/"
    virsh_at "$1" net-define /var/tmp/network.xml
    virsh_at "$1" net-autostart default
    virsh_at "$1" net-start default
    rm "$lab/$1/root/var/tmp/network.xml"
}

# What an administrator does to protect shop of dc1 at dr1.
program_configure() {
    local line log=$lab/drctl.log
    drctl_at dc1 init --site dc1 && drctl_at dr1 init --site dr1 || die "drctl init failed"
    line=$(drctl_at dc1 site add dr1 root@10.77.0.2 --accept-key 2>"$log" | grep '^restrict,command=') ||
        die "drctl site add printed no line for authorized_keys: $(tail -n 3 "$log")"
    echo "$line" >>"$lab/dr1/root/root/.ssh/authorized_keys"
    drctl_at dc1 site check dr1 || die "the link from dc1 to dr1 does not work"
    cp "$here/lab/shop.vapp" "$lab/dc1/root/etc/drctl/"
    printf '%s\n' '' '[protection shop]' 'vapp = shop' 'destination = dr1' >>"$lab/dc1/root/etc/drctl/drctl.conf"
    drctl_at dc1 config check || die "the configuration of dc1 is wrong"
}

shop_start() {
    local vm
    if [ "$drctl" != none ]; then
        drctl_at dc1 vapp start shop || die "drctl vapp start failed"
    else
        for vm in $vms; do virsh_at dc1 start "$vm" || die "$vm does not start at dc1"; done
    fi
    for vm in $vms; do guest_wait dc1 "$vm"; done
    wait_until 60 guest_page dc1 web || die "the web page of shop does not answer at dc1"
}

lab_make() {
    if [ -e "$lab/.two-sites" ]; then
        lock_lab
        [ -e "$lab/complete" ] || die "$lab holds a lab that did not come up: two-sites down"
        recall "$lab/wan.pid" >/dev/null || die "the lab in $lab is dead (was the machine restarted?): two-sites down"
        return 1
    fi
    mkdir -p "$(dirname "$lab")"
    mkdir -m 700 "$lab" 2>/dev/null || [ -z "$(ls -A "$lab")" ] || die "$lab is not empty and no lab: set DRCTL_LAB to another directory"
    [ -O "$lab" ] || die "$lab belongs to somebody else: set DRCTL_LAB to another directory"
    [ "$(df --output=avail -k "$lab" | tail -n 1)" -gt 800000 ] || die "less than 800 MB free in $lab: set DRCTL_LAB to a directory elsewhere"
    touch "$lab/.two-sites"
    lock_lab
}

cmd_up() {
    local site vm
    [ "${1---off}" = --off ] && [ $# -le 1 ] || die "usage: two-sites up [--off]"
    check_machine
    lab_make || { say "the lab is up already ($lab)"; return 0; }
    program_build
    guests_build
    say "starting dc1 and dr1 ..."
    wan_start
    for site in dc1 dr1; do site_prepare "$site"; site_boot "$site"; done
    for site in dc1 dr1; do site_wait "$site"; network_start "$site"; done
    for vm in $vms; do guest_define dc1 "$vm"; done
    [ "$drctl" = none ] || quietly program_configure
    if [ $# = 0 ]; then
        say "starting shop at dc1 ..."
        quietly shop_start
    fi
    touch "$lab/complete"
    say "the lab is up ($lab)"
}

cmd_env() {
    local site upper prefix
    for site in dc1 dr1; do
        upper=${site^^}
        prefix="env DRCTL_LAB=$lab $self exec $site"
        [ "$drctl" = none ] || echo "${upper}_DRCTL='$prefix $drctl'"
        echo "${upper}_VIRSH='$prefix virsh -c qemu:///system'"
        echo "${upper}_ROOT='$lab/$site/root'"
    done
}

cmd_status() {
    local site vm
    recall "$lab/wan.pid" >/dev/null || { echo "no lab in $lab"; return 1; }
    for site in dc1 dr1; do
        site_pid "$site" >/dev/null || { echo "$site: down"; continue; }
        echo "$site: up, ${address[$site]}"
        for vm in $(virsh_at "$site" list --name); do
            echo "  $vm: $(guest_run "$site" "$vm" status 2>/dev/null || echo "running, no answer from its agent")"
        done
    done
}
