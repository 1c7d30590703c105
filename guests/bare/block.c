/*
 * Writes requests of 4 KiB to a disk, flushes, reads them back with many in flight and compares. Parameters
 * come from port 0x514: with interrupts (else polling), with EVENT_IDX, requests in flight, requests in all.
 * Each phase ends with its number on port 0x514.
 */
#include "blk.h"

void main(u64 vcpu) {
    (void)vcpu;
    with_interrupts = inl(0x514);
    event_idx = inl(0x514);
    depth = inl(0x514);
    u32 count = inl(0x514);
    set_up();
    if (with_interrupts)
        enable_interrupt(PIN, VECTOR);
    outl(0x514, 0);
    for (u32 done = 0; done < count; done += depth) {
        for (u32 i = 0; i < depth; i++) {
            fill(buffers[i], done + i);
            prepare(i, VIRTIO_BLK_T_OUT, (u64)(done + i) * (BYTES / 512));
        }
        submit();
        wait();
    }
    prepare(0, VIRTIO_BLK_T_FLUSH, 0);
    submit();
    wait();
    outl(0x514, 1);
    for (u32 done = 0; done < count; done += depth) {
        for (u32 i = 0; i < depth; i++)
            prepare(i, VIRTIO_BLK_T_IN, (u64)(done + i) * (BYTES / 512));
        submit();
        wait();
        for (u32 i = 0; i < depth; i++)
            if (((u32 *)buffers[i])[0] != (done + i) * 2654435761u ||
                ((u32 *)buffers[i])[BYTES / 4 - 1] != (done + i) * 2654435761u + BYTES / 4 - 1)
                finish(20);
    }
    outl(0x514, 2);
    print_number(kicks);
    finish(0);
}
