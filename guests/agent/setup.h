/* SETUP: the steps that make a bare system into a container's, in the host's order. docs/agent.md lists them.
 */
#ifndef TSVMM_AGENT_SETUP_H
#define TSVMM_AGENT_SETUP_H

#include "protocol.h"

/* A SETUP frame arrived; answers DONE, or FAILED naming the step. */
void setup_frame(const struct frame_header *header, const uint8_t *payload);

#endif
