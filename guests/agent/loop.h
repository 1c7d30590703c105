/* The event loop: one epoll set. Every file descriptor that the agent waits for has a watch. */
#ifndef TSVMM_AGENT_LOOP_H
#define TSVMM_AGENT_LOOP_H

#include <stdint.h>

struct watch {
    int fd;          /* -1: none */
    uint32_t events; /* EPOLLIN, EPOLLOUT; 0 while not in the epoll set, because EPOLLHUP cannot be masked */
    void (*ready)(struct watch *watch, uint32_t events);
    void *owner;
};

void loop_open(void);
/* Waits once, at most `timeout_ms` (-1: for ever), and calls the ready watches. */
void loop_turn(int timeout_ms);
void watch_init(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t), void *owner);
void watch_set(struct watch *watch, uint32_t events);
/* Takes it out of the set and closes the descriptor. */
void watch_close(struct watch *watch);
/* CLOCK_BOOTTIME in nanoseconds and in milliseconds. */
uint64_t now_ns(void);
int64_t now_ms(void);

#endif
