/*
 * Asynchronous file I/O on guest memory. A batch of submissions goes to the host in one io_uring_enter;
 * completions come through an eventfd that libuv watches. Where io_uring is refused (seccomp, sysctl, an old
 * kernel), two threads do the same with preadv and pwritev: same contract, same order of events.
 *
 *     submissions[] --ioSubmit--> SQ ... CQ --eventfd, uv_poll--> onComplete --ioReap--> completions[]
 *
 * The caller also reaps after each submit: what the page cache could answer is there already, without a turn
 * of the event loop. IORING_REGISTER_EVENTFD_ASYNC would spare the late eventfd, but loses those of buffered
 * reads that the kernel finishes in the submitter's context.
 */
#include "addon.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/io_uring.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define DESTROY_SECONDS 30

/* A request on its way through libuv's threads. */
struct job {
    uv_work_t work;
    struct io *io;
    struct job *next; /* among the finished ones */
    struct io_submission submission;
    int32_t result;
    struct iovec iovecs[];
};

struct io {
    uv_poll_t poll;
    uv_loop_t *loop;
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
    /* threads: raised when a request has touched guest memory for the last time */
    uv_sem_t performed;
    struct job *done;
    uint32_t references; /* jobs whose on_performed is to come, and the uv_poll */
};

static const int FALLOCATE_MODE[] = {
    [IO_PUNCH_HOLE] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    [IO_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};

static int32_t perform(const struct io_submission *s, const struct iovec *iovecs) {
    ssize_t result;
    if (s->op == IO_READV)
        result = preadv((int)s->fd, iovecs, (int)s->iov_count, (off_t)s->offset);
    else if (s->op == IO_WRITEV)
        result = pwritev((int)s->fd, iovecs, (int)s->iov_count, (off_t)s->offset);
    else if (s->op == IO_FDATASYNC)
        result = fdatasync((int)s->fd);
    else
        result = fallocate((int)s->fd, FALLOCATE_MODE[s->op], (off_t)s->offset, (off_t)s->length);
    return result < 0 ? -errno : (int32_t)result;
}

static void on_work(uv_work_t *work) {
    struct job *job = work->data;
    job->result = perform(&job->submission, job->iovecs);
    uv_sem_post(&job->io->performed);
}

static int enter(struct io *io, unsigned submit) {
    return (int)syscall(SYS_io_uring_enter, io->ring_fd, submit, 0, 0, NULL, 0);
}

/* Waits for a completion, at most a second: then -1 with ETIME. */
static int await_completion(struct io *io) {
    struct __kernel_timespec second = {.tv_sec = 1};
    struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&second};
    return (int)syscall(SYS_io_uring_enter, io->ring_fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                        &argument, sizeof argument);
}

static void *map_ring(struct io *io, size_t bytes, off_t what) {
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, io->ring_fd, what);
}

/* Sets up io_uring; false when the kernel has none for us, or too old a one. */
static bool start_uring(struct io *io) {
    struct io_uring_params p = {.flags = IORING_SETUP_CLAMP};
    io->ring_fd = (int)syscall(SYS_io_uring_setup, io->entries, &p);
    if (io->ring_fd < 0)
        return false;
    /* The last came with Linux 5.11, IORING_OP_FALLOCATE before. */
    unsigned features =
        IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    size_t sq_bytes = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    io->ring_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    io->sqes_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
    if ((p.features & features) != features || p.sq_entries < io->entries ||
        syscall(SYS_io_uring_register, io->ring_fd, IORING_REGISTER_EVENTFD, &io->event_fd, 1) < 0)
        goto refused;
    io->ring = map_ring(io, io->ring_bytes, IORING_OFF_SQ_RING);
    if (io->ring == MAP_FAILED)
        goto refused;
    io->sqes = map_ring(io, io->sqes_bytes, IORING_OFF_SQES);
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
    }
    for (struct job *job; count < io->entries && (job = io->done) != NULL; count++) {
        io->completions[count] = (struct io_completion){job->submission.token, job->result};
        io->done = job->next;
        free(job);
    }
    io->in_flight -= count;
    if (io->in_flight == 0)
        uv_unref((uv_handle_t *)&io->poll);
    return count;
}

static void on_event(uv_poll_t *poll, int status, int events) {
    struct io *io = poll->data;
    uint64_t signals;
    (void)status, (void)events;
    if (read(io->event_fd, &signals, sizeof signals) < 0)
        return;
    /* An empty queue was reaped right after its submit. */
    if (*io->cq_head != __atomic_load_n(io->cq_tail, __ATOMIC_ACQUIRE))
        callback_call(&io->callback, 0, NULL);
}

static void release(struct io *io) {
    if (--io->references > 0)
        return;
    uv_sem_destroy(&io->performed);
    close(io->event_fd);
    free(io->submissions);
    free(io->iovecs);
    free(io->completions);
    free(io);
}

static void on_closed(uv_handle_t *poll) {
    release(poll->data);
}

static void on_performed(uv_work_t *work, int status) {
    struct job *job = work->data;
    struct io *io = job->io;
    (void)status;
    if (io->destroyed) {
        free(job);
    } else {
        uv_sem_wait(&io->performed);
        job->next = io->done;
        io->done = job;
        callback_call(&io->callback, 0, NULL);
    }
    release(io);
}

/* Also the environment's cleanup hook. Waits: afterwards no request touches guest memory any more. One that
 * takes longer than our patience is cancelled with its ring. */
static void destroy(void *argument) {
    struct io *io = argument;
    io->destroyed = true;
    if (io->ring_fd >= 0) {
        for (int patience = DESTROY_SECONDS; io->in_flight > 0; reap(io))
            if (await_completion(io) < 0 && errno != EINTR && (errno != ETIME || --patience == 0))
                break;
        munmap(io->ring, io->ring_bytes);
        munmap(io->sqes, io->sqes_bytes);
        close(io->ring_fd);
    } else {
        while (io->done != NULL) /* told but not reaped: those have taken their semaphore */
            reap(io);
        for (; io->in_flight > 0; io->in_flight--)
            uv_sem_wait(&io->performed);
    }
    for (size_t i = 0; i < 3; i++)
        buffer_detach(io->callback.env, &io->buffers[i]);
    callback_destroy(&io->callback);
    uv_close((uv_handle_t *)&io->poll, on_closed);
}

NATIVE(ioCreate) {
    ARGUMENTS(3);
    int event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (event_fd < 0)
        return throw_errno(env, "set up asynchronous I/O", errno);
    struct io *io = calloc(1, sizeof *io);
    io->event_fd = event_fd;
    io->ring_fd = -1;
    io->references = 1;
    io->entries = (uint32_t)INT(0);
    io->submissions = calloc(io->entries, sizeof *io->submissions);
    io->iovecs = calloc(IO_IOVECS, sizeof *io->iovecs);
    io->completions = calloc(io->entries, sizeof *io->completions);
    io->poll.data = io;
    uv_sem_init(&io->performed, 0);
    bool uring = !BOOL(1) && start_uring(io);
    callback_create(&io->callback, env, argv[2]);
    napi_get_uv_event_loop(env, &io->loop);
    uv_poll_init(io->loop, &io->poll, io->event_fd);
    uv_poll_start(&io->poll, UV_READABLE, on_event);
    uv_unref((uv_handle_t *)&io->poll); /* keeps the process alive only while something is in flight */
    napi_add_env_cleanup_hook(env, destroy, io);

    napi_value engine;
    size_t submissions = io->entries * sizeof *io->submissions,
           completions = io->entries * sizeof *io->completions;
    napi_create_string_utf8(env, uring ? "io_uring" : "threads", NAPI_AUTO_LENGTH, &engine);
    napi_value values[] = {
        handle(env, KIND_io, io),
        buffer(env, io->submissions, submissions, &io->buffers[0]),
        buffer(env, io->iovecs, IO_IOVECS * sizeof *io->iovecs, &io->buffers[1]),
        buffer(env, io->completions, completions, &io->buffers[2]),
        engine,
    };
    return object(env, (const char *[]){"io", "submissions", "iovecs", "completions", "engine"}, values, 5);
}

static void queue_job(struct io *io, const struct io_submission *s) {
    struct job *job = malloc(sizeof *job + s->iov_count * sizeof *job->iovecs);
    job->work.data = job;
    job->io = io;
    job->submission = *s;
    memcpy(job->iovecs, &io->iovecs[s->iov_start], s->iov_count * sizeof *job->iovecs);
    io->references++;
    uv_queue_work(io->loop, &job->work, on_work, on_performed);
}

NATIVE(ioSubmit) {
    ARGUMENTS(2);
    HANDLE(io);
    uint32_t count = (uint32_t)INT(1);
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
    for (uint32_t i = 0; i < count; i++)
        if (io->ring_fd < 0)
            queue_job(io, &io->submissions[i]);
        else
            fill_sqe(io, &io->submissions[i]);
    for (uint32_t left = io->ring_fd < 0 ? 0 : count; left > 0;) {
        int taken = enter(io, left);
        if (taken < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY) {
            io->in_flight -= left;
            return throw_errno(env, "submit I/O", errno);
        }
        if (taken > 0)
            left -= (uint32_t)taken;
    }
    return NULL;
}

NATIVE(ioReap) {
    ARGUMENTS(1);
    HANDLE(io);
    return number(env, reap(io));
}

NATIVE(ioDestroy) {
    ARGUMENTS(1);
    TAKE_HANDLE(io);
    napi_remove_env_cleanup_hook(env, destroy, io);
    destroy(io);
    return NULL;
}
