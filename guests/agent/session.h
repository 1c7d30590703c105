/*
 * A session: one payload process and its three streams, from EXEC to EXIT. Frames for the host are kept as
 * state (credit due, end of output due, exit due) until there is room for them. So no session waits for
 * another, and no queue grows without bound.
 */
#ifndef TSVMM_AGENT_SESSION_H
#define TSVMM_AGENT_SESSION_H

#include "protocol.h"

#include <stdbool.h>
#include <sys/types.h>

/* A frame of a session arrived: EXEC, STDIN, STDIN_CLOSE, SIGNAL, RESIZE, CREDIT or CLOSE. */
void session_frame(const struct frame_header *header, const uint8_t *payload);
/* The child `pid` has ended and is about to be reaped. */
void sessions_ending(pid_t pid);
/* The child `pid` was reaped. */
void sessions_reaped(pid_t pid, int wait_status);
/* Sends frames that are due, grants credit, and frees sessions that are over. */
void sessions_turn(void);
/* When sessions_turn wants to be called again, in ms from now; -1: not by time. */
int sessions_timeout(void);
/*
 * Sessions send nothing: what processes write waits in their pipes. A machine is saved in that state, so that
 * no output is on its way to a host that a copy of the machine does not have.
 */
extern bool sessions_held;
/* Kills and forgets every session, without an EXIT. */
void sessions_forget(void);

#endif
