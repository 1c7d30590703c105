/* What a payload may: capabilities, limits, groups, no_new_privs. All read their keys from EXEC's list. */
#ifndef TSVMM_AGENT_PRIVILEGES_H
#define TSVMM_AGENT_PRIVILEGES_H

#include "spec.h"

#include <stdbool.h>
#include <stddef.h>

/* Each returns false with a reason in `why`, and its errno; 0 when none says it. */
struct refusal {
    int error;
    char text[200];
};

/* oom_score_adj, which takes the agent's own /proc: before the process enters its container. */
bool privileges_oom(const struct spec *spec, struct refusal *why);
/* rlimit=NAME:SOFT:HARD, each. */
bool privileges_limits(const struct spec *spec, struct refusal *why);
/* Drops what caps= does not have from the bounding set; while the process still may. */
bool privileges_bound(const struct spec *spec, struct refusal *why);
/* Permitted and effective capabilities as caps= has them, no others, and no_new_privs; when it is the user
 * already. */
bool privileges_drop(const struct spec *spec, struct refusal *why);

#endif
