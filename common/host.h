/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One libvirt host and its domains, by libvirt. This is the only place that knows libvirt; all
 * calls are safe from several threads at once. Errors are ERROR_HYPERVISOR with libvirt's own text
 * behind what we tried, except where said; a domain, checkpoint, network, pool or volume that does
 * not exist (any more) is ERROR_NOT_FOUND everywhere. A struct domain keeps its host's connection
 * alive. A connection that was lost stays lost: open a new one. From the first host_open() on the
 * process ignores SIGPIPE, unless it handles it itself. While there is a host, a thread runs
 * libvirt's event loop, which is GLib's default main context: a process that forks meanwhile, and
 * does not exec, has no use of hosts.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/json.h"

struct host;
struct domain;

/* Connect. "cannot connect to libvirt at qemu:///system: ..." with the way out. */
struct host *host_open(const char *uri, GError **error);
void host_free(struct host *host);
DEFINE_CLEANUP(host)
const char *host_uri(const struct host *host);
/* Are its guests those of an ordinary user, who may not make networks? */
bool host_is_session(const struct host *host);
/* <capabilities> of the host; g_free. */
char *host_capabilities(struct host *host, GError **error);
/* <domainCapabilities> for these (each may be NULL = libvirt's default); ERROR_NOT_FOUND when the
 * host has no such emulator, architecture or machine. */
char *host_domain_capabilities(struct host *host, const char *emulator, const char *arch,
                               const char *machine, const char *virt_type, GError **error);
/* The user and group that QEMU runs as when libvirt changes the user (system mode); false when it
 * does not (session mode, no DAC model, or it is our own user anyway). */
bool host_qemu_identity(struct host *host, uid_t *uid, gid_t *gid);
/* Does libvirt change owners of disk files there (system mode)? Both are asked once for a connection. */
bool host_manages_owners(struct host *host);
/* Memory that new guests can have, bytes: free pages and page cache. */
bool host_memory_free(struct host *host, uint64_t *bytes, GError **error);
/* Are its files ours to open, or is it another machine? */
bool host_is_local(const struct host *host);

/* CPUs of the guests that run there, together. */
bool host_cpus_used(struct host *host, unsigned *cpus, GError **error);

/* What the host calls itself in the network; g_free. */
char *host_hostname(struct host *host, GError **error);

/* Behind a definition: libvirt starts this at each boot of the host. */
#define HOST_AUTOSTARTS "<!-- autostart -->\n"

/* Networks, storage pools, nwfilters and secrets, active and inactive. XML is the inactive definition, of secrets
 * without their values, with HOST_AUTOSTARTS where it holds; names of secrets are UUIDs. A host without such objects has
 * none. */
struct host_object {
    char *name;
    char *xml;
    bool active;
};
void host_object_free(struct host_object *object);
DEFINE_CLEANUP(host_object)
GPtrArray *host_networks(struct host *host, GError **error);      /* of struct host_object */
GPtrArray *host_storage_pools(struct host *host, GError **error); /* of struct host_object */
GPtrArray *host_nwfilters(struct host *host, GError **error);     /* of struct host_object */
GPtrArray *host_secrets(struct host *host, GError **error);       /* of struct host_object */
/* Define one, or give that of the same name and UUID a new definition. Nothing is started now; at each boot what has
 * HOST_AUTOSTARTS, and nothing else. */
bool host_define_network(struct host *host, const char *xml, GError **error);
bool host_define_storage_pool(struct host *host, const char *xml, GError **error);
bool host_define_nwfilter(struct host *host, const char *xml, GError **error);
bool host_define_secret(struct host *host, const char *xml, GError **error);
/* The value of a secret; *VALUE (g_free) is NULL where there is none, or libvirt tells it nobody (private='yes'). */
bool host_secret_value(struct host *host, const char *uuid, uint8_t **value, size_t *len,
                       GError **error);
bool host_set_secret_value(struct host *host, const char *uuid, const uint8_t *value, size_t len,
                           GError **error);
/* The directory of active pool POOL, g_free; ERROR_CONFIG when it is not active, or is not one of files in a
 * directory. */
char *host_pool_directory(struct host *host, const char *pool, GError **error);
/* Start a network that is gone when it is stopped, or with the host. One of that name that runs already is
 * fine. */
bool host_network_start(struct host *host, const char *name, const char *xml, GError **error);
/* Stop it; one that is not there is fine. */
bool host_network_stop(struct host *host, const char *name, GError **error);
/* Path of volume VOLUME in pool POOL, g_free; for <disk type='volume'>. */
char *host_volume_path(struct host *host, const char *pool, const char *volume, GError **error);

/* All domains of the host; of struct domain. */
GPtrArray *host_domains(struct host *host, GError **error);
/* By name or UUID; ERROR_NOT_FOUND. */
struct domain *host_domain(struct host *host, const char *name_or_uuid, GError **error);
/* Define (persistent, inactive). Validates against the schema. */
struct domain *host_define(struct host *host, const char *xml, GError **error);

enum domain_state {
    DOMAIN_OFF,             /* no QEMU, however it ended */
    DOMAIN_RUNNING,         /* also while it shuts down */
    DOMAIN_PAUSED,          /* also suspended to memory */
    DOMAIN_PAUSED_IO_ERROR, /* by QEMU, because a disk (or a scratch file of a backup) is full or
                               failed */
    DOMAIN_CRASHED, /* the guest crashed and QEMU keeps it for inspection (on_crash=preserve) */
};

void domain_free(struct domain *domain);
DEFINE_CLEANUP(domain)
struct domain *domain_copy(const struct domain *domain);
const char *domain_name(const struct domain *domain);
const char *domain_uuid(const struct domain *domain);  /* lower case */
struct host *domain_host(const struct domain *domain); /* borrowed */
bool domain_state(struct domain *domain, enum domain_state *state, GError **error);
/* "off", "running", "paused", "paused-io-error", "crashed" */
const char *domain_state_name(enum domain_state state);
/* It is off because its guest has shut down, not for any other reason, such as one unknown. */
bool domain_was_shut_down(struct domain *domain);
/* It is off and its memory is saved: it goes on from there when it is started. */
bool domain_is_saved(struct domain *domain);
enum domain_xml_kind {
    DOMAIN_XML_LIVE,     /* what runs now */
    DOMAIN_XML_INACTIVE, /* the definition, with secrets: what a recovery point keeps */
};
char *domain_xml(struct domain *domain, enum domain_xml_kind kind, GError **error);
/* The element of namespace URI in its <metadata>, of what runs or else of the definition, in *XML (g_free); NULL:
 * there is none. */
bool domain_metadata(struct domain *domain, const char *uri, char **xml, GError **error);
bool domain_autostart(struct domain *domain, bool *autostart, GError **error);
bool domain_set_autostart(struct domain *domain, bool autostart, GError **error);
bool domain_start(struct domain *domain, GError **error);
/* One that runs already is fine. */
bool domain_resume(struct domain *domain, GError **error);
/* Ask the guest to shut down: by agent if one answers, by ACPI otherwise. Does not wait for the
 * end. */
bool domain_shutdown(struct domain *domain, GError **error);
/* Pull the plug. A domain that is off is fine. */
bool domain_destroy(struct domain *domain, GError **error);
/* Remove the definition with its checkpoint and snapshot metadata, managed save and NVRAM file. */
bool domain_undefine(struct domain *domain, GError **error);
/* The same, but all its files stay; a domain with saved memory is refused. */
bool domain_forget(struct domain *domain, GError **error);

/* What the first screen of the guest shows now: *DATA (g_free) of *LEN bytes, of media type *TYPE (g_free),
 * which is QEMU's choice: "image/png", or "image/x-portable-pixmap" of an old one. */
bool domain_screenshot(struct domain *domain, char **type, char **data, size_t *len,
                       GError **error);

/* Guest agent. TIMEOUT_S bounds the answer of the agent (virDomainAgentSetResponseTimeout), because
 * libvirt's default is to wait for ever; 0 means 1. */
bool domain_agent_ping(struct domain *domain, unsigned timeout_s, GError **error);
/* Run one agent command (JSON text) and return its reply; g_free. */
char *domain_agent_command(struct domain *domain, const char *command, unsigned timeout_s,
                           GError **error);
/* The "return" of agent command NAME; json_decref. ARGUMENTS (may be NULL) are taken over. */
json_t *domain_agent_call(struct domain *domain, const char *name, json_t *arguments,
                          unsigned timeout_s, GError **error);
/* Freeze all file systems; *FROZEN says how many. A failure does not mean that nothing froze or
 * will freeze: always thaw. */
bool domain_freeze(struct domain *domain, unsigned timeout_s, unsigned *frozen, GError **error);
/* Safe to repeat. Does not trust the reply: asks for the status afterwards, until it is
 * "thawed" or TIMEOUT_S are over; false while frozen or not known. Fails at once when no agent is
 * connected. A domain that is off has nothing frozen. */
bool domain_thaw(struct domain *domain, unsigned timeout_s, GError **error);
/* IPv4/IPv6 addresses of the guest, from DHCP leases, the agent or ARP, the first source that knows
 * any; loopback and link-local are left out. NULL-terminated, possibly empty. */
char **domain_addresses(struct domain *domain, GError **error);

/* Commands in the guest, run by its agent (guest-exec) without a shell: ARGV[0] is looked for in the
 * guest's PATH. They cannot be stopped. *PID is for domain_exec_poll(). */
bool domain_exec(struct domain *domain, char *const *argv, unsigned timeout_s, uint64_t *pid,
                 GError **error);
struct domain_exec_end {
    bool over;    /* the rest is set only then, and the agent has forgotten it */
    int status;   /* of its exit; 128 and more: the signal that ended it */
    char *output; /* what it wrote to stderr, or else to stdout; valid UTF-8 or NULL; g_free */
};
/* Has it ended? END is zeroed by the caller. */
bool domain_exec_poll(struct domain *domain, uint64_t pid, unsigned timeout_s,
                      struct domain_exec_end *end, GError **error);

/* What the guest prints on its first console from now on, which must be a pty. Only one at a time can
 * have it, whether drctl or a person. Also works where the host is another machine. */
struct domain_console;
struct domain_console *domain_console_open(struct domain *domain, GError **error);
/* Up to SIZE bytes of it; does not wait: *LEN is 0 when there is nothing now. */
bool domain_console_read(struct domain_console *console, char *data, size_t size, size_t *len,
                         GError **error);
void domain_console_free(struct domain_console *console);
DEFINE_CLEANUP(domain_console)

/* Calls RING, from another thread, whenever the domain pauses, resumes or ends, or QEMU has written
 * past a mark of domain_scratch_mark(); never again once domain_watch_free() has returned. RING
 * must not block, nor free the watch. A connection can watch a domain once at a time. */
struct domain_watch;
struct domain_watch *domain_watch_new(struct domain *domain, void (*ring)(void *context),
                                      void *context, GError **error);
void domain_watch_free(struct domain_watch *watch);
DEFINE_CLEANUP(domain_watch)

/* What disk TARGET can hold, and what is allocated for it on the host (without the images below it). */
bool domain_disk_bytes(struct domain *domain, const char *target, uint64_t *capacity,
                       uint64_t *allocation, GError **error);

/* Backup jobs and checkpoints (libvirt >= 7.2, QEMU >= 5.2). */
/* Start a pull-mode backup, with a checkpoint unless CHECKPOINT_XML is NULL. Failure may still have
 * created the checkpoint. ERROR_INTEGRITY, and only that, says that a checkpoint which an
 * incremental disk names is not known here, or that its bitmap is missing or broken: begin again
 * with that disk (or all) in full and a checkpoint of a new name. */
bool domain_backup_begin(struct domain *domain, const char *backup_xml, const char *checkpoint_xml,
                         GError **error);
/* XML of the running backup job; *XML is NULL when there is none. */
bool domain_backup_xml(struct domain *domain, char **xml, GError **error);
/* Ring the domain's watches, once, when QEMU writes behind the first BYTES of the file in which the
 * backup job keeps what the guest overwrites on disk TARGET; replaces the mark before it.
 * ERROR_NOT_FOUND when the disk is not being backed up. */
bool domain_scratch_mark(struct domain *domain, const char *target, uint64_t bytes, GError **error);
/* End the backup job and wait, up to 30 s, until libvirt has cleaned up: the next job may begin. No
 * backup job is fine, and jobs of other kinds are left alone. */
bool domain_backup_end(struct domain *domain, GError **error);
/* Is any job running? The word for it ("backup", "migration", "snapshot", "save", "restore",
 * "dump", "start", "other") or NULL; borrowed constant. */
bool domain_job(struct domain *domain, const char **job, GError **error);
/* Names of all checkpoints, parents first; NULL-terminated, g_strfreev. */
char **domain_checkpoints(struct domain *domain, GError **error);
/* The definition without its <domain>, enough to redefine it. WITH_SIZE (running domains only) adds
 * size='dirty bytes' to each disk whose bitmap is good; a disk without it has lost its bitmap.
 * g_free. */
char *domain_checkpoint_xml(struct domain *domain, const char *name, bool with_size,
                            GError **error);
/* Let libvirt know a checkpoint again of which it has lost the record (the domain was renamed, or
 * migrated): XML is from domain_checkpoint_xml(), without <parent>. Running domains only.
 * ERROR_INTEGRITY when a disk of it has no good bitmap of that name. */
bool domain_checkpoint_redefine(struct domain *domain, const char *xml, GError **error);
/* Delete checkpoint and bitmaps. Where one disk has lost its bitmap, those of the others are
 * removed all the same; a domain that is off only forgets the checkpoint, its bitmaps stay in the
 * images. A missing checkpoint is fine. */
bool domain_checkpoint_delete(struct domain *domain, const char *name, GError **error);
