/* The filter for a payload's system calls (seccomp(2)), which the host has compiled. */
#ifndef TSVMM_AGENT_SECCOMP_H
#define TSVMM_AGENT_SECCOMP_H

#include "privileges.h"
#include "spec.h"

#include <stdbool.h>

/*
 * Each loads the filter of seccomp=FLAGS:HEX when it is its turn. Loading takes CAP_SYS_ADMIN or
 * no_new_privs. Without the latter it is loaded while the process still has its capabilities.
 */
bool seccomp_early(const struct spec *spec, struct refusal *why);
bool seccomp_late(const struct spec *spec, struct refusal *why);

#endif
