/*
 * What the TypeScript machine is measured against: the shortest vCPU loop and virtqueue in C, for the guest
 * guests/bare/bench.c. Built as a shared library and called on the VM that test/bench sets up, so that both
 * sides run the same guest on the same memory.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct queue {
    int event_fd;
    int polls; /* the ring, without kicks */
    volatile struct desc *desc;
    volatile uint16_t *avail; /* flags, idx, ring[16] */
    volatile uint16_t *used;  /* flags, idx, then pairs of 32 bits */
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Waits until there may be more than `taken` chains. */
static int more(struct queue *queue, uint16_t taken) {
    uint64_t kicks;
    if (!queue->polls)
        return read(queue->event_fd, &kicks, sizeof kicks) == sizeof kicks;
    queue->used[0] = 1; /* no kicks */
    while (taken == __atomic_load_n(&queue->avail[1], __ATOMIC_ACQUIRE)) {
        pthread_testcancel();
        __builtin_ia32_pause();
    }
    return 1;
}

/* The device: waits for chains, takes every one, publishes it. */
static void *device(void *argument) {
    struct queue *queue = argument;
    uint16_t taken = 0;
    while (more(queue, taken)) {
        for (; taken != __atomic_load_n(&queue->avail[1], __ATOMIC_ACQUIRE); taken++) {
            uint16_t head = queue->avail[2 + taken % 16];
            volatile uint32_t *entry = (volatile uint32_t *)(queue->used + 2) + 2 * (taken % 16);
            entry[0] = head;
            entry[1] = 0;
            (void)queue->desc[head].len;
        }
        __atomic_store_n(&queue->used[1], taken, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* Runs the guest to its end; seconds from the start of its clock, or -1. `event_fd` must block. */
double reference_run(int vcpu_fd, uint32_t run_bytes, int event_fd, double ram, uint32_t mode,
                     uint32_t count) {
    struct kvm_run *run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
    char *memory = (char *)(uintptr_t)ram;
    uint32_t parameters[] = {mode, count}, asked = 0, addresses[3], told = 0;
    volatile uint32_t device_register = 0;
    double start = -1, end = -1;
    struct queue queue;
    pthread_t thread;
    if (run == MAP_FAILED)
        return -1;
    fcntl(event_fd, F_SETFL, fcntl(event_fd, F_GETFL) & ~O_NONBLOCK);
    while (end < 0 && ioctl(vcpu_fd, KVM_RUN, 0) == 0) {
        uint32_t *data = (uint32_t *)((char *)run + run->io.data_offset);
        if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write) {
            memcpy((void *)&device_register, run->mmio.data, 4);
        } else if (run->exit_reason != KVM_EXIT_IO) {
            break;
        } else if (run->io.port == 0x514 && run->io.direction == KVM_EXIT_IO_IN) {
            *data = parameters[asked++ % 2];
        } else if (run->io.port == 0x514) {
            start = now();
        } else if (run->io.port == 0x518 && told < 3) {
            addresses[told++] = *data;
            if (told == 3) {
                queue = (struct queue){event_fd, mode == 3, (void *)(memory + addresses[0]),
                                       (void *)(memory + addresses[1]), (void *)(memory + addresses[2])};
                if (pthread_create(&thread, NULL, device, &queue) != 0)
                    break;
            }
        } else if (run->io.port == 0x500) {
            end = now();
        }
    }
    if (told == 3) {
        pthread_cancel(thread); /* read is a cancellation point, too */
        pthread_join(thread, NULL);
    }
    munmap(run, run_bytes);
    return end < 0 ? -1 : end - start;
}

/* Reads `count` blocks of 4 KiB one after the other; seconds. */
double reference_read(const char *path, uint32_t count) {
    char *block = malloc(4096);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    double start = now();
    for (uint32_t i = 0; i < count; i++)
        if (pread(fd, block, 4096, (off_t)i * 4096) != 4096)
            start = now() + 1;
    double end = now();
    close(fd);
    free(block);
    return end - start;
}

/* What src/virtio/queue.ts does for `rounds` batches of `batch` chains of three descriptors, up to 64;
 * seconds. */
double reference_queue(uint32_t batch, uint32_t rounds) {
    enum { SIZE = 256 };
    static struct desc desc[SIZE];
    static uint16_t avail[3 + SIZE], used[3 + 4 * SIZE];
    volatile uint64_t seen = 0;
    uint16_t published = 0, taken = 0;
    for (uint32_t i = 0; i < 3 * 64; i++)
        desc[i] = (struct desc){4096, 64, i % 3 == 2 ? 0 : 1, (uint16_t)(i + 1)};
    double start = now();
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < batch; i++)
            avail[2 + published++ % SIZE] = (uint16_t)(3 * i);
        __atomic_store_n(&avail[1], published, __ATOMIC_RELEASE);
        for (; taken != __atomic_load_n(&avail[1], __ATOMIC_ACQUIRE); taken++) {
            uint16_t head = avail[2 + taken % SIZE], at = head, flags;
            do {
                volatile struct desc *d = &desc[at];
                uint64_t addr = d->addr;
                uint32_t len = d->len;
                flags = d->flags;
                at = d->next;
                if (addr + len > 1 << 20 || at >= SIZE)
                    return -1;
                seen += addr + len;
            } while (flags & 1);
            uint32_t *entry = (uint32_t *)(void *)(used + 2) + 2 * (taken % SIZE);
            entry[0] = head;
            entry[1] = 4097;
        }
        __atomic_store_n(&used[1], taken, __ATOMIC_SEQ_CST);
    }
    return now() - start;
}
