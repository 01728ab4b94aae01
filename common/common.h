/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of common/: what every folder of drctl needs and none of them owns. Other
 * folders include this header only, never a part of it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/digest.h"
#include "common/domain-pull.h"
#include "common/errand.h"
#include "common/file.h"
#include "common/format.h"
#include "common/host.h"
#include "common/json.h"
#include "common/lock.h"
#include "common/parallel.h"
#include "common/process.h"
#include "common/progress.h"
#include "common/writeback.h"
#include "common/xml.h"
