/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP connection that notices within about a minute that the other host is gone.
 */
#pragma once

#include "common/common.h"

/* A non-blocking connected socket, or -1: ERROR_NETWORK "cannot reach HOST port PORT: why". */
int tcp_connect(const char *host, uint16_t port, GError **error);
/* The same, for at most TIMEOUT_MS for each address of the host. */
int tcp_connect_within(const char *host, uint16_t port, int timeout_ms, GError **error);
