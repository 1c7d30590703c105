/*
 * Asynchronous file I/O on guest memory. A batch of submissions goes to the host in one call. Completions
 * come through the event loop. io_uring does the I/O (uring.c), or libuv's threads where io_uring is refused
 * (iothreads.c).
 *
 *     submissions[] --ioSubmit--> host --event loop--> onComplete --ioReap--> completions[]
 *
 * The caller also reaps after each submit: requests that the page cache has answered are complete then,
 * without a turn of the event loop. ioSubmit tries these itself, from the first one of the batch to the first
 * that would wait for a disk. One preadv2 costs less than a request of io_uring, whose eventfd would wake the
 * event loop for nothing.
 *
 * Nothing here waits. An engine that is destroyed with requests in flight loses its JavaScript side at once,
 * and is freed when the last request has ended. Each request holds the guest RAM that it may touch. A request
 * that never ends holds it for ever.
 */
#include "ioengine.h"
#include <sys/eventfd.h>

#define MAX_ENTRIES 4096
#define PATIENCE_MS 5000 /* of an environment that ends with requests in flight */

uint32_t request_begin(struct io *io, const struct io_submission *s, struct ram *ram) {
    uint32_t number = io->free;
    struct request *request = &io->requests[number];
    io->free = request->next;
    *request = (struct request){.token = s->token, .reads = s->op == IO_READV, .ram = ram};
    if (io->in_flight++ == 0 && !io->detached)
        uv_ref((uv_handle_t *)&io->poll); /* keeps the process alive only while something is in flight */
    return number;
}

void request_end(struct io *io, uint32_t number) {
    struct request *request = &io->requests[number];
    struct ram *ram = request->ram;
    *request = (struct request){.next = io->free};
    io->free = number;
    if (--io->in_flight == 0)
        uv_unref((uv_handle_t *)&io->poll);
    ram_release(ram, io->exiting ? NULL : io->env);
}

static void cancel_reads(struct io *io) {
    if (io->ring_fd >= 0)
        uring_cancel_reads(io);
    else
        threads_cancel_reads(io);
}

static uint32_t reap(struct io *io) {
    uint32_t count = io->answered_count;
    if (count > 0) {
        memcpy(io->completions, io->answered, count * sizeof *io->completions);
        io->answered_count = 0;
        return count;
    }
    return io->ring_fd >= 0 ? uring_reap(io) : threads_reap(io);
}

void io_unreference(struct io *io) {
    if (--io->references > 0)
        return;
    close(io->event_fd);
    if (io->hook != NULL)
        napi_remove_async_cleanup_hook(io->hook);
    free(io->submissions);
    free(io->iovecs);
    free(io->completions);
    free(io->answered);
    free(io->requests);
    free(io);
}

static void on_closed(uv_handle_t *handle) {
    io_unreference(handle->data);
}

static void close_engine(struct io *io) {
    if (io->closing)
        return;
    io->closing = true;
    if (io->ring_fd >= 0)
        uring_stop(io);
    uv_close((uv_handle_t *)&io->poll, on_closed);
    uv_close((uv_handle_t *)&io->patience, on_closed);
}

/* Something may have finished. */
static void proceed(struct io *io) {
    if (!io->detached) {
        callback_call(&io->callback, 0, NULL);
        return;
    }
    while (reap(io) > 0)
        ;
    if (io->in_flight == 0)
        close_engine(io);
}

static void on_event(uv_poll_t *poll, int status, int events) {
    struct io *io = poll->data;
    uint64_t signals;
    (void)status, (void)events;
    if (read(io->event_fd, &signals, sizeof signals) < 0)
        return;
    if (io->ring_fd >= 0 && uring_has_completions(io)) /* else it was reaped right after its submit */
        proceed(io);
}

void io_performed(struct io *io) {
    proceed(io);
}

/* Removes the JavaScript side. */
static void detach(struct io *io) {
    io->detached = true;
    for (size_t i = 0; i < 3; i++)
        buffer_detach(io->env, &io->buffers[i]);
    callback_destroy(&io->callback);
    uv_unref((uv_handle_t *)&io->poll);
    cancel_reads(io);
    if (io->ring_fd < 0)
        threads_cancel(io); /* a late request would use a descriptor that may be another file's by then */
    proceed(io);
}

static void on_impatient(uv_timer_t *patience) {
    close_engine(patience->data);
}

/* The environment ends. Its event loop runs on until io_unreference has freed the engine. */
static void on_exit_env(napi_async_cleanup_hook_handle hook, void *argument) {
    struct io *io = argument;
    (void)hook;
    io->exiting = true;
    if (!io->detached)
        detach(io);
    if (io->closing)
        return;
    uv_timer_start(&io->patience, on_impatient, PATIENCE_MS, 0);
    uv_ref((uv_handle_t *)&io->patience);
}

static void free_engine(struct io *io) {
    if (io == NULL)
        return;
    if (io->event_fd >= 0)
        close(io->event_fd);
    free(io->submissions);
    free(io->iovecs);
    free(io->completions);
    free(io->answered);
    free(io->requests);
    free(io);
}

/* Memory and eventfd; NULL when there is not enough. */
static struct io *allocate(napi_env env, uint32_t entries) {
    struct io *io = calloc(1, sizeof *io);
    if (io == NULL)
        return NULL;
    io->env = env;
    io->entries = entries;
    io->ring_fd = -1;
    io->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    io->submissions = calloc(entries, sizeof *io->submissions);
    io->iovecs = calloc(IO_IOVECS, sizeof *io->iovecs);
    io->completions = calloc(entries, sizeof *io->completions);
    io->answered = calloc(entries, sizeof *io->answered);
    io->requests = calloc(entries, sizeof *io->requests);
    if (io->event_fd >= 0 && io->submissions != NULL && io->iovecs != NULL && io->completions != NULL &&
        io->answered != NULL && io->requests != NULL) {
        for (uint32_t i = 0; i < entries; i++)
            io->requests[i].next = i + 1;
        return io;
    }
    free_engine(io);
    return NULL;
}

/* Connects the engine to the event loop, which then owns it. False on failure. */
static bool attach(struct io *io, napi_value on_complete) {
    if (!callback_create(&io->callback, io->env, on_complete))
        return false;
    io->poll.data = io->patience.data = io;
    if (napi_get_uv_event_loop(io->env, &io->loop) != napi_ok ||
        uv_poll_init(io->loop, &io->poll, io->event_fd) != 0) {
        callback_destroy(&io->callback);
        return false;
    }
    uv_timer_init(io->loop, &io->patience); /* cannot fail */
    io->references = 2;
    uv_unref((uv_handle_t *)&io->poll);
    uv_unref((uv_handle_t *)&io->patience);
    if (uv_poll_start(&io->poll, UV_READABLE, on_event) == 0 &&
        napi_add_async_cleanup_hook(io->env, on_exit_env, io, &io->hook) == napi_ok)
        return true;
    detach(io);
    return false;
}

NATIVE(ioCreate) {
    ARGUMENTS(4);
    if (INT(0) < 1 || INT(0) > MAX_ENTRIES || INT(2) < IO_LATER || INT(2) > IO_AT_ONCE)
        return throw_errno(env, "set up asynchronous I/O", EINVAL);
    struct io *io = allocate(env, (uint32_t)INT(0));
    if (io == NULL)
        return throw_errno(env, "set up asynchronous I/O", errno);
    io->when = (uint32_t)INT(2);
    if (!BOOL(1))
        uring_start(io);
    if (!attach(io, argv[3])) {
        if (io->references == 0) { /* else the event loop frees it */
            if (io->ring_fd >= 0)
                uring_stop(io);
            free_engine(io);
        }
        return throw_errno(env, "set up asynchronous I/O", EINVAL);
    }
    size_t submissions = io->entries * sizeof *io->submissions;
    size_t completions = io->entries * sizeof *io->completions;
    napi_value engine = NULL;
    napi_create_string_utf8(env, io->ring_fd < 0 ? "threads" : "io_uring", NAPI_AUTO_LENGTH, &engine);
    napi_value values[] = {
        handle(env, KIND_io, io),
        buffer(env, io->submissions, submissions, &io->buffers[0]),
        buffer(env, io->iovecs, IO_IOVECS * sizeof *io->iovecs, &io->buffers[1]),
        buffer(env, io->completions, completions, &io->buffers[2]),
        engine,
    };
    const char *const names[] = {"io", "submissions", "iovecs", "completions", "engine"};
    napi_value result = object(env, names, values, 5);
    if (result != NULL)
        return result;
    detach(io);
    return throw_errno(env, "set up asynchronous I/O", ENOMEM);
}

static bool is_valid(const struct io_submission *s) {
    return s->op <= IO_ZERO_RANGE && s->iov_start <= IO_IOVECS && s->iov_count <= IO_IOVECS - s->iov_start;
}

/* Begins requests for the submissions and holds their memory. Returns how many could begin, in `requests`. */
static uint32_t begin(struct io *io, uint32_t *requests, uint32_t count) {
    uint32_t begun = 0;
    ram_lock();
    for (; begun < count; begun++) {
        const struct io_submission *s = &io->submissions[begun];
        struct ram *ram;
        if (!is_valid(s) || !ram_hold(&io->iovecs[s->iov_start], s->iov_count, &ram))
            break;
        requests[begun] = request_begin(io, s, ram);
    }
    ram_unlock();
    return begun;
}

/* Does a read or write without waiting for a disk. Its bytes when that is all of it, or -1. */
static ssize_t perform_now(struct io *io, const struct io_submission *s) {
    const struct iovec *iovecs = &io->iovecs[s->iov_start];
    int count = (int)s->iov_count, flags = io->when == IO_IF_CACHED ? RWF_NOWAIT : 0;
    ssize_t result, wanted = 0;
    if (io->when == IO_LATER || s->op > IO_WRITEV || (flags != 0 && io->refuses_nowait[s->op]))
        return -1;
    for (int i = 0; i < count; i++)
        wanted += (ssize_t)iovecs[i].iov_len;
    if (s->op == IO_READV)
        result = preadv2((int)s->fd, iovecs, count, (off_t)s->offset, flags);
    else
        result = pwritev2((int)s->fd, iovecs, count, (off_t)s->offset, flags);
    if (result < 0 && errno == EOPNOTSUPP)
        io->refuses_nowait[s->op] = true;
    return result == wanted ? result : -1;
}

/* Answers requests from the first one on, to the first that the host has to do. Returns how many. */
static uint32_t answer_now(struct io *io, const uint32_t *requests, uint32_t count) {
    uint32_t done = 0;
    for (; done < count && io->answered_count < io->entries; done++) {
        ssize_t bytes = perform_now(io, &io->submissions[done]);
        if (bytes < 0)
            break;
        io->answered[io->answered_count++] =
            (struct io_completion){io->submissions[done].token, (int32_t)bytes};
        request_end(io, requests[done]);
    }
    return done;
}

NATIVE(ioSubmit) {
    ARGUMENTS(2);
    HANDLE(io);
    uint32_t count = (uint32_t)INT(1), requests[MAX_ENTRIES];
    if (count > io->entries - io->in_flight)
        return number(env, -EBUSY);
    uint32_t begun = begin(io, requests, count);
    if (begun == 0 && count > 0)
        return number(env, -EINVAL);
    uint32_t done = answer_now(io, requests, begun);
    int taken = 0;
    if (done < begun)
        taken = io->ring_fd >= 0 ? uring_submit(io, requests, done, begun)
                                 : threads_submit(io, requests, done, begun);
    uint32_t kept = taken < 0 ? done : done + (uint32_t)taken;
    for (uint32_t i = kept; i < begun; i++)
        request_end(io, requests[i]);
    return number(env, kept == 0 ? taken : (double)kept);
}

NATIVE(ioReap) {
    ARGUMENTS(1);
    HANDLE(io);
    return number(env, reap(io));
}

NATIVE(ioCancelReads) {
    ARGUMENTS(1);
    HANDLE(io);
    cancel_reads(io);
    return NULL;
}

NATIVE(ioDestroy) {
    ARGUMENTS(1);
    TAKE_HANDLE(io);
    detach(io);
    return NULL;
}
