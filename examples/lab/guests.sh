# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The guests: their images, their domains, and talking to them through the agent.

# guests_build: $images holds an image of each VM, built once for each version of their sources.
guests_build() {
    local version
    version=$(cat "$here"/lab/mkguest "$here"/lab/guest/* | sha256sum | cut -c1-12)
    images=$cache/$version
    mkdir -p "$cache"
    exec {cache_lock}<"$cache"
    flock --timeout 600 "$cache_lock" || die "another two-sites has been building guests in $cache for ten minutes"
    if [ ! -e "$images/complete" ]; then
        say "building the guests in $images ..."
        # Other versions may be in use by other working trees.
        find "$cache" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
        rm -rf "$images"
        mkdir "$images"
        # shellcheck disable=SC2086 # a list
        "$here/lab/mkguest" "$images" $vms || die "cannot build the guests"
        rm -rf "$images/debs"
        touch "$images/complete"
    fi
    touch "$images"
    exec {cache_lock}<&-
}

# The domain of a VM from the one template; db gets a second disk, where the comment in it is.
guest_define() {
    local site=$1 vm=$2 dir=/var/lib/libvirt/images state=$lab/$1/root second=""
    cp --sparse=always "$images/$vm.qcow2" "$state$dir/$vm.qcow2"
    if [ "$vm" = db ]; then
        qemu-img create -q -f qcow2 "$state$dir/$vm-data.qcow2" 64M
        second="<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>"
        second+="<source file='$dir/$vm-data.qcow2'/><target dev='vdb' bus='virtio'/></disk>"
    fi
    sed -e "s|@NAME@|$vm|g" -e "s|<!-- second disk -->|$second|" "$here/lab/domain.xml" >"$state/var/tmp/$vm.xml"
    virsh_at "$site" define "/var/tmp/$vm.xml"
    rm "$state/var/tmp/$vm.xml"
}

agent() { timeout 10 "$self" exec "$1" virsh -q -c qemu:///system qemu-agent-command "$2" --timeout 5 "$3"; }
guest_up() { agent "$1" "$2" '{"execute":"guest-ping"}'; }

# guest_run SITE VM COMMAND: a shell command in the guest; its output and its exit status are ours. jq takes longer to
# start than the agent to answer, so it is not asked each time.
guest_run() {
    local site=$1 vm=$2 ask answer result deadline=$((SECONDS + 120))
    ask=$(jq -nc --arg c "$3" '{execute:"guest-exec",arguments:{path:"/bin/sh",arg:["-c",$c],"capture-output":true}}')
    answer=$(agent "$site" "$vm" "$ask") && [[ $answer =~ \"pid\":([0-9]+) ]] || return 125
    ask='{"execute":"guest-exec-status","arguments":{"pid":'"${BASH_REMATCH[1]}"'}}'
    while answer=$(agent "$site" "$vm" "$ask") || return 125; do
        [[ $answer == *'"exited":false'* ]] || break
        [ $SECONDS -lt $deadline ] || die "$vm at $site: the command has not ended in two minutes"
        sleep 0.1
    done
    mapfile -t result < <(jq -r '.return | .exitcode // 126, .["err-data"] // "", .["out-data"] // ""' <<<"$answer")
    base64 -d <<<"${result[1]}" >&2
    base64 -d <<<"${result[2]}"
    return "${result[0]}"
}

# guest_value SITE VM KEY: a value from the guest's own status.
guest_value() { guest_run "$1" "$2" status | tr ' ' '\n' | sed -n "s/^$3=//p" | grep .; }

# The status page of a guest, asked for at its site.
guest_address() { virsh_at "$1" domifaddr "$2" | sed -n 's|.* ipv4 *\([0-9.]*\)/.*|\1|p' | head -n 1 | grep .; }
guest_page() {
    local ip
    ip=$(guest_address "$1" "$2") || return
    # shellcheck disable=SC2016 # for the inner shell
    at_site "$1" timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/80" && printf "GET /cgi-bin/status HTTP/1.0\r\n\r\n" >&3 && cat <&3' "$ip" |
        sed '1,/^\r*$/d' | grep .
}

guest_wait() {
    wait_until 120 guest_up "$1" "$2" || die "$2 at $1 does not come up (no answer from its agent); its domain is $(virsh_at "$1" domstate "$2" 2>&1)"
}

cmd_guest() {
    [ $# -ge 3 ] || die "usage: two-sites guest SITE VM CMD..."
    local site=$1 vm=$2
    require_site "$site"
    shift 2
    guest_run "$site" "$vm" "$*"
}
