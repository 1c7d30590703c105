/*
 * The byte stream to the host: a vsock connection, a virtio-serial port, a unix socket or an inherited
 * descriptor. `stream_frame` gets the frames that arrive. Frames to send are collected and written once per
 * loop turn.
 */
#ifndef TSVMM_AGENT_STREAM_H
#define TSVMM_AGENT_STREAM_H

#include "protocol.h"

#include <stdbool.h>
#include <stddef.h>

/* Opens `spec`: "vsock", "fd:N", "unix:PATH" (listens) or the path of a character device. */
void stream_open(const char *spec);
/* True when the host is connected. */
bool stream_connected(void);
/* Room for output of a session, in bytes of payload. The rest of the buffer is for control frames.
 */
size_t stream_data_room(void);
/* True when small control frames fit. */
bool stream_control_room(void);
/* Where the payload of the next frame is to be written; at most stream_data_room() bytes. */
uint8_t *stream_payload(void);
/* Ends the frame whose payload was written to stream_payload(). */
void stream_commit(uint8_t type, uint8_t flags, uint32_t session, size_t length);
void stream_send(uint8_t type, uint8_t flags, uint32_t session, const void *payload, size_t length);
/* Reads frames that waited for room or for the host, and writes the collected ones. */
void stream_turn(void);
/* When stream_turn wants to be called again, in ms from now; -1: not by time. */
int stream_timeout(void);

/* Implemented by main.c. */
void stream_frame(const struct frame_header *header, const uint8_t *payload);
/* The host has gone, and with it the connection. */
void stream_lost(void);

#endif
