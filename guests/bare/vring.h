/*
 * A split virtqueue of SIZE descriptors (virtio 1.2 §2.7), for guests that have one. SIZE is defined before.
 */
#ifndef VRING_H
#define VRING_H
#include "guest.h"

struct desc {
    u64 addr;
    u32 len;
    u16 flags, next;
};
static struct desc desc[SIZE] __attribute__((aligned(16)));
static volatile struct { u16 flags, idx, ring[SIZE], used_event; } avail __attribute__((aligned(2)));
static volatile struct {
    u16 flags, idx;
    struct {
        u32 id, len;
    } ring[SIZE];
    u16 avail_event;
} used __attribute__((aligned(4)));

#endif
