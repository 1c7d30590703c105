/*
 * The byte stream to the host: a vsock connection, a virtio-serial port, a unix socket or an inherited
 * descriptor. Frames that arrive are handed to `stream_frame`; frames that leave are gathered and written
 * once per loop turn.
 */
#ifndef TSVMM_AGENT_STREAM_H
#define TSVMM_AGENT_STREAM_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>

/* Opens `spec`: "vsock", "fd:N", "unix:PATH" (listens) or the path of a character device. */
void stream_open(const char *spec);
/* Whether the host is there. */
bool stream_connected(void);
/* Room for output data of a session, in bytes of payload; the rest of the buffer is kept for control frames.
 */
size_t stream_data_room(void);
/* Whether small control frames fit. */
bool stream_control_room(void);
/* Where the payload of the next frame is to be written; at most stream_data_room() bytes. */
uint8_t *stream_payload(void);
/* Ends the frame whose payload was written to stream_payload(). */
void stream_commit(uint8_t type, uint8_t flags, uint32_t session, size_t length);
void stream_send(uint8_t type, uint8_t flags, uint32_t session, const void *payload, size_t length);
/* Takes up again what waited for room or for the host; writes what was gathered. */
void stream_turn(void);
/* When stream_turn wants to be called again, in ms from now; -1: not by time. */
int stream_timeout(void);

/* Implemented by main.c. */
void stream_frame(const struct frame_header *header, const uint8_t *payload);
/* The host has gone: no connection any more. */
void stream_lost(void);

#endif
