/*
 * Containers: each has an init of its own, a child of the agent that was born into new namespaces, set them
 * up (setup.c) and then stays as their process 1, so that they last as long as it does. It reaps, or executes
 * the container's program (EXEC with init=1). The agent itself stays in the root that the machine was booted
 * with. EXEC and later SETUPs enter the namespaces by the init's pidfd.
 */
#ifndef TSVMM_AGENT_CONTAINER_H
#define TSVMM_AGENT_CONTAINER_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct container;

/* Call once, before anything else here. */
void containers_open(void);
/* The living container called `id`; NULL when there is none. */
struct container *container_find(const char *id);
/* Whether `id` may be the name of a container: 1 to 64 letters, digits, dots, dashes and underscores. */
bool container_name(const char *id);
/*
 * Forks into new namespaces: mount and pid always, the others that `namespaces` lists ("uts,ipc,net"). Both
 * sides return, as from fork: 0 in the child, which is to become the container's init and has its end of the
 * channel in `channel`; -1 with errno.
 */
pid_t container_create(const char *id, const char *namespaces, int *channel);
/* Forks a child whose namespaces are those of `container` once it has called container_enter; NULL: the
 * agent's. */
pid_t container_fork(const struct container *container);
/* In the child of container_fork. Its root and working directory are the container's then. @return 0; -1 with
 * errno */
int container_enter(const struct container *container);
/*
 * Has the container's init execute a program (process_execute), which so becomes its process 1. Once.
 *
 * @param descriptors a file with EXEC's list, the status socket, and stdin, stdout and stderr unless it gets
 * a pty
 * @return its number; -1 with errno, EALREADY the second time
 */
pid_t container_execute(struct container *container, const int *descriptors, size_t count);
/* What the init does once the container is set up: it reaps until it is told to execute a program. */
__attribute__((noreturn)) void container_stay(int channel);
/* Kills a container that could not be set up. */
void container_drop(pid_t init);
/* A REMOVE frame arrived: kills the container's processes; DONE when all have ended. */
void container_remove_frame(const struct frame_header *header, const uint8_t *payload);
/* The child `pid` was reaped; it may have been a container's init. */
void containers_reaped(pid_t pid);
/* Sends answers that are due. */
void containers_turn(void);
/* Kills every container; REMOVEs are not answered any more. */
void containers_forget(void);

#endif
