/*
 * The whole ABI between the native helper and src/host/native.ts: constants and shared memory.
 * test/abi.test.ts compares all values and offsets with those of TypeScript. The functions are those of the
 * interface Native there. addon.c lists them.
 */
#ifndef TSVMM_H
#define TSVMM_H

#include <stdint.h>

#define ABI_VERSION 10

/* How the run loop answers accesses to an address without TypeScript. */
#define REGISTER_POSTED_WRITE 0 /* writes are queued in the posted ring, the vCPU runs on */
#define REGISTER_SHADOW_READ 1  /* reads answer with the shadow word */
#define REGISTER_ACK_WRITE 2    /* writes atomically clear the written bits in the shadow word */

/* State word of a vCPU. */
#define VCPU_RUNNING 0
#define VCPU_EXITED 1  /* waits for TypeScript: see kvm_run, then vcpuResume */
#define VCPU_FAILED 2  /* KVM_RUN failed, `errnos` has the errno; the thread has ended */
#define VCPU_STOPPED 3 /* no thread */

#define MAX_VCPUS 64
#define SHADOW_WORDS 1024
#define POSTED_ENTRIES 1024
#define MAX_REGISTERS 512

/* A write that did not stop its vCPU. */
struct posted_entry {
    uint64_t address;
    uint32_t value;
    uint16_t size;
    uint8_t pio;
    uint8_t vcpu;
};

/* Indices run freely; entry i is at i mod POSTED_ENTRIES. Each index has a cache line of its own. */
struct posted_ring {
    uint32_t head; /* first entry not yet read; TypeScript writes it */
    uint32_t pad1[15];
    uint32_t tail; /* first entry not yet written; vCPU threads write it */
    uint32_t pad2[15];
    struct posted_entry entries[POSTED_ENTRIES];
};

/* The operation of a submission. */
#define IO_READV 0
#define IO_WRITEV 1
#define IO_FDATASYNC 2
#define IO_PUNCH_HOLE 3 /* offset, length: deallocate, reads give zeroes */
#define IO_ZERO_RANGE 4 /* offset, length: zeroes, allocated */

/* When the reads and writes of an I/O engine are done. */
#define IO_LATER 0     /* by the host's asynchronous I/O */
#define IO_IF_CACHED 1 /* in ioSubmit, those that do not wait for a disk (RWF_NOWAIT) */
#define IO_AT_ONCE 2   /* in ioSubmit: the files are in memory */

#define IO_IOVECS 8192

struct io_submission {
    uint32_t op;
    uint32_t token; /* comes back in the completion */
    uint32_t fd;
    uint32_t iov_count;
    uint64_t offset;
    uint64_t length;
    uint32_t iov_start; /* index of the first iovec */
    uint32_t pad;
};

struct io_completion {
    uint32_t token;
    int32_t result; /* bytes, 0, or a negative errno */
};

/* A system call by its number, for a thread of ours. */
struct call_entry {
    uint64_t arguments[6];
    int64_t result;  /* or a negative errno */
    uint32_t number; /* SYS_... */
    uint32_t opens;  /* its result is a descriptor, closed when nobody wants it any more */
    uint32_t fsuid;  /* the user and group that it acts as; CALL_AS_SELF for our own */
    uint32_t fsgid;
};

#define CALL_AS_SELF 0xffffffff

#endif
