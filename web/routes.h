/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which request gets what: who may ask at all, which documents a page is made of, and what may be asked for.
 */
#pragma once

#include "web/access.h"
#include "web/data.h"
#include "web/request.h"
#include "web/web.h"

struct routes {
    const struct web_options *options;
    struct access *access;
    struct data *data;
};
/* CONTEXT is a struct routes. For any number of threads. */
void routes_answer(void *context, const struct request *request, struct reply *reply);
