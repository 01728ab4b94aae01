# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The sites. All of a lab lives in one outer set of namespaces, whose network is the one between the sites
# (wan-init); when its pid 1 is killed, everything of the lab is gone. Each site is a set of namespaces in there
# (site-init); killing the pid 1 of that is its power loss.
#
# LAB/wan.unshare, LAB/wan.pid             the outer set: who made it, its pid 1
# LAB/SITE/{launcher,pid,ready,boot.log}   the same for a site; ready: libvirt answers
# LAB/SITE/root/{etc,var,root}             what is a site's own and outlives its crash

namespaces=(--mount --net --pid --uts --ipc --fork --kill-child --mount-proc --propagation private)
user_namespace=()
[ "$(id -u)" = 0 ] || user_namespace=(--user --map-root-user --map-auto)

# What is not there, and how to get it: programs, then namespaces, then the network device.
check_machine() {
    local missing="" pair
    for pair in libvirtd:libvirt-daemon virtlogd:libvirt-daemon virsh:libvirt-clients qemu-system-x86_64:qemu-system-x86 \
        qemu-img:qemu-utils sshd:openssh-server ssh-keygen:openssh-client dnsmasq:dnsmasq-base ip:iproute2 jq:jq pgrep:procps \
        mke2fs:e2fsprogs gcc:gcc objcopy:binutils lz4:lz4; do
        command -v "${pair%:*}" >/dev/null || missing+=" ${pair#*:}"
    done
    [ -z "$missing" ] || die "missing packages:$missing; .ci/install-dependencies (as root) installs all that is needed"
    case $lab$top$drctl in *[[:space:]]*) die "paths with spaces do not work here: $lab, $top, $drctl" ;; esac
    check_namespaces
    [ -e /dev/net/tun ] || die "no /dev/net/tun, which the guests' network needs: modprobe tun (as root)"
    [ -w /dev/net/tun ] || die "/dev/net/tun is closed to ordinary users: chmod 666 /dev/net/tun (as root), as it is by default"
}

setting_is() { [ "$(cat "/proc/sys/$1" 2>/dev/null)" = "$2" ]; }

check_namespaces() {
    local error user
    error=$(timeout 20 unshare "${user_namespace[@]}" "${namespaces[@]}" true 2>&1) && return
    [ "$(id -u)" != 0 ] || die "no namespaces here, although this is root: $error; a container needs --privileged"
    user=$(id -un)
    command -v newuidmap >/dev/null || die "an ordinary user needs newuidmap: apt-get install uidmap (as root)"
    grep -qs "^$user:" /etc/subuid && grep -qs "^$user:" /etc/subgid ||
        die "$user has no subordinate ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $user (as root)"
    ! setting_is kernel/unprivileged_userns_clone 0 ||
        die "user namespaces are closed to ordinary users: sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    ! setting_is user/max_user_namespaces 0 ||
        die "user namespaces are switched off: sysctl -w user.max_user_namespaces=10000 (as root)"
    ! setting_is kernel/apparmor_restrict_unprivileged_userns 1 ||
        die "AppArmor forbids user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)"
    die "no user namespaces here: $error; run it as root"
}

# in_namespaces PID FLAGS... -- COMMAND...
in_namespaces() {
    local pid=$1
    shift
    ${replace_shell-} nsenter --target "$pid" ${user_namespace:+--user} "$@"
}
on_wan() { in_namespaces "$(recall "$lab/wan.pid")" --net -- "$@"; }

wan_start() {
    rm -f "$lab/wan.ready"
    launch "$lab/wan.unshare" "$lab/wan.log" unshare "${user_namespace[@]}" "${namespaces[@]}" "$here/lab/wan-init" "$lab"
    wait_until 20 test -e "$lab/wan.ready" || die "the lab's namespaces do not start: $(tail -n 3 "$lab/wan.log")"
    remember "$lab/wan.pid" "$(only_child "$(recall "$lab/wan.unshare")")"
}

# A site's own /etc: what programs need from the machine's, and the configuration of its daemons.
site_prepare() {
    local site=$1 root=$lab/$1/root
    mkdir -p "$root"/{etc/{ssh,libvirt,drctl,lab/bin},root/.ssh,var/{tmp,cache/libvirt,lib/{misc,libvirt/images},log/libvirt}}
    chmod 700 "$root/root" "$root/root/.ssh"
    chmod 1777 "$root/var/tmp"
    chmod 711 "$root/var/lib/libvirt" "$root/var/lib/libvirt/images"
    ln -s ../run "$root/var/run"
    (cd /etc && for f in alternatives debian_version ethertypes gai.conf group host.conf iproute2 ld.so.cache ld.so.conf ld.so.conf.d \
        localtime login.defs magic mke2fs.conf nsswitch.conf os-release passwd profile protocols rpc services ssl/openssl.cnf terminfo; do
        [ ! -e $f ] || cp -a --parents $f "$root/etc"
    done)
    ln -s /proc/self/mounts "$root/etc/mtab"
    echo "$site" >"$root/etc/hostname"
    printf '%s\n' "127.0.0.1 localhost" "10.77.0.1 dc1" "10.77.0.2 dr1" >"$root/etc/hosts"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    # A locked root account could not log in by key either.
    (umask 077 && echo 'root:*:19000:0:99999:7:::' >"$root/etc/shadow")
    [ "$drctl" = none ] || ln -s "$drctl" "$root/etc/lab/bin/drctl"
    site_configure "$site"
}

site_configure() {
    local etc=$lab/$1/root/etc
    # Cgroups belong to the machine, and QEMU needs no mount namespace in one of its own.
    printf '%s\n' 'cgroup_controllers = []' 'namespaces = []' 'security_driver = "none"' >"$etc/libvirt/qemu.conf"
    # In a user namespace nobody may write trusted.* attributes, where libvirt would note the owners of images.
    [ "$(id -u)" = 0 ] || echo 'remember_owner = 0' >>"$etc/libvirt/qemu.conf"
    printf '%s\n' "host_uuid = \"$(cat /proc/sys/kernel/random/uuid)\"" 'auth_unix_ro = "none"' 'auth_unix_rw = "none"' >"$etc/libvirt/libvirtd.conf"
    ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$etc/ssh/ssh_host_ed25519_key"
    cat >"$etc/ssh/sshd_config" <<EOF
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
SetEnv PATH=$site_path
EOF
}

site_path=/etc/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
site_pid() { recall "$lab/$1/pid"; }

# site_boot SITE: returns while it boots; site_wait then waits for it.
site_boot() {
    local site=$1 dir=$lab/$1 launcher pid keep=("$top" "$lab")
    rm -f "$dir/ready"
    [ "$drctl" = none ] || keep+=("$(dirname "$drctl")")
    launch "$dir/launcher" "$dir/boot.log" nsenter --target "$(recall "$lab/wan.pid")" \
        ${user_namespace:+--user} --mount --net --pid --uts --ipc -- \
        unshare "${namespaces[@]}" "$here/lab/site-init" "$site" "${address[$site]}" "$dir" "${keep[@]}"
    # nsenter forks unshare, unshare forks the site's pid 1.
    wait_until 20 site_find_pid "$site" || die "$site does not start: $(tail -n 3 "$dir/boot.log")"
    pid=$(site_pid "$site")
    on_wan ip link del "$site" 2>/dev/null || true
    on_wan ip link add "$site" type veth peer name eth0 netns "$pid"
    on_wan ip link set "$site" master wan up
}
site_find_pid() {
    local pid
    pid=$(recall "$lab/$1/launcher") && pid=$(only_child "$pid") && pid=$(only_child "$pid") && remember "$lab/$1/pid" "$pid"
}
site_booted() { [ -e "$lab/$1/ready" ] || gone "$lab/$1/pid"; }
site_wait() {
    wait_until 90 site_booted "$1" && [ -e "$lab/$1/ready" ] || die "$1 does not boot: $(tail -n 3 "$lab/$1/boot.log")"
}

# at_site SITE COMMAND...: as root there, in the same directory if that can be seen there. When nsenter is killed,
# COMMAND is; Ctrl-C in a terminal is left to COMMAND, which may have to clean up.
at_site() {
    local pid site=$1
    shift
    require_site "$site"
    pid=$(site_pid "$site") || die "$site is down: two-sites power-on $site, or up if there is no lab"
    # shellcheck disable=SC2016 # for the inner shell
    in_namespaces "$pid" --mount --net --pid --uts --ipc -- \
        env -u XDG_RUNTIME_DIR -u XDG_CONFIG_HOME -u XDG_CACHE_HOME -u XDG_DATA_HOME -u XDG_STATE_HOME -u LIBVIRT_DEFAULT_URI \
        -u SSH_AUTH_SOCK -u DBUS_SESSION_BUS_ADDRESS --default-signal=INT HOME=/root USER=root LOGNAME=root PATH="$site_path" \
        setpriv --pdeathsig KILL sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
}
virsh_at() { local site=$1; shift; at_site "$site" virsh -q -c qemu:///system "$@"; }

cmd_exec() {
    [ $# -ge 2 ] || die "usage: two-sites exec SITE CMD..."
    trap '' INT
    replace_shell=exec
    at_site "$@"
}

cmd_crash() {
    local pid
    require_site "${1-}"
    pid=$(site_pid "$1") || die "$1 is down already"
    lock_lab
    kill -KILL "$pid"
    wait_until 30 gone "$lab/$1/launcher" || die "$1 does not die: processes hang in the kernel, or pid 1 of this container collects no zombies (docker run --init)"
    on_wan ip link del "$1" 2>/dev/null || true
}

cmd_power_on() {
    require_site "${1-}"
    recall "$lab/wan.pid" >/dev/null || die "there is no lab: two-sites up"
    ! site_pid "$1" >/dev/null || die "$1 is on already"
    lock_lab
    site_boot "$1"
    site_wait "$1"
}

cmd_wan() {
    [ $# = 2 ] || die "usage: two-sites wan SITE down|up|RATE"
    require_site "$1"
    recall "$lab/wan.pid" >/dev/null || die "there is no lab: two-sites up"
    case $2 in
    down) on_wan ip link set "$1" down ;;
    up)
        on_wan ip link set "$1" up
        on_wan tc qdisc del dev "$1" root 2>/dev/null || true
        at_site "$1" tc qdisc del dev eth0 root 2>/dev/null || true
        ;;
    *)
        on_wan tc qdisc replace dev "$1" root tbf rate "$2" burst 64kb latency 400ms
        at_site "$1" tc qdisc replace dev eth0 root tbf rate "$2" burst 64kb latency 400ms
        ;;
    esac
}

cmd_down() {
    local pid
    [ -e "$lab/.two-sites" ] || { say "there is no lab in $lab"; return; }
    lock_lab
    # The pid 1 may not exist yet, or not be known: then who makes it is killed, and takes it along.
    if pid=$(recall "$lab/wan.unshare"); then kill -KILL "$(only_child "$pid" || echo "$pid")"; fi
    wait_until 30 gone "$lab/wan.unshare" || die "the lab does not die: processes hang in the kernel, or pid 1 of this container collects no zombies (docker run --init)"
    as_root rm -rf --one-file-system "$lab"
}
