/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of metadata/: what a site knows. Other folders include this header only.
 */
#pragma once

#include "common/common.h"

#include "metadata/keyfile.h"
#include "metadata/limit.h"
#include "metadata/retention.h"
#include "metadata/config.h"
#include "metadata/secret-value.h"
#include "metadata/selection.h"
#include "metadata/manifest.h"
#include "metadata/sketch.h"
#include "metadata/cycle.h"
#include "metadata/cluster-ranges.h"
#include "metadata/damage.h"
#include "metadata/owner.h"
#include "metadata/guarded.h"
#include "metadata/proof.h"
#include "metadata/store.h"
#include "metadata/reconnect.h"
#include "metadata/host-files.h"
#include "metadata/bundle.h"
#include "metadata/pool-object.h"
#include "metadata/tarball.h"
#include "metadata/catalog.h"
#include "metadata/audit.h"
#include "metadata/point-ops.h"
#include "metadata/run.h"
#include "metadata/task.h"
#include "metadata/rpo.h"
#include "metadata/history.h"
#include "metadata/pace.h"
#include "metadata/report.h"
#include "metadata/sheet.h"
#include "metadata/account.h"
