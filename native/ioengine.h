/*
 * Shared code of the I/O engine: its state, and its two implementations.
 */
#ifndef TSVMM_IOENGINE_H
#define TSVMM_IOENGINE_H

#include "ram.h"

/* A request in flight. In a free one `next` is the next free one. */
struct request {
    uint32_t token, next;
    bool reads;      /* a read: may be cancelled when nobody needs the result */
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
    uint32_t when; /* IO_LATER, ... */
    /* What ioSubmit has done itself, not yet reaped. */
    struct io_completion *answered;
    uint32_t answered_count;
    bool refuses_nowait[2]; /* by IO_READV and IO_WRITEV: a file system does not know RWF_NOWAIT */
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

/* Takes a free request for a submission and returns its number. There must be one. */
uint32_t request_begin(struct io *io, const struct io_submission *s, struct ram *ram);
/* Frees a request that has ended or that the host refused. */
void request_end(struct io *io, uint32_t request);

/*
 * An implementation. `submit` gives requests and submissions [first, end) to the host in order. It returns
 * how many the host took, or a negative errno when it took none. `reap` moves finished requests to
 * `completions`. `cancel_reads` cancels unfinished reads if possible. They complete nevertheless, most with
 * an error.
 */
bool uring_start(struct io *io);
int uring_submit(struct io *io, const uint32_t *requests, uint32_t first, uint32_t end);
uint32_t uring_reap(struct io *io);
bool uring_has_completions(const struct io *io);
void uring_cancel_reads(struct io *io);
void uring_stop(struct io *io);

int threads_submit(struct io *io, const uint32_t *requests, uint32_t first, uint32_t end);
uint32_t threads_reap(struct io *io);
void threads_cancel_reads(struct io *io);
/* Cancels all jobs that no thread has begun. */
void threads_cancel(struct io *io);

/* A job has ended. */
void io_performed(struct io *io);
/* Gives back one of `references`. */
void io_unreference(struct io *io);

#endif
