/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define START_MS (20 * 1000) /* to connect on a busy host */
#define READY 'r'
#define THAW_TIMEOUT_S 5
#define GIVE_UP_MS (120 * 1000) /* on an agent that does not answer */
#define RETRY_US (500 * 1000)

/* --- our half --------------------------------------------------------------------------------- */

struct watchdog {
    int words; /* its stdin */
};

static bool spawn(const struct point_request *request, int *words, int *answers, GError **error)
{
    g_autofree char *timeout = g_strdup_printf("%u", request->quiesce_timeout_s);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) cause = NULL;

    for (const char *const *word = request->watchdog; *word; word++)
        g_ptr_array_add(argv, (char *)*word);
    g_ptr_array_add(argv, (char *)host_uri(domain_host(request->domain)));
    g_ptr_array_add(argv, (char *)domain_uuid(request->domain));
    g_ptr_array_add(argv, timeout);
    g_ptr_array_add(argv, NULL);
    return g_spawn_async_with_pipes(NULL, (char **)argv->pdata, NULL, G_SPAWN_CLOEXEC_PIPES, NULL,
                                    NULL, NULL, words, answers, NULL, &cause) ||
           fail(error, ERROR_FAILED, "cannot start the watchdog that would thaw it: %s",
                cause->message);
}

static bool wait_until_ready(int answers, GError **error)
{
    struct pollfd polled = {.fd = answers, .events = POLLIN};
    char answer = 0;

    return (poll(&polled, 1, START_MS) > 0 && read(answers, &answer, 1) == 1 && answer == READY) ||
           fail(error, ERROR_FAILED, "the watchdog that would thaw it does not come up");
}

struct watchdog *watchdog_start(const struct point_request *request, GError **error)
{
    AUTO(watchdog) watchdog = g_new0(struct watchdog, 1);
    AUTO_FD answers = -1;

    watchdog->words = -1;
    if (!spawn(request, &watchdog->words, &answers, error) || !wait_until_ready(answers, error))
        return NULL;
    return g_steal_pointer(&watchdog);
}

bool watchdog_tell(struct watchdog *watchdog, enum watchdog_word word, GError **error)
{
    char letter = (char)word;

    return write(watchdog->words, &letter, 1) == 1 ||
           fail_errno(error, errno, "the watchdog that would thaw it is gone");
}

void watchdog_free(struct watchdog *watchdog)
{
    if (!watchdog)
        return;
    fd_cleanup(&watchdog->words);
    g_free(watchdog);
}

/* --- its own half ----------------------------------------------------------------------------- */

enum heard { HEARD_WORD, HEARD_NOTHING, HEARD_END };

/* Until DEADLINE_MS; 0: for ever. */
static enum heard listen_for(int64_t deadline_ms, char *word)
{
    struct pollfd polled = {.fd = STDIN_FILENO, .events = POLLIN};
    int64_t left_ms = deadline_ms ? MAX(deadline_ms - time_monotonic_ms(), 0) : -1;
    int ready = poll(&polled, 1, (int)left_ms);

    if (ready == 0)
        return HEARD_NOTHING;
    return ready > 0 && read(STDIN_FILENO, word, 1) == 1 ? HEARD_WORD : HEARD_END;
}

/* When to thaw after WORD; 0: not at all. */
static int64_t deadline_after(char word, unsigned answer_s)
{
    switch (word) {
    case WATCHDOG_FREEZING:
        return time_monotonic_ms() + (int64_t)answer_s * 1000 + FROZEN_MAX_MS;
    case WATCHDOG_FROZEN:
        return time_monotonic_ms() + FROZEN_MAX_MS;
    default:
        return 0;
    }
}

/* An agent that hangs carries out what it was asked when it goes on. */
static bool thaw_patiently(struct domain *domain, GError **error)
{
    int64_t give_up_ms = time_monotonic_ms() + GIVE_UP_MS;

    while (true) {
        g_autoptr(GError) problem = NULL;

        if (domain_thaw(domain, THAW_TIMEOUT_S, &problem))
            return true;
        if (time_monotonic_ms() >= give_up_ms) {
            g_propagate_prefixed_error(error, g_steal_pointer(&problem),
                                       "THE GUEST'S FILE SYSTEMS MAY STILL BE FROZEN, thaw them "
                                       "with: virsh domfsthaw %s: ",
                                       domain_name(domain));
            return false;
        }
        g_usleep(RETRY_US);
    }
}

static bool keep_watch(struct domain *domain, unsigned answer_s, GError **error)
{
    int64_t deadline_ms = 0;

    while (true) {
        char word = 0;
        enum heard heard = listen_for(deadline_ms, &word);

        if (heard == HEARD_WORD) {
            deadline_ms = deadline_after(word, answer_s);
            continue;
        }
        if (deadline_ms && !thaw_patiently(domain, error))
            return false;
        if (heard == HEARD_END)
            return true;
        deadline_ms = 0;
    }
}

/* Whoever ends us all by a signal gives this process the time to thaw; it ends with its input. */
static void outlive_signals(void)
{
    setsid();
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

bool snapshot_watchdog(char *const *args, GError **error)
{
    const char ready = READY;
    uint64_t answer_s;

    if (!args[0] || !args[1] || !args[2] ||
        !g_ascii_string_to_unsigned(args[2], 10, 0, 3600, &answer_s, NULL))
        return fail(error, ERROR_USAGE, "the watchdog needs a host, a VM and seconds");
    outlive_signals();
    AUTO(host) host = host_open(args[0], error);
    AUTO(domain) domain = host ? host_domain(host, args[1], error) : NULL;

    if (!domain)
        return false;
    if (write(STDOUT_FILENO, &ready, 1) != 1)
        return fail_errno(error, errno, "cannot tell that the watchdog is ready");
    return keep_watch(domain, (unsigned)answer_s, error);
}
