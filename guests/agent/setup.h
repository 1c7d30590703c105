/*
 * SETUP: the steps that make a bare system, or a container's namespaces, what the host wants, in its order.
 * docs/agent.md lists them. They run in a child: whatever they wait for, the agent goes on, and the host may
 * CLOSE.
 */
#ifndef TSVMM_AGENT_SETUP_H
#define TSVMM_AGENT_SETUP_H

#include "protocol.h"

#include <sys/types.h>

/* A SETUP frame arrived. */
void setup_frame(const struct frame_header *header, const uint8_t *payload);
/* A CLOSE for `session` arrived: kills what carries out its steps; FAILED follows. */
void setup_close(uint32_t session);
/* The child `pid` was reaped. */
void setups_reaped(pid_t pid);
/* Sends answers that are due. */
void setups_turn(void);
/* Ends every SETUP; none is answered any more. */
void setups_forget(void);

#endif
