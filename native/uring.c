/*
 * The I/O engine by io_uring: a batch is one io_uring_enter, completions raise an eventfd.
 *
 * IORING_REGISTER_EVENTFD_ASYNC would avoid the eventfd of requests that complete at once. But it loses that
 * of buffered reads which the kernel finishes in the submitter's context.
 */
#include "ioengine.h"
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* The number of an entry that cancels a request. No request has it. */
#define CANCELS UINT64_MAX

static void *map_ring(struct io *io, size_t bytes, off_t what) {
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, io->ring_fd, what);
}

/* False when the kernel refuses io_uring or has an old one. */
bool uring_start(struct io *io) {
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
    io->sq_head = (unsigned *)(ring + p.sq_off.head);
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

void uring_stop(struct io *io) {
    munmap(io->ring, io->ring_bytes);
    munmap(io->sqes, io->sqes_bytes);
    close(io->ring_fd);
}

static void fill(struct io *io, unsigned slot, const struct io_submission *s, uint32_t request) {
    struct io_uring_sqe *sqe = &io->sqes[slot];
    *sqe = (struct io_uring_sqe){.fd = (int)s->fd, .off = s->offset, .user_data = request};
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
}

/*
 * Submits the `count` entries from the tail on. Entries that the kernel refuses are removed, and the tail
 * moves back. Otherwise the next batch would submit them, with the iovecs of other requests. Only
 * io_uring_enter reads the queue, so the kernel does not look at it meanwhile.
 */
static int enter(struct io *io, uint32_t count) {
    unsigned start = *io->sq_tail, taken = 0;
    int error = 0;
    __atomic_store_n(io->sq_tail, start + count, __ATOMIC_RELEASE);
    while (taken < count && error == 0) {
        long result = syscall(SYS_io_uring_enter, io->ring_fd, count - taken, 0, 0, NULL, 0);
        error = result < 0 ? errno : result == 0 ? EAGAIN : 0;
        taken = __atomic_load_n(io->sq_head, __ATOMIC_ACQUIRE) - start;
    }
    __atomic_store_n(io->sq_tail, start + taken, __ATOMIC_RELEASE);
    return taken > 0 || count == 0 ? (int)taken : -error;
}

int uring_submit(struct io *io, const uint32_t *requests, uint32_t first, uint32_t end) {
    for (uint32_t i = first; i < end; i++)
        fill(io, (*io->sq_tail + i - first) & *io->sq_mask, &io->submissions[i], requests[i]);
    return enter(io, end - first);
}

/*
 * There is room: no entry waits, and there are no more reads than entries. If the kernel refuses, the reads
 * go on.
 */
void uring_cancel_reads(struct io *io) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < io->entries; i++) {
        if (!io->requests[i].reads)
            continue;
        unsigned slot = (*io->sq_tail + count++) & *io->sq_mask;
        io->sqes[slot] = (struct io_uring_sqe){
            .opcode = IORING_OP_ASYNC_CANCEL, .fd = -1, .addr = i, .user_data = CANCELS};
        io->sq_array[slot] = slot;
    }
    if (count > 0)
        enter(io, count);
}

bool uring_has_completions(const struct io *io) {
    return *io->cq_head != __atomic_load_n(io->cq_tail, __ATOMIC_ACQUIRE);
}

uint32_t uring_reap(struct io *io) {
    unsigned head = *io->cq_head, tail = __atomic_load_n(io->cq_tail, __ATOMIC_ACQUIRE);
    uint32_t count = 0;
    for (; head != tail && count < io->entries; head++) {
        const struct io_uring_cqe *cqe = &io->cqes[head & *io->cq_mask];
        if (cqe->user_data == CANCELS)
            continue;
        uint32_t request = (uint32_t)cqe->user_data;
        io->completions[count++] = (struct io_completion){io->requests[request].token, cqe->res};
        request_end(io, request);
    }
    __atomic_store_n(io->cq_head, head, __ATOMIC_RELEASE);
    return count;
}
