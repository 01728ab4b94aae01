/* SPDX-License-Identifier: Apache-2.0 */
#include "common/domain-pull.h"

#include "common/host-private.h"

bool domain_pull_begin(struct domain *domain, const char *target, uint64_t rate, GError **error)
{
    return virDomainBlockPull(domain->handle, target, (unsigned long)rate,
                              VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES) == 0 ||
           domain_fail(domain, error, "pull disk %s of", target);
}

bool domain_pull_look(struct domain *domain, const char *target, struct domain_pull *pull,
                      GError **error)
{
    virDomainBlockJobInfo info = {0};
    int found = virDomainGetBlockJobInfo(domain->handle, target, &info,
                                         VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES);

    if (found < 0)
        return domain_fail(domain, error, "read the job of disk %s of", target);
    *pull = (struct domain_pull){0};
    if (found == 0)
        return true;
    if (info.type != VIR_DOMAIN_BLOCK_JOB_TYPE_PULL) {
        pull->is_taken = true;
        return true;
    }
    *pull = (struct domain_pull){
        .is_active = true, .done_bytes = info.cur, .total_bytes = info.end, .rate = info.bandwidth};
    return true;
}

bool domain_pull_limit(struct domain *domain, const char *target, uint64_t rate, GError **error)
{
    return virDomainBlockJobSetSpeed(domain->handle, target, (unsigned long)rate,
                                     VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES) == 0 ||
           domain_fail(domain, error, "limit the pull of disk %s of", target);
}

/* It may have ended by itself meanwhile. */
bool domain_pull_end(struct domain *domain, const char *target, GError **error)
{
    struct domain_pull pull;
    g_autoptr(GError) problem = NULL;

    if (!domain_pull_look(domain, target, &pull, error))
        return false;
    if (!pull.is_active || virDomainBlockJobAbort(domain->handle, target, 0) == 0)
        return true;
    domain_fail(domain, &problem, "stop the pull of disk %s of", target);
    if (domain_pull_look(domain, target, &pull, NULL) && !pull.is_active)
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}
