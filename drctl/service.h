/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a service tells its manager how it is: the protocol of sd_notify(3), which is a datagram. Without a manager
 * that asks for it nothing is told. And how somebody makes it a service.
 */
#pragma once

#include <stdint.h>

struct service {
    int fd;           /* -1: nobody asks */
    int64_t every_ms; /* how often the watchdog wants to hear of it; 0: it does not */
    int64_t next_ms;  /* monotonic */
};

void service_open(struct service *service);
void service_ready(const struct service *service);
/* To be called often. JOBS: how many are at work. */
void service_alive(struct service *service, unsigned jobs);
void service_stopping(const struct service *service);
void service_close(struct service *service);
/* What to do so that the daemon of the site of CONFIG_DIR runs, for people: a command where systemd has our unit. */
const char *service_remedy(const char *config_dir);
