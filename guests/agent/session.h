/*
 * A session: one payload process and its three streams, from EXEC to EXIT. Everything that is due to the host
 * is state (credit due, end of output due, exit due) and becomes frames when there is room, so that no
 * session waits for another and nothing is queued without bound.
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
/* Sends what is due and asks for what can be taken; frees what is over. */
void sessions_turn(void);
/* When sessions_turn wants to be called again, in ms from now; -1: not by time. */
int sessions_timeout(void);
/* Kills every session and forgets it without EXIT. */
void sessions_forget(void);

#endif
