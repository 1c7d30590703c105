/*
 * Containers. Each has an init: a child that the agent forked into new namespaces. It sets them up (setup.c)
 * and stays as their process 1, so they last as long as it does. It reaps, or executes the container's
 * program (EXEC with init=1). The agent stays in its initial root. EXEC and later SETUPs enter the namespaces
 * by the init's pidfd.
 */
#ifndef TSVMM_AGENT_CONTAINER_H
#define TSVMM_AGENT_CONTAINER_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Bytes of a name. */
#define CONTAINER_NAME_MAX 64
/* Containers whose namespaces another one gets. */
#define JOINS_MAX 4

struct container;

/* Call once, before anything else here. */
void containers_open(void);
/* The living container called `id`; NULL when there is none. */
struct container *container_find(const char *id);
/* True for a valid name of a container: 1 to 64 letters, digits, dots, dashes and underscores, not dots
 * alone. */
bool container_name(const char *id);
/* What a container's first SETUP says about it. */
struct container_plan {
    const char *id;
    const char *namespaces;       /* new ones besides mount and pid: "uts,ipc,net,cgroup" */
    const char *joins[JOINS_MAX]; /* "NAME\tuts,ipc,pid": those of other containers */
    size_t join_count;
    char cgroup[CONTAINER_NAME_MAX + 2]; /* the control group that its init enters; "": none */
};

/*
 * Forks into new namespaces; that of cgroups is left to the init, which is to be in its group first. Both
 * sides return, as from fork: 0 in the child, which is to become the container's init and has its end of the
 * channel in `channel`; -1 with errno.
 */
pid_t container_create(const struct container_plan *plan, int *channel);
/* Forks a child that gets the namespaces of `container` by container_enter; NULL: the agent's. */
pid_t container_fork(const struct container *container);
/*
 * For the child of container_fork: enters the container's namespaces, root and working directory. @return 0;
 * -1 with errno
 */
int container_enter(const struct container *container);
/*
 * Makes the container's init execute a program (process_execute), which becomes its process 1. Once.
 *
 * @param descriptors a file with EXEC's list, the status socket, and stdin, stdout and stderr unless it gets
 * a pty
 * @return its number; -1 with errno, EALREADY the second time
 */
pid_t container_execute(struct container *container, const int *descriptors, size_t count);
/* The init's work in a ready container: it reaps until it has to execute a program. */
__attribute__((noreturn)) void container_stay(int channel);
/* Kills a container that could not be set up. */
void container_drop(pid_t init);
/* A REMOVE frame arrived: kills the container's processes; DONE when all have ended. */
void container_remove_frame(const struct frame_header *header, const uint8_t *payload);
/* Whether `pid`, which was reaped, is the init of a container in which a process was killed for want of
 * memory. */
bool container_ran_out_of_memory(pid_t pid);
/* The child `pid` was reaped. It may be a container's init. */
void containers_reaped(pid_t pid);
/* Sends answers that are due. */
void containers_turn(void);
/* Kills every container. Pending REMOVEs get no answer. */
void containers_forget(void);

#endif
