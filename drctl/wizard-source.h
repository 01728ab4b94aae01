/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The question how VMs come here: moved from the site where they run, tried only, or taken over because that site is
 * lost. What is offered first goes by what that site says when it is asked, and why is said.
 */
#pragma once

#include "drctl/candidates.h"

/* Sets --planned or --test, or neither. Nothing is asked if an option of SURVEY's context has said it. */
bool wizard_ask_how(const struct survey *survey, const struct candidate *candidate, GError **error);
