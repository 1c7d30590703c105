/* The event loop, see loop.h. */
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static int epoll_fd = -1;

void loop_open(void) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
}

void loop_turn(int timeout_ms) {
    struct epoll_event events[32];
    int count = epoll_wait(epoll_fd, events, 32, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct watch *watch = events[i].data.ptr;
        /*
         * An earlier callback of this turn may have closed or paused it. Watches are freed only between
         * turns.
         */
        if (watch->fd >= 0 && watch->events != 0)
            watch->ready(watch, events[i].events);
    }
}

void watch_init(struct watch *watch, int fd, void (*ready)(struct watch *, uint32_t), void *owner) {
    *watch = (struct watch){.fd = fd, .events = 0, .ready = ready, .owner = owner};
}

void watch_set(struct watch *watch, uint32_t events) {
    if (watch->fd < 0 || watch->events == events)
        return;
    struct epoll_event event = {.events = events, .data = {.ptr = watch}};
    int op = events == 0 ? EPOLL_CTL_DEL : watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    epoll_ctl(epoll_fd, op, watch->fd, &event);
    watch->events = events;
}

void watch_close(struct watch *watch) {
    if (watch->fd < 0)
        return;
    watch_set(watch, 0);
    close(watch->fd);
    watch->fd = -1;
}

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t now_ms(void) {
    return (int64_t)(now_ns() / 1000000u);
}
