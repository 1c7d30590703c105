/*
 * In a Machine: writes a disk full of numbers that differ in each round, flushes, reads it back and compares
 * every word. It prints a point per round, "wrong" for what is not as it was written, and "done" when it was
 * told to end. Parameters are in memory: with interrupts (else polling), with EVENT_IDX, requests in flight,
 * requests in all, the word that ends it.
 */
#include "blk.h"

#define PARAMETERS ((volatile u32 *)0x2f0000)

/* ACPI's power-off; the machine ends. */
static void end(const char *text) {
    print(text);
    for (;;)
        outb(0x600, 0x34);
}

static void transfer(u32 type, u32 round, u32 first) {
    for (u32 i = 0; i < depth; i++) {
        if (type == VIRTIO_BLK_T_OUT)
            fill(buffers[i], round + first + i);
        prepare(i, type, (u64)(first + i) * (BYTES / 512));
    }
    submit();
    wait();
}

static int is_as_written(const u8 *buffer, u32 number) {
    for (u32 i = 0; i < BYTES / 4; i++)
        if (((const u32 *)buffer)[i] != number * 2654435761u + i)
            return 0;
    return 1;
}

void main(u64 vcpu) {
    (void)vcpu;
    with_interrupts = PARAMETERS[0];
    event_idx = PARAMETERS[1];
    depth = PARAMETERS[2];
    u32 count = PARAMETERS[3];
    set_up();
    if (with_interrupts)
        enable_interrupt(PIN, VECTOR);
    for (u32 round = 0; PARAMETERS[4] == 0; round += count) {
        for (u32 first = 0; first < count; first += depth)
            transfer(VIRTIO_BLK_T_OUT, round, first);
        prepare(0, VIRTIO_BLK_T_FLUSH, 0);
        submit();
        wait();
        for (u32 first = 0; first < count; first += depth) {
            transfer(VIRTIO_BLK_T_IN, round, first);
            for (u32 i = 0; i < depth; i++)
                if (!is_as_written(buffers[i], round + first + i))
                    end("wrong");
        }
        print(".");
    }
    end("done");
}
