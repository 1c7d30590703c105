/*
 * File descriptors that Node does not know of. Node closes its own when a worker ends, also by terminate(),
 * after which no JavaScript runs. A cleanup hook for each descriptor here closes it then, too. There is no
 * other list of them.
 */
#include "addon.h"
#include <sys/eventfd.h>

static void close_left(void *fd) {
    close((int)(intptr_t)fd);
}

static void forget(napi_env env, int fd) {
    napi_remove_env_cleanup_hook(env, close_left, (void *)(intptr_t)fd);
}

static void keep(napi_env env, int fd) {
    forget(env, fd); /* a hook that is there twice ends the process */
    napi_add_env_cleanup_hook(env, close_left, (void *)(intptr_t)fd);
}

NATIVE(fdKeep) {
    ARGUMENTS(1);
    keep(env, INT(0));
    return NULL;
}

NATIVE(fdForget) {
    ARGUMENTS(1);
    forget(env, INT(0));
    return NULL;
}

NATIVE(fdClose) {
    ARGUMENTS(1);
    forget(env, INT(0));
    close(INT(0));
    return NULL;
}

NATIVE(eventfdCreate) {
    (void)info;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return throw_errno(env, "create an eventfd", errno);
    keep(env, fd);
    return number(env, fd);
}

NATIVE(eventfdSignal) {
    ARGUMENTS(1);
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so the reader will wake all the same. */
    if (write(INT(0), &one, sizeof one) < 0 && errno != EAGAIN)
        return throw_errno(env, "signal an eventfd", errno);
    return NULL;
}
