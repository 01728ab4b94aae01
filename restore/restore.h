/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of restore/: recovery points become running VMs. A VM boots from an overlay
 * directly over the files of its point; nothing is copied before it starts.
 */
#pragma once

#include "metadata/metadata.h"
#include "replicator/replicator.h"
#include "snapshot/snapshot.h"
#include "vapp/vapp.h"

#include "restore/hydrate.h"
#include "restore/recovery-plan.h"
#include "restore/window.h"

/* A host of the configuration that does not answer. Nobody knows what runs there. */
struct silent_host {
    char *uri;
    char *why;
    bool down; /* somebody has said that it is off, and its VMs with it */
    unsigned
        vms; /* of a plan: that may run there, so that they start nowhere else unless it is DOWN */
};
struct silent_host *silent_host_new(const char *uri, const char *why);
void silent_host_free(struct silent_host *host);
GPtrArray *silent_hosts_new(void); /* of struct silent_host */
/* What that means, with its way out behind " -> "; g_free. */
char *silent_host_text(const struct silent_host *host);
/* [{host, why, down, vms}] of struct silent_host. */
json_t *silent_hosts_json(const GPtrArray *hosts);

/* What a site has at hand to recover with. All borrowed. */
struct site {
    const struct config *config;
    struct catalog *catalog;
    struct store *store; /* the local one */
    GPtrArray *hosts;    /* of struct host, connected; may be empty for restore --to-dir */
    struct progress *progress;
    GPtrArray *silent; /* of struct silent_host: HOSTS are not all; NULL: they are */
};

/* --- Damage --------------------------------------------------------------------------------- */

/* What a disk of a point cannot give any more: it is damaged in this store, down to the clusters. A VM can
 * be started, and a disk restored, nevertheless, if somebody accepts that: reads of what is lost are I/O
 * errors then, until it is written anew. */
struct lost_disk {
    char *target;
    GArray *clusters; /* cluster-ranges.h, never empty */
    bool unreadable; /* QEMU cannot open the point's images: what is left of them is copied first */
    char *why;       /* one line */
};
uint64_t lost_disk_bytes(const struct lost_disk *lost);
/* "disk vda has lost 128 KiB (2 clusters) at 0x30000+0x20000: ..."; g_free. */
char *lost_disk_text(const struct lost_disk *lost);
/* [{disk, bytes, ranges: [[offset, bytes], ...], unreadable, why}] of struct lost_disk. */
json_t *lost_disks_json(const GPtrArray *lost);

/* --- vApps ---------------------------------------------------------------------------------- */

/* vApp NAME as it would be started here: this site's *.vapp, else the newest pool bundle of any site
 * that knows it. ERROR_NOT_FOUND. */
struct vapp *site_vapp(const struct site *site, const char *name, GError **error);
/* The same, for who acts on the VMs that are here by what it says: ERROR_CONFLICT if it is another site's, and one
 * of its names is here that of a VM that did not come from there. Needs hosts. */
struct vapp *site_vapp_here(const struct site *site, const char *name, GError **error);
/* All of them; of struct vapp. */
GPtrArray *site_vapps(const struct site *site, GError **error);

/* --- Failover ------------------------------------------------------------------------------- */

struct recovery; /* of restore/: how one VM is brought up */
struct bubble;   /* of restore/: where the VMs of a test are */

struct failover_vm {
    char *name;
    char *uuid; /* or NULL: not known */
    unsigned order;
    char *point; /* chosen, or NULL: none that can be used */
    int64_t point_time_ms;
    enum consistency consistency;
    GPtrArray *findings; /* char *: "network prod does not exist here: eth0 will be disconnected" */
    bool blocked;        /* a finding forbids it; the last finding says why and the way out */
    unsigned
        n_blockers;  /* of the findings, the last ones; 0 for a plan that was read from a journal */
    GPtrArray *lost; /* of struct lost_disk: what the point lacks, if no whole one is there */
    bool accepts_damage;   /* it starts without that; else LOST blocks it */
    bool passed_over;      /* it has newer points that are not whole, or not of a round that is */
    char *host;            /* URI of the host that gets it, or NULL: blocked */
    char **networks;       /* that its definition has NICs in; NULL: not looked at */
    uint64_t memory_bytes; /* that it will take of the host; 0: not known, or it is there already */
    unsigned cpus;         /* likewise */
    struct recovery *recovery; /* private */
};

/* All decisions of a failover, made before anything is touched; it is what the user confirms and
 * what the run's journal keeps. */
struct failover_plan {
    char *vapp; /* name of the recovery plan, which is that of its vApp where there is no file */
    char *site; /* where the VMs came from */
    GPtrArray *parts;            /* private: the vApps that it consists of */
    GPtrArray *skipped;          /* char *: optional VMs that are left out */
    char *resumes;               /* id of the interrupted run that this goes on with, or NULL */
    struct vapp *order;          /* definition that will be used */
    bool hydrate;                /* its VMs come off their points by themselves, see hydrate.h */
    struct commit_policy commit; /* can it be taken back? */
    GPtrArray *silent;           /* of struct silent_host: nothing is started there */
    GPtrArray *vms;              /* of struct failover_vm, in start order */
    struct bubble *bubble;       /* private: of a test failover, or NULL */
};

struct failover_request {
    const char *name;   /* of a recovery plan, vApp or VM */
    bool skip_optional; /* leave out VMs that the recovery plan can do without */
    bool accept_damage; /* what the newest usable point of a VM has lost does not block it */
    bool afresh;        /* as if no failover had been interrupted: to look at, not to execute */
    bool moved;         /* the VMs run at another site until now: a copy of one here is stale */
    const struct commit_policy *commit; /* NULL: as the recovery plan says */
    char **down; /* URIs of hosts that do not answer and are known to be off; or NULL */
    bool test;   /* for test_execute(): copies in a bubble, beside whatever is here */
    /* Which points: all zero is the newest complete ones, of one round where there are rounds. An
     * interrupted failover has its own: ERROR_CONFLICT. */
    const char
        *point; /* this one, of any of the VMs, or this round; VMs that have no point of it get
                        * their newest one that is not newer. ERROR_NOT_FOUND. */
    int64_t until_ms; /* not newer than that; 0: no matter */
    bool proven;      /* only points that a test has proven restorable */
};

/* Plan to bring up what the recovery plan, vApp or single VM of that name consists of, from the newest
 * complete point of each VM, by the recovery plan of that name if there is one. The definition comes
 * from the source site's newest pool bundle, or from this site's *.vapp. An interrupted failover of the
 * same name is gone on with, with the same decisions. ERROR_NOT_FOUND when nobody knows the name;
 * ERROR_CONFLICT when it runs here already. */
struct failover_plan *failover_plan_make(const struct site *site,
                                         const struct failover_request *request, GError **error);
/* The same for nothing but a name. */
struct failover_plan *failover_plan_new(const struct site *site, const char *name, GError **error);
/* The plan of RUN, an interrupted failover. */
struct failover_plan *failover_plan_resume(const struct site *site, const char *run,
                                           GError **error);
void failover_plan_free(struct failover_plan *plan);
DEFINE_CLEANUP(failover_plan)

/* --- Recovery plans ------------------------------------------------------------------------- */

/* One thing that a check has found: of VM, or of all (NULL). */
struct preflight_finding {
    char *vm;
    bool blocks; /* the VM cannot be brought up */
    char *text;
    char *remedy; /* or NULL: nothing is to be done */
};
/* What a host would have to bear. */
struct preflight_host {
    char *name;
    unsigned vms;
    unsigned cpus;         /* that they have together */
    uint64_t memory_bytes; /* likewise */
    uint64_t free_bytes;   /* UINT64_MAX: not known */
};
/* A file system that the disks would lie on. */
struct preflight_storage {
    char *path;            /* of the first directory there */
    uint64_t growth_bytes; /* what they can grow to */
    uint64_t free_bytes;
};
/* A check of a recovery plan against the hosts as they are; nothing is touched. */
struct preflight {
    char *plan;
    int64_t checked_ms;
    unsigned vms;
    unsigned blocked;      /* of them */
    uint64_t growth_bytes; /* what the overlays can grow to */
    uint64_t space_bytes;  /* what is free for them, on all of these: */
    GPtrArray *storages;   /* of struct preflight_storage */
    GPtrArray *hosts;      /* of struct preflight_host */
    GPtrArray *findings;   /* of struct preflight_finding */
};
void preflight_free(struct preflight *preflight);
DEFINE_CLEANUP(preflight)
/* Check the recovery plan, vApp or VM NAME now, and keep the result in the catalog. */
struct preflight *preflight_run(const struct site *site, const char *name, GError **error);
/* The result that is kept; *PREFLIGHT is NULL when there is none. *EXPIRED (g_free): what has changed
 * since, so that it does not hold any more, or NULL. Without hosts those are not compared. */
bool preflight_load(const struct site *site, const char *name, struct preflight **preflight,
                    char **expired, GError **error);
json_t *preflight_json(const struct preflight *preflight);

/* The text of a recovery plan for the vApp or VM NAME, made of what is known about its VMs and of the
 * networks here; g_free. */
char *recovery_plan_draft(const struct site *site, const char *name, GError **error);
/* Does somebody know all of its vApps, and they its VMs? ERROR_NOT_FOUND, ERROR_CONFIG. */
bool recovery_plan_is_known(const struct site *site, const struct recovery_plan *plan,
                            GError **error);

struct failover_result {
    char *run;
    enum run_state state;
    int64_t started_ms; /* wall clock, of the first start of the run */
    double
        rto_seconds; /* from the (first) start of the run until the last VM was ready; 0: none is */
    GPtrArray *vms;  /* of struct vapp_result, start order; their vm is the plan's */
    double *vm_rto_seconds; /* likewise, of each of VMS; 0: it is not ready */
};
void failover_result_clear(struct failover_result *result);

/* Execute a plan. Blocked VMs are failed and their dependants skipped: ERROR_PARTIAL then, ERROR_FAILED
 * when no VM is up. A kill at any instant: the same command plans and goes on. */
bool failover_execute(const struct site *site, const struct failover_plan *plan,
                      void (*report)(void *context, const struct vapp_result *result),
                      void *context, struct failover_result *result, GError **error);

/* RPO of a VM in a plan or result: seconds between its point's instant and the start of the run. */
double failover_rpo_seconds(const struct failover_vm *vm, int64_t started_ms);

/* --- Whose a VM is ---------------------------------------------------------------------------- */

/* This site becomes the owner of VMs (owner.h). */
struct claim;
/* Ask the other sites what they know, for a few seconds; who does not answer is told of. RUN may be NULL. */
struct claim *claim_new(const struct site *site, const char *run);
void claim_free(struct claim *claim);
DEFINE_CLEANUP(claim)
/* One of the VMs that are to be this site's. */
void claim_add(struct claim *claim, const char *uuid, const char *vm);
/* They are this site's now, as of a newer epoch than any that is known: durably here, and at each site that has
 * answered, which is told of all at once. Their start is not refused here any more, and their autostart is as it was
 * before a fence. Safe to repeat; after an error some may be. *OWNERS (may be NULL): the records, of struct owner. */
bool claim_take(struct claim *claim, GPtrArray **owners, GError **error);
/* The VM, which is this site's, is SITE's again, as of a newer epoch: durably here, and at each site that has
 * answered. One that another site owns by now is left to it. Safe to repeat. */
bool claim_give(struct claim *claim, const char *uuid, const char *vm, const char *site,
                GError **error);

/* --- Planned failover, failback ------------------------------------------------------------- */

/* A vApp moves here from the site where it runs, and nothing of it is lost. That site takes part: it is
 * asked by its store (store_command()), where the key of this site must be one of an operator. */
struct move_vm {
    char *name;
    char *uuid;
    char *copy; /* state of the copy that is left here from earlier, or NULL: there is none */
};
struct move {
    bool back; /* a failback: what is left here is kept as points first, and sent is what differs */
    char *vapp;
    char *site;     /* where it runs */
    char *resumes;  /* id of the interrupted run that this goes on with, or NULL */
    GPtrArray *vms; /* of struct move_vm, in start order */
};
/* {vm, uuid, state, ...} of each VM of VAPP there, an array to be json_decref'ed; names and states are fit to be
 * shown. */
json_t *peer_status(struct store *peer, const char *vapp, GError **error);
/* Look at both sites, change nothing. PEER is the other site's store. An interrupted move of VAPP is gone on
 * with. ERROR_CONFLICT when the vApp does not run there, or runs here. */
struct move *move_new(const struct site *site, const char *vapp, struct store *peer, bool back,
                      GError **error);
void move_free(struct move *move);
DEFINE_CLEANUP(move)

struct move_result {
    char *run;
    enum run_state state;
    double down_seconds; /* from the beginning of the stop there until the last VM was ready here */
    struct failover_plan *plan;     /* NULL: it did not come to the start here */
    struct failover_result started; /* its VMs are PLAN's */
};
void move_result_clear(struct move_result *result);
/* Points of the running VMs, preflight, stop there, points of what is off, claim, fence, start here. Whatever
 * fails before the claim starts the vApp again where it ran; afterwards the same call goes on. */
bool move_execute(const struct site *site, const struct move *move, struct store *peer,
                  void (*report)(void *context, const struct vapp_result *result), void *context,
                  struct move_result *result, GError **error);

/* --- Restore -------------------------------------------------------------------------------- */

struct restore_request {
    const char *vm;     /* name or UUID */
    const char *point;  /* id, or NULL: newest */
    const char *as;     /* new name: new UUID, MACs, channel paths; NULL with to_dir */
    const char *to_dir; /* plain qcow2 files and domain.xml here, no libvirt; or NULL */
    bool over;          /* in the place of the VM itself, whose old disks are kept */
    bool stop;          /* over one that runs: pull its plug */
    const char *disks;  /* "vda,vdb": only these; or NULL */
    const char *
        storage; /* with AS: pool of the host, or directory, that its disks go to; or NULL: the images */
    const char
        *host; /* with AS: URI of the host that gets it; or NULL: where most memory is free */
    bool start;
    bool accept_damage; /* restore what is left of a point that is not whole */
    /* If that is not set: is it accepted? TEXT says what is lost. May be NULL: no. */
    bool (*ask)(void *context, const char *point, const char *text, GError **error);
    void *context;
};
struct restore_result {
    char *run;
    char *vm;   /* as it is called now */
    char *uuid; /* NULL for to_dir */
    char *point;
    char **paths;    /* disks made */
    GPtrArray *lost; /* of struct lost_disk; NULL or empty: the point was whole */
};
void restore_result_clear(struct restore_result *result);
/* Safe to repeat after a kill; never overwrites: ERROR_CONFLICT for an existing domain or file. */
bool restore_execute(const struct site *site, const struct restore_request *request,
                     struct restore_result *result, GError **error);
/* After a restore over VM: COMMIT forgets what it was before, of which no file is removed; otherwise the VM, which
 * must be off, gets its old disks back, and what was written since is gone. ERROR_NOT_FOUND when there is
 * nothing to be decided. */
bool restore_decide(const struct site *site, const char *vm, bool commit, GError **error);

/* --- Archives ------------------------------------------------------------------------------- */

/* A VM or a vApp as one file. What it is follows from the end of its name: ".tar.zst", our own, which holds a
 * full recovery point of each VM; or ".ova", for other platforms, or of them. */
struct export_request {
    const char *name;  /* of a vApp or VM */
    const char *point; /* of one VM; or NULL: the newest of each, of one round if there is one */
    const char *file;
};
struct import_request {
    const char *file;
    const char *as; /* of an OVA with one VM: what it is called; NULL: what the file calls it */
    bool dry_run;   /* check only */
};
struct archive_vm {
    char *vm, *uuid, *point;
    uint64_t bytes;
    bool present; /* an import has found the point here already */
};
struct archive_result {
    char *name; /* of the vApp or VM */
    bool is_vapp;
    char *vapp_path; /* of an import: the definition's file, if it was written */
    GPtrArray *vms;  /* of struct archive_vm */
};
void archive_result_clear(struct archive_result *result);
/* The file appears when it is whole, and only if there is none of that name: ERROR_CONFLICT. Damaged points
 * are refused. */
bool export_archive(const struct site *site, const struct export_request *request,
                    struct archive_result *result, GError **error);
/* Its points become points of the local store, its vApp one of this site. Before anything is written, the
 * whole file has been read and checked, to the last digest: ERROR_INTEGRITY. It is safe to repeat. */
bool import_archive(const struct site *site, const struct import_request *request,
                    struct archive_result *result, GError **error);

/* --- Looking into a point -------------------------------------------------------------------- */

/* Disks of a point over NBD, read-only, at unix sockets that nobody else can reach. */
struct mount_request {
    const char *what;  /* a VM, or the id of a point that only one VM has */
    const char *point; /* of the VM, or NULL: the newest */
    const char *disk;  /* only this one, or NULL */
};
struct mounted_disk {
    char *target, *uri, *socket;
    uint64_t virtual_bytes;
};
struct mount_result {
    char *vm, *point;
    GPtrArray *disks; /* of struct mounted_disk */
};
void mount_result_clear(struct mount_result *result);
struct mount;
/* They are served until it is freed, or the calling thread ends. */
struct mount *mount_new(const struct site *site, const struct mount_request *request,
                        struct mount_result *result, GError **error);
/* Are all of them served? */
bool mount_runs(struct mount *mount, GError **error);
void mount_free(struct mount *mount);
DEFINE_CLEANUP(mount)

/* Single files of a disk, as far as debugfs can read it. */
struct files_request {
    const char *what;  /* as in struct mount_request */
    const char *point; /* likewise */
    const char *disk;
    bool has_partition;
    unsigned partition; /* 0: the disk is one file system. Without: the only one that can be read */
    char **paths;       /* NULL-terminated; empty: only find the file systems */
    const char *to_dir; /* copy them there; NULL: list them */
};
struct file_system {
    unsigned partition;
    uint64_t offset, bytes;
    char *type; /* NULL: not known */
};
enum file_kind { FILE_PLAIN, FILE_DIR, FILE_LINK, FILE_OTHER };
struct file_entry {
    char *path; /* in the guest; bytes as they are there */
    uint64_t inode;
    enum file_kind kind;
    uint64_t bytes;
    char *copy; /* where it is now, or NULL */
};
struct files_result {
    char *vm, *point;
    GPtrArray *systems; /* of struct file_system */
    GPtrArray *entries; /* of struct file_entry */
    unsigned
        missed; /* files and directories that are damaged: told, and not copied or not listed wholly */
};
void files_result_clear(struct files_result *result);
/* Nothing is overwritten: ERROR_CONFLICT. Of a failure what was copied before stays. */
bool files_execute(const struct site *site, const struct files_request *request,
                   struct files_result *result, GError **error);

#include "restore/test-failover.h"
