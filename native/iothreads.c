/*
 * The I/O engine by libuv's threads, where io_uring is refused (seccomp, sysctl, an old kernel): same
 * contract, same order of events, with preadv and pwritev.
 */
#include "ioengine.h"
#include <linux/falloc.h>

struct job {
    uv_work_t work;
    struct io *io;
    struct job *next; /* among the finished ones */
    struct io_submission submission;
    uint32_t request;
    int32_t result;
    struct iovec iovecs[];
};

const int FALLOCATE_MODE[] = {
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
}

static void on_performed(uv_work_t *work, int status) {
    struct job *job = work->data;
    struct io *io = job->io;
    if (status != 0)
        job->result = status; /* -ECANCELED */
    io->requests[job->request].job = NULL;
    job->next = io->done;
    io->done = job;
    io_performed(io);
    io_unreference(io);
}

static bool queue(struct io *io, const struct io_submission *s, uint32_t request) {
    struct job *job = malloc(sizeof *job + s->iov_count * sizeof *job->iovecs);
    if (job == NULL)
        return false;
    job->work.data = job;
    job->io = io;
    job->submission = *s;
    job->request = request;
    memcpy(job->iovecs, &io->iovecs[s->iov_start], s->iov_count * sizeof *job->iovecs);
    if (uv_queue_work(io->loop, &job->work, on_work, on_performed) != 0) {
        free(job);
        return false;
    }
    io->requests[request].job = job;
    io->references++;
    return true;
}

int threads_submit(struct io *io, const uint32_t *requests, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i++)
        if (!queue(io, &io->submissions[i], requests[i]))
            return i > first ? (int)(i - first) : -ENOMEM;
    return (int)(end - first);
}

uint32_t threads_reap(struct io *io) {
    uint32_t count = 0;
    for (struct job *job; count < io->entries && (job = io->done) != NULL; count++) {
        io->completions[count] = (struct io_completion){job->submission.token, job->result};
        io->done = job->next;
        request_end(io, job->request);
        free(job);
    }
    return count;
}

static void cancel(struct io *io, bool writes) {
    for (uint32_t i = 0; i < io->entries; i++)
        if (io->requests[i].job != NULL && (writes || io->requests[i].reads))
            uv_cancel((uv_req_t *)&io->requests[i].job->work);
}

void threads_cancel_reads(struct io *io) {
    cancel(io, false);
}

void threads_cancel(struct io *io) {
    cancel(io, true);
}
