/*
 * What the I/O engine's files share: its state, and its two ways to the host.
 */
#ifndef TSVMM_IOENGINE_H
#define TSVMM_IOENGINE_H

#include "ram.h"

/* A request in flight; `next` is the next free one where it is none. */
struct request {
    uint32_t token, next;
    bool reads;      /* only changes memory: need not be done when nobody wants the result */
    struct ram *ram; /* held while the host may touch it */
    struct job *job; /* with threads */
};

struct io {
    napi_env env;
    uv_loop_t *loop;
    uv_poll_t poll;
    uv_timer_t patience; /* at the environment's end */
    struct callback callback;
    napi_async_cleanup_hook_handle hook;
    uint32_t references; /* handles of libuv that are not closed, jobs that have not come back */
    uint32_t entries, in_flight, free;
    bool detached, closing, exiting; /* the environment ends */
    int event_fd, ring_fd;           /* ring_fd is -1 with threads */
    struct io_submission *submissions;
    struct iovec *iovecs;
    struct io_completion *completions;
    struct request *requests;
    napi_ref buffers[3];
    /* io_uring */
    void *ring;
    size_t ring_bytes, sqes_bytes;
    struct io_uring_sqe *sqes;
    unsigned *sq_head, *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_cqe *cqes;
    /* threads: finished, not yet reaped */
    struct job *done;
};

extern const int FALLOCATE_MODE[];

/* Takes a free request for a submission; its number. There must be one. */
uint32_t request_begin(struct io *io, const struct io_submission *s, struct ram *ram);
/* Frees a request that has ended or was never taken by the host. */
void request_end(struct io *io, uint32_t request);

/* Each way to the host: `submit` hands over requests[first...] for submissions[0..count) in order and says
 * how many the host took, or a negative errno when it took none. `reap` moves what is finished to
 * `completions`. `cancel_reads` takes back reads that are not done yet, as far as that is possible; they end
 * all the same, most with an error. */
bool uring_start(struct io *io);
int uring_submit(struct io *io, const uint32_t *requests, uint32_t count);
uint32_t uring_reap(struct io *io);
bool uring_has_completions(const struct io *io);
void uring_cancel_reads(struct io *io);
void uring_stop(struct io *io);

int threads_submit(struct io *io, const uint32_t *requests, uint32_t count);
uint32_t threads_reap(struct io *io);
void threads_cancel_reads(struct io *io);
/* Takes back all that no thread has begun. */
void threads_cancel(struct io *io);

/* A job has come back. */
void io_performed(struct io *io);
/* One of `references` is gone. */
void io_unreference(struct io *io);

#endif
