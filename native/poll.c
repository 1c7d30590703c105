/*
 * Readiness of a file descriptor on the JavaScript thread (uv_poll), and readv/writev on guest memory for
 * descriptors that never block.
 */
#include "addon.h"
#include <sys/uio.h>

#define MAX_IOVECS 1024 /* IOV_MAX of Linux */

struct poll {
    uv_poll_t poll;
    struct callback callback;
    int fd;
    bool drain;
};

static void on_poll(uv_poll_t *handle, int status, int events) {
    struct poll *poll = handle->data;
    uint64_t count;
    /* An error or hang-up is reported as "readable". The next read says which. */
    int32_t argument = status < 0 ? UV_READABLE : events & (UV_READABLE | UV_WRITABLE);
    if (poll->drain && read(poll->fd, &count, sizeof count) < 0)
        return;
    callback_call(&poll->callback, 1, &argument);
}

static void free_poll(uv_handle_t *handle) {
    free(handle->data);
}

static void destroy(void *argument) {
    struct poll *poll = argument;
    uv_poll_stop(&poll->poll);
    callback_destroy(&poll->callback);
    uv_close((uv_handle_t *)&poll->poll, free_poll);
}

static int start(struct poll *poll, int events) {
    return events == 0 ? uv_poll_stop(&poll->poll) : uv_poll_start(&poll->poll, events, on_poll);
}

NATIVE(pollCreate) {
    ARGUMENTS(4);
    uv_loop_t *loop;
    struct poll *poll = calloc(1, sizeof *poll);
    int error = ENOMEM;
    if (poll == NULL || napi_get_uv_event_loop(env, &loop) != napi_ok)
        goto failed;
    poll->fd = INT(0);
    poll->drain = BOOL(2);
    poll->poll.data = poll;
    if (!callback_create(&poll->callback, env, argv[3]))
        goto failed;
    error = -uv_poll_init(loop, &poll->poll, poll->fd);
    if (error != 0) {
        callback_destroy(&poll->callback);
        goto failed;
    }
    uv_unref((uv_handle_t *)&poll->poll);
    error = -start(poll, INT(1));
    napi_value result = error == 0 ? handle(env, KIND_poll, poll) : NULL;
    if (result == NULL) {
        destroy(poll);
        return throw_errno(env, "watch a file descriptor", error == 0 ? ENOMEM : error);
    }
    napi_add_env_cleanup_hook(env, destroy, poll);
    return result;
failed:
    free(poll);
    return throw_errno(env, "watch a file descriptor", error);
}

NATIVE(pollSet) {
    ARGUMENTS(2);
    HANDLE(poll);
    int error = start(poll, INT(1));
    return error == 0 ? NULL : throw_errno(env, "watch a file descriptor", -error);
}

NATIVE(pollDestroy) {
    ARGUMENTS(1);
    TAKE_HANDLE(poll);
    napi_remove_env_cleanup_hook(env, destroy, poll);
    destroy(poll);
    return NULL;
}

static napi_value vectored(napi_env env, napi_callback_info info,
                           ssize_t (*call)(int, const struct iovec *, int)) {
    ARGUMENTS(4);
    struct iovec iovecs[MAX_IOVECS];
    int fd = INT(0), count = INT(3);
    size_t addresses = 0, sizes = 0;
    double *hvas = NULL;
    uint32_t *lengths = NULL;
    napi_typedarray_type of_hvas = napi_uint8_array, of_lengths = napi_uint8_array;
    napi_get_typedarray_info(env, argv[1], &of_hvas, &addresses, (void **)&hvas, NULL, NULL);
    napi_get_typedarray_info(env, argv[2], &of_lengths, &sizes, (void **)&lengths, NULL, NULL);
    if (of_hvas != napi_float64_array || of_lengths != napi_uint32_array || count < 0 || count > MAX_IOVECS ||
        (size_t)count > addresses || (size_t)count > sizes)
        return number(env, -EINVAL);
    for (int i = 0; i < count; i++)
        iovecs[i] = (struct iovec){(void *)(uintptr_t)hvas[i], lengths[i]};
    ssize_t result = call(fd, iovecs, count);
    return number(env, result < 0 ? -errno : (double)result);
}

NATIVE(readv) {
    return vectored(env, info, readv);
}
NATIVE(writev) {
    return vectored(env, info, writev);
}
