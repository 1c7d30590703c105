/*
 * Two vCPUs read a disk: each by a queue of its own, or both by one with a lock. Parameters come from port
 * 0x514: queues, requests in flight of each vCPU, requests of each. The first word of block n is n. The clock
 * of the test starts with a write to port 0x514 and stops with another one.
 */
#include "guest.h"

#define SIZE 256
#define BYTES 4096
#define VCPUS 2
#define MAX_DEPTH 32
#define BLK_F_MQ (1u << 12)
#define PENDING 0xff

static struct queue {
    struct {
        u64 addr;
        u32 len;
        u16 flags, next;
    } desc[SIZE] __attribute__((aligned(16)));
    volatile struct { u16 flags, idx, ring[SIZE], used_event; } avail __attribute__((aligned(2)));
    volatile struct {
        u16 flags, idx;
        struct {
            u32 id, len;
        } ring[SIZE];
        u16 avail_event;
    } used __attribute__((aligned(4)));
    u16 published, last_used;
    u8 lock;
    /* By slot, as the requests. */
    volatile u8 done[VCPUS * MAX_DEPTH];
} queues[VCPUS];

static struct {
    u32 type, reserved;
    u64 sector;
    volatile u8 status;
} requests[VCPUS * MAX_DEPTH];
static u8 buffers[VCPUS * MAX_DEPTH][BYTES] __attribute__((aligned(4096)));
static u32 queue_count, depth, count;
static volatile u32 ready, started, ended;

static void fence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void lock(struct queue *queue) {
    while (__atomic_test_and_set(&queue->lock, __ATOMIC_ACQUIRE))
        __asm__ volatile("pause");
}

static void unlock(struct queue *queue) {
    __atomic_clear(&queue->lock, __ATOMIC_RELEASE);
}

static void prepare(struct queue *queue, u32 slot, u32 block) {
    u16 at = (u16)(3 * slot);
    requests[slot].sector = (u64)block * (BYTES / 512);
    requests[slot].status = PENDING;
    queue->done[slot] = 0;
    queue->desc[at].addr = (u64)&requests[slot];
    queue->desc[at].len = 16;
    queue->desc[at].flags = 1;
    queue->desc[at].next = (u16)(at + 1);
    queue->desc[at + 1].addr = (u64)buffers[slot];
    queue->desc[at + 1].len = BYTES;
    queue->desc[at + 1].flags = 3;
    queue->desc[at + 1].next = (u16)(at + 2);
    queue->desc[at + 2].addr = (u64)&requests[slot].status;
    queue->desc[at + 2].len = 1;
    queue->desc[at + 2].flags = 2;
    queue->avail.ring[queue->published++ % SIZE] = at;
}

/* Offers a vCPU's requests, from `block` on. */
static void submit(struct queue *queue, u32 vcpu, u32 block) {
    lock(queue);
    for (u32 i = 0; i < depth; i++)
        prepare(queue, vcpu * depth + i, block + i);
    fence();
    queue->avail.idx = queue->published;
    fence();
    int wanted = !(queue->used.flags & 1);
    unlock(queue);
    if (wanted)
        write32(MMIO + 0x50, (u32)(queue - queues));
}

static void collect(struct queue *queue) {
    lock(queue);
    for (; queue->last_used != queue->used.idx; queue->last_used++)
        queue->done[queue->used.ring[queue->last_used % SIZE].id / 3] = 1;
    unlock(queue);
}

/* Waits for a vCPU's requests, which began with `block`, and checks them. */
static void wait(struct queue *queue, u32 vcpu, u32 block) {
    for (u32 i = 0; i < depth; i++) {
        u32 slot = vcpu * depth + i;
        while (!queue->done[slot]) {
            __asm__ volatile("pause");
            if (queue->last_used != queue->used.idx)
                collect(queue);
        }
        if (requests[slot].status != 0)
            finish(10);
        if (*(volatile u32 *)buffers[slot] != block + i)
            finish(20);
    }
}

static void set_up(void) {
    if (read32(MMIO) != 0x74726976 || read32(MMIO + 8) != 2)
        finish(1);
    write32(MMIO + 0x70, 0);
    write32(MMIO + 0x70, 3);
    write32(MMIO + 0x24, 0);
    write32(MMIO + 0x20, queue_count > 1 ? BLK_F_MQ : 0);
    write32(MMIO + 0x24, 1);
    write32(MMIO + 0x20, 1); /* VERSION_1 */
    write32(MMIO + 0x70, 11);
    if ((read32(MMIO + 0x70) & 8) == 0)
        finish(2);
    for (u32 i = 0; i < queue_count; i++) {
        write32(MMIO + 0x30, i);
        if (read32(MMIO + 0x34) < SIZE)
            finish(3);
        write32(MMIO + 0x38, SIZE);
        write32(MMIO + 0x80, (u32)(u64)queues[i].desc);
        write32(MMIO + 0x90, (u32)(u64)&queues[i].avail);
        write32(MMIO + 0xa0, (u32)(u64)&queues[i].used);
        write32(MMIO + 0x44, 1);
        queues[i].avail.flags = 1; /* no interrupts */
    }
    write32(MMIO + 0x70, 15);
}

void main(u64 vcpu) {
    if (vcpu == 0) {
        queue_count = inl(0x514);
        depth = inl(0x514);
        count = inl(0x514);
        set_up();
        ready = 1;
    }
    while (!ready)
        __asm__ volatile("pause");
    __atomic_add_fetch(&started, 1, __ATOMIC_SEQ_CST);
    while (started != VCPUS)
        __asm__ volatile("pause");
    if (vcpu == 0)
        outl(0x514, 0);
    struct queue *queue = &queues[vcpu % queue_count];
    for (u32 done = 0; done < count; done += depth) {
        submit(queue, (u32)vcpu, (u32)vcpu * count + done);
        wait(queue, (u32)vcpu, (u32)vcpu * count + done);
    }
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    while (ended != VCPUS)
        __asm__ volatile("pause");
    if (vcpu == 0) {
        outl(0x514, 1);
        finish(0);
    }
    for (;;)
        __asm__ volatile("pause");
}
