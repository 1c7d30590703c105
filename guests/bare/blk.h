/*
 * A virtio-blk driver (virtio 1.2 §5.2 on §4.2) in ring 3, by interrupts or polling, with many requests of 4
 * KiB in flight. What goes wrong ends the guest by `finish`.
 */
#ifndef BLK_H
#define BLK_H

#define SIZE 256
#include "vring.h"

#define BYTES 4096
#define MAX_DEPTH 64
#define VECTOR 0x42
#define PIN 16

enum { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH = 4 };

static struct {
    u32 type, reserved;
    u64 sector;
    u8 status;
} requests[MAX_DEPTH];
static u8 buffers[MAX_DEPTH][BYTES] __attribute__((aligned(4096)));

static u32 with_interrupts, event_idx, depth, seen_interrupts, kicks;
static u16 published, last_used;

static void fence(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Fills the request of `slot`, made of descriptors 3 * slot up, and puts it on the ring without telling. */
static void prepare(u32 slot, u32 type, u64 sector) {
    u32 at = 3 * slot;
    requests[slot].type = type;
    requests[slot].sector = sector;
    requests[slot].status = 0xff;
    u16 last = (u16)(at + (type == VIRTIO_BLK_T_FLUSH ? 1 : 2));
    desc[at] = (struct desc){(u64)&requests[slot], 16, 1, (u16)(at + 1)};
    desc[at + 1] = (struct desc){(u64)buffers[slot], BYTES, type == VIRTIO_BLK_T_IN ? 3 : 1, (u16)(at + 2)};
    desc[last] = (struct desc){(u64)&requests[slot].status, 1, 2, 0};
    avail.ring[published++ % SIZE] = (u16)at;
}

static void submit(void) {
    u16 old = avail.idx;
    if (event_idx)
        avail.used_event = with_interrupts ? (u16)(published - 1) : (u16)(last_used - 1);
    fence();
    avail.idx = published;
    fence();
    int wanted =
        event_idx ? (u16)(published - used.avail_event - 1) < (u16)(published - old) : !(used.flags & 1);
    if (wanted) {
        write32(MMIO + 0x50, 0);
        kicks++;
    }
}

/* Waits for everything published, and checks each status. */
static void wait(void) {
    while (used.idx != published) {
        if (with_interrupts && interrupts[VECTOR] != seen_interrupts) {
            seen_interrupts = interrupts[VECTOR];
            write32(MMIO + 0x64, read32(MMIO + 0x60));
        }
        __asm__ volatile("pause");
    }
    for (; last_used != published; last_used++)
        if (requests[used.ring[last_used % SIZE].id / 3].status != 0)
            finish(10);
}

static void fill(u8 *buffer, u32 number) {
    for (u32 i = 0; i < BYTES / 4; i++)
        ((u32 *)buffer)[i] = number * 2654435761u + i;
}

static void set_up(void) {
    if (read32(MMIO) != 0x74726976 || read32(MMIO + 4) != 2 || read32(MMIO + 8) != 2)
        finish(1);
    write32(MMIO + 0x70, 0);
    write32(MMIO + 0x70, 1);
    write32(MMIO + 0x70, 3);
    write32(MMIO + 0x24, 0);
    write32(MMIO + 0x20, event_idx ? 1u << 29 : 0);
    write32(MMIO + 0x24, 1);
    write32(MMIO + 0x20, 1); /* VERSION_1 */
    write32(MMIO + 0x70, 11);
    if ((read32(MMIO + 0x70) & 8) == 0)
        finish(2);
    write32(MMIO + 0x30, 0);
    if (read32(MMIO + 0x34) < SIZE)
        finish(3);
    write32(MMIO + 0x38, SIZE);
    write32(MMIO + 0x80, (u32)(u64)desc);
    write32(MMIO + 0x90, (u32)(u64)&avail);
    write32(MMIO + 0xa0, (u32)(u64)&used);
    write32(MMIO + 0x44, 1);
    if (!with_interrupts)
        avail.flags = 1;
    write32(MMIO + 0x70, 15);
}

#endif
