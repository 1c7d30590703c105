/*
 * SETUP: steps that prepare a bare system or a container's namespaces, in the host's order. docs/agent.md
 * lists them. They run in a child, so the agent goes on while they wait, and the host may CLOSE.
 */
#ifndef TSVMM_AGENT_SETUP_H
#define TSVMM_AGENT_SETUP_H

#include "protocol.h"

#include <sys/types.h>

/* A SETUP frame arrived. */
void setup_frame(const struct frame_header *header, const uint8_t *payload);
/* A CLOSE for `session` arrived: kills the child that runs its steps. FAILED follows. */
void setup_close(uint32_t session);
/* The child `pid` was reaped. */
void setups_reaped(pid_t pid);
/* Sends pending answers. */
void setups_turn(void);
/* Ends every SETUP without an answer. */
void setups_forget(void);

#endif
