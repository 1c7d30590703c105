/*
 * Asynchronous file I/O on guest memory. A batch of submissions goes to the host in one io_uring_enter;
 * completions come through an eventfd that libuv watches. Where io_uring is refused (seccomp, sysctl, an old
 * kernel), two threads do the same with preadv and pwritev: same contract, same order of events.
 *
 *     submissions[] --ioSubmit--> SQ ... CQ --eventfd, uv_poll--> completions[] --onComplete(count)
 */
#include "addon.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define WORKERS 2

struct job {
    struct job *next;
    struct io_submission submission;
    int32_t result;
    struct iovec iovecs[];
};

struct queue {
    struct job *first, **last;
};

struct io {
    uv_poll_t poll;
    struct callback callback;
    uint32_t entries, in_flight;
    bool destroyed;
    int event_fd, ring_fd; /* ring_fd is -1 with threads */
    struct io_submission *submissions;
    struct iovec *iovecs;
    struct io_completion *completions;
    napi_ref buffers[3];
    /* io_uring */
    void *ring;
    size_t ring_bytes, sqes_bytes;
    struct io_uring_sqe *sqes;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_cqe *cqes;
    /* threads; under `lock` */
    pthread_t workers[WORKERS];
    uint32_t running;
    pthread_mutex_t lock;
    pthread_cond_t wanted, finished;
    struct queue todo, done;
    bool quit;
};

static void put(struct queue *queue, struct job *job) {
    job->next = NULL;
    *queue->last = job;
    queue->last = &job->next;
}

static struct job *take(struct queue *queue) {
    struct job *job = queue->first;
    if (job != NULL && (queue->first = job->next) == NULL)
        queue->last = &queue->first;
    return job;
}

static const int FALLOCATE_MODE[] = {
    [IO_PUNCH_HOLE] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    [IO_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};

static int32_t perform(struct job *job) {
    const struct io_submission *s = &job->submission;
    ssize_t result = -1;
    switch (s->op) {
    case IO_READV:
        result = preadv((int)s->fd, job->iovecs, (int)s->iov_count, (off_t)s->offset);
        break;
    case IO_WRITEV:
        result = pwritev((int)s->fd, job->iovecs, (int)s->iov_count, (off_t)s->offset);
        break;
    case IO_FDATASYNC:
        result = fdatasync((int)s->fd);
        break;
    case IO_PUNCH_HOLE:
    case IO_ZERO_RANGE:
        result = fallocate((int)s->fd, FALLOCATE_MODE[s->op], (off_t)s->offset, (off_t)s->length);
        break;
    default:
        return -EINVAL;
    }
    return result < 0 ? -errno : (int32_t)result;
}

static void *worker(void *argument) {
    struct io *io = argument;
    uint64_t one = 1;
    pthread_mutex_lock(&io->lock);
    for (;;) {
        struct job *job = take(&io->todo);
        if (job == NULL) {
            if (io->quit)
                break;
            pthread_cond_wait(&io->wanted, &io->lock);
            continue;
        }
        pthread_mutex_unlock(&io->lock);
        job->result = perform(job);
        pthread_mutex_lock(&io->lock);
        put(&io->done, job);
        if (write(io->event_fd, &one, sizeof one) < 0) { /* full: it will wake all the same */
        }
    }
    pthread_mutex_unlock(&io->lock);
    return NULL;
}

static bool start_threads(struct io *io) {
    sigset_t all, before;
    io->ring_fd = -1;
    io->todo.last = &io->todo.first;
    io->done.last = &io->done.first;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (io->running < WORKERS && pthread_create(&io->workers[io->running], NULL, worker, io) == 0)
        io->running++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return io->running > 0;
}

static void stop_threads(struct io *io) {
    pthread_mutex_lock(&io->lock);
    io->quit = true;
    pthread_cond_broadcast(&io->wanted);
    pthread_mutex_unlock(&io->lock);
    for (uint32_t i = 0; i < io->running; i++)
        pthread_join(io->workers[i], NULL);
    for (struct job *job = take(&io->done); job != NULL; job = take(&io->done))
        free(job);
}

static int enter(struct io *io, unsigned submit, unsigned wait) {
    return (int)syscall(SYS_io_uring_enter, io->ring_fd, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0,
                        NULL, 0);
}

/* Sets up io_uring; false when the kernel has none for us or lacks an operation that we need. */
static bool start_uring(struct io *io) {
    struct io_uring_params p = {.flags = IORING_SETUP_CLAMP};
    struct {
        struct io_uring_probe probe;
        struct io_uring_probe_op ops[IORING_OP_FALLOCATE + 1];
    } probe = {0};
    io->ring_fd = (int)syscall(SYS_io_uring_setup, io->entries, &p);
    if (io->ring_fd < 0)
        return false;
    unsigned features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
    size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    io->ring_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    io->sqes_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
    if ((p.features & features) != features || p.sq_entries < io->entries ||
        syscall(SYS_io_uring_register, io->ring_fd, IORING_REGISTER_PROBE, &probe, IORING_OP_FALLOCATE + 1) <
            0 ||
        !(probe.ops[IORING_OP_FALLOCATE].flags & IO_URING_OP_SUPPORTED) ||
        syscall(SYS_io_uring_register, io->ring_fd, IORING_REGISTER_EVENTFD, &io->event_fd, 1) < 0)
        goto refused;
    io->ring = mmap(NULL, io->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, io->ring_fd,
                    IORING_OFF_SQ_RING);
    if (io->ring == MAP_FAILED)
        goto refused;
    io->sqes = mmap(NULL, io->sqes_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, io->ring_fd,
                    IORING_OFF_SQES);
    if (io->sqes == MAP_FAILED) {
        munmap(io->ring, io->ring_bytes);
        goto refused;
    }
    char *ring = io->ring;
    io->sq_tail = (unsigned *)(ring + p.sq_off.tail);
    io->sq_mask = (unsigned *)(ring + p.sq_off.ring_mask);
    io->sq_array = (unsigned *)(ring + p.sq_off.array);
    io->cq_head = (unsigned *)(ring + p.cq_off.head);
    io->cq_tail = (unsigned *)(ring + p.cq_off.tail);
    io->cq_mask = (unsigned *)(ring + p.cq_off.ring_mask);
    io->cqes = (struct io_uring_cqe *)(ring + p.cq_off.cqes);
    return true;
refused:
    close(io->ring_fd);
    io->ring_fd = -1;
    return false;
}

static void fill_sqe(struct io *io, const struct io_submission *s) {
    unsigned tail = *io->sq_tail, slot = tail & *io->sq_mask;
    struct io_uring_sqe *sqe = &io->sqes[slot];
    *sqe = (struct io_uring_sqe){.fd = (int)s->fd, .off = s->offset, .user_data = s->token};
    switch (s->op) {
    case IO_READV:
    case IO_WRITEV:
        sqe->opcode = s->op == IO_READV ? IORING_OP_READV : IORING_OP_WRITEV;
        sqe->addr = (uint64_t)(uintptr_t)&io->iovecs[s->iov_start];
        sqe->len = s->iov_count;
        break;
    case IO_FDATASYNC:
        sqe->opcode = IORING_OP_FSYNC;
        sqe->off = 0;
        sqe->fsync_flags = IORING_FSYNC_DATASYNC;
        break;
    default:
        sqe->opcode = IORING_OP_FALLOCATE;
        sqe->addr = s->length;
        sqe->len = (uint32_t)FALLOCATE_MODE[s->op];
    }
    io->sq_array[slot] = slot;
    __atomic_store_n(io->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

/* Moves finished requests to `completions`; how many. */
static uint32_t reap(struct io *io) {
    uint32_t count = 0;
    if (io->ring_fd >= 0) {
        unsigned head = *io->cq_head, tail = __atomic_load_n(io->cq_tail, __ATOMIC_ACQUIRE);
        for (; head != tail && count < io->entries; head++, count++) {
            const struct io_uring_cqe *cqe = &io->cqes[head & *io->cq_mask];
            io->completions[count] = (struct io_completion){(uint32_t)cqe->user_data, cqe->res};
        }
        __atomic_store_n(io->cq_head, head, __ATOMIC_RELEASE);
    } else {
        pthread_mutex_lock(&io->lock);
        for (struct job *job; count < io->entries && (job = take(&io->done)) != NULL; count++) {
            io->completions[count] = (struct io_completion){job->submission.token, job->result};
            free(job);
        }
        pthread_mutex_unlock(&io->lock);
    }
    io->in_flight -= count;
    return count;
}

static void on_completions(uv_poll_t *handle, int status, int events) {
    struct io *io = handle->data;
    uint64_t signals;
    (void)status, (void)events;
    if (read(io->event_fd, &signals, sizeof signals) < 0)
        return;
    for (uint32_t count; !io->destroyed && (count = reap(io)) > 0;) {
        int32_t argument = (int32_t)count;
        if (io->in_flight == 0)
            uv_unref((uv_handle_t *)&io->poll);
        callback_call(&io->callback, 1, &argument);
    }
}

static void free_io(uv_handle_t *handle) {
    struct io *io = handle->data;
    close(io->event_fd);
    pthread_mutex_destroy(&io->lock);
    pthread_cond_destroy(&io->wanted);
    free(io->submissions);
    free(io->iovecs);
    free(io->completions);
    free(io);
}

/* Also the environment's cleanup hook. Waits: afterwards no request touches guest memory any more. */
static void destroy(void *argument) {
    struct io *io = argument;
    io->destroyed = true;
    if (io->ring_fd >= 0) {
        for (; io->in_flight > 0; reap(io))
            if (enter(io, 0, 1) < 0 && errno != EINTR)
                break;
        munmap(io->ring, io->ring_bytes);
        munmap(io->sqes, io->sqes_bytes);
        close(io->ring_fd);
    } else {
        stop_threads(io);
    }
    for (size_t i = 0; i < 3; i++)
        buffer_detach(io->callback.env, &io->buffers[i]);
    callback_destroy(&io->callback);
    uv_close((uv_handle_t *)&io->poll, free_io);
}

napi_value ioCreate(napi_env env, napi_callback_info info) {
    ARGUMENTS(3);
    uv_loop_t *loop;
    struct io *io = calloc(1, sizeof *io);
    io->entries = (uint32_t)arg_int(env, argv[0]);
    io->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    io->submissions = calloc(io->entries, sizeof *io->submissions);
    io->iovecs = calloc(IO_IOVECS, sizeof *io->iovecs);
    io->completions = calloc(io->entries, sizeof *io->completions);
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->wanted, NULL);
    io->poll.data = io;
    bool uring = !arg_bool(env, argv[1]) && start_uring(io);
    if (io->event_fd < 0 || (!uring && !start_threads(io))) {
        int error = errno;
        free_io((uv_handle_t *)&io->poll);
        return throw_errno(env, "set up asynchronous I/O", error);
    }
    callback_create(&io->callback, env, argv[2]);
    napi_get_uv_event_loop(env, &loop);
    uv_poll_init(loop, &io->poll, io->event_fd);
    uv_poll_start(&io->poll, UV_READABLE, on_completions);
    uv_unref((uv_handle_t *)&io->poll); /* keeps the process alive only while something is in flight */
    napi_add_env_cleanup_hook(env, destroy, io);

    napi_value result, engine;
    size_t submissions = io->entries * sizeof *io->submissions,
           completions = io->entries * sizeof *io->completions;
    napi_create_object(env, &result);
    napi_create_string_utf8(env, uring ? "io_uring" : "threads", NAPI_AUTO_LENGTH, &engine);
    set(env, result, "io", handle(env, io));
    set(env, result, "submissions", buffer(env, io->submissions, submissions, &io->buffers[0]));
    set(env, result, "iovecs", buffer(env, io->iovecs, IO_IOVECS * sizeof *io->iovecs, &io->buffers[1]));
    set(env, result, "completions", buffer(env, io->completions, completions, &io->buffers[2]));
    set(env, result, "engine", engine);
    return result;
}

static void queue_jobs(struct io *io, uint32_t count) {
    pthread_mutex_lock(&io->lock);
    for (uint32_t i = 0; i < count; i++) {
        const struct io_submission *s = &io->submissions[i];
        struct job *job = malloc(sizeof *job + s->iov_count * sizeof *job->iovecs);
        job->submission = *s;
        memcpy(job->iovecs, &io->iovecs[s->iov_start], s->iov_count * sizeof *job->iovecs);
        put(&io->todo, job);
    }
    pthread_cond_broadcast(&io->wanted);
    pthread_mutex_unlock(&io->lock);
}

napi_value ioSubmit(napi_env env, napi_callback_info info) {
    ARGUMENTS(2);
    struct io *io = arg_handle(env, argv[0]);
    uint32_t count = (uint32_t)arg_int(env, argv[1]);
    if (count > io->entries || count > io->entries - io->in_flight)
        return throw_errno(env, "submit I/O", EBUSY);
    for (uint32_t i = 0; i < count; i++) {
        const struct io_submission *s = &io->submissions[i];
        if (s->op > IO_ZERO_RANGE || s->iov_start > IO_IOVECS || s->iov_count > IO_IOVECS - s->iov_start)
            return throw_errno(env, "submit I/O", EINVAL);
    }
    if (io->in_flight == 0 && count > 0)
        uv_ref((uv_handle_t *)&io->poll);
    io->in_flight += count;
    if (io->ring_fd < 0) {
        queue_jobs(io, count);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        fill_sqe(io, &io->submissions[i]);
    for (uint32_t left = count; left > 0;) {
        int taken = enter(io, left, 0);
        if (taken < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY)
            return throw_errno(env, "submit I/O", errno);
        if (taken > 0)
            left -= (uint32_t)taken;
    }
    return NULL;
}

napi_value ioDestroy(napi_env env, napi_callback_info info) {
    ARGUMENTS(1);
    struct io *io = arg_handle(env, argv[0]);
    napi_remove_env_cleanup_hook(env, destroy, io);
    destroy(io);
    return NULL;
}
