/* Control groups, version 2, below /sys/fs/cgroup of the agent's own root. They return 0, or -1
 * with errno. */
#ifndef TSVMM_AGENT_CGROUP_H
#define TSVMM_AGENT_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

/* As init: mounts them, with all controllers. A kernel may have none. */
void cgroup_prepare(void);
/*
 * Makes the group `name`, writes its `settings` ("pids.max=100", separated by tabs), moves the caller there
 * and makes that the root of its new cgroup namespace.
 */
int cgroup_enter_new(const char *name, char *settings);
/* Moves the caller into the group of `member`, which may be below the one that was made for it. */
int cgroup_join(pid_t member);
/* Kills all in the group `name` (Linux 5.14). */
void cgroup_kill(const char *name);
/* Whether the kernel has killed a process of the group `name` because its memory had run out. */
bool cgroup_ran_out_of_memory(const char *name);
/* Removes the group `name`, in which there is nobody left, and all below it. */
void cgroup_remove(const char *name);

#endif
