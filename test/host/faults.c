/*
 * Loaded before the C library (LD_PRELOAD), to let system calls of the I/O engine fail or wait as a test
 * wants.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers as in faults.ts. */
enum fault {
    REFUSE_ENTER,
    TAKE_AT_MOST,
    HOLD_PREADV,
    INTERRUPT_SYNC,
    INTERRUPT_FALLOCATE,
    NOWAIT_READ,
    NOWAIT_WRITE,
    FAULTS
};
static atomic_int faults[FAULTS], preadv_calls, nowait_calls;

void fault_set(int fault, int value) {
    atomic_store(&faults[fault], value);
}

int fault_get(int fault) {
    return atomic_load(&faults[fault]);
}

int fault_preadv_calls(void) {
    return atomic_load(&preadv_calls);
}

int fault_nowait_calls(void) {
    return atomic_load(&nowait_calls);
}

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static int refused(int error) {
    errno = error;
    return -1;
}

/* REFUSE_ENTER: the errno of each io_uring_enter. TAKE_AT_MOST: the next one takes so many, the others
 * EAGAIN. */
long syscall(long number, ...) {
    long (*next)(long, ...) = real("syscall");
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_io_uring_enter) {
        int error = atomic_load(&faults[REFUSE_ENTER]), most = atomic_exchange(&faults[TAKE_AT_MOST], 0);
        if (most > 0) {
            atomic_store(&faults[REFUSE_ENTER], EAGAIN);
            a[1] = most;
        } else if (error != 0) {
            return refused(error);
        }
    }
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The helper is built for 64-bit offsets: its calls have these names. */
ssize_t preadv64(int fd, const struct iovec *parts, int count, off_t offset) {
    ssize_t (*next)(int, const struct iovec *, int, off_t) = real("preadv64");
    atomic_fetch_add(&preadv_calls, 1);
    while (atomic_load(&faults[HOLD_PREADV]))
        usleep(1000);
    return next(fd, parts, count, offset);
}

/* NOWAIT_...: the errno of those that must not wait; 0: they succeed on any file system. */
static ssize_t vectored(const char *name, enum fault fault, int fd, const struct iovec *parts, int count,
                        off_t offset, int flags) {
    ssize_t (*next)(int, const struct iovec *, int, off_t, int) = real(name);
    int error = atomic_load(&faults[fault]);
    if ((flags & RWF_NOWAIT) == 0)
        return next(fd, parts, count, offset, flags);
    atomic_fetch_add(&nowait_calls, 1);
    return error != 0 ? refused(error) : next(fd, parts, count, offset, flags & ~RWF_NOWAIT);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return vectored("preadv64v2", NOWAIT_READ, fd, parts, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return vectored("pwritev64v2", NOWAIT_WRITE, fd, parts, count, offset, flags);
}

/* One EINTR less to come; false when there is none. */
static int interrupted(enum fault fault) {
    int left = atomic_load(&faults[fault]);
    while (left > 0 && !atomic_compare_exchange_weak(&faults[fault], &left, left - 1))
        ;
    return left > 0;
}

int fdatasync(int fd) {
    int (*next)(int) = real("fdatasync");
    return interrupted(INTERRUPT_SYNC) ? refused(EINTR) : next(fd);
}

int fallocate64(int fd, int mode, off_t offset, off_t length) {
    int (*next)(int, int, off_t, off_t) = real("fallocate64");
    return interrupted(INTERRUPT_FALLOCATE) ? refused(EINTR) : next(fd, mode, offset, length);
}
