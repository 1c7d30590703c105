/*
 * The memory of a split virtqueue (virtio 1.2 §2.7), shared by driver and device. All fields are little endian.
 *
 *     descriptor table   virtq_desc[size]                                          written by the driver
 *     available ring     virtq_avail, its ring of u16[size], used_event u16        written by the driver
 *     used ring          virtq_used, its ring of virtq_used_elem[size], avail_event u16     written by the device
 *
 * The structs have the names of the spec here, and those of <linux/virtio_ring.h> in the ABI test.
 */
import { array, struct } from "../base/struct.ts";

/** A descriptor: one buffer of a chain (§2.7.5). */
export const virtq_desc = struct("vring_desc", { addr: "u64", len: "u32", flags: "u16", next: "u16" });

/** The head of the available ring (§2.7.6); heads of chains follow. */
export const virtq_avail = struct("vring_avail", { flags: "u16", idx: "u16", ring: array("u16", 0) });

/** An entry of the used ring: a chain, and how many bytes the device has written to it (§2.7.8). */
export const virtq_used_elem = struct("vring_used_elem", { id: "u32", len: "u32" });

/** The head of the used ring (§2.7.8); entries follow. */
export const virtq_used = struct("vring_used", { flags: "u16", idx: "u16", ring: array(virtq_used_elem, 0) });

/* Flags of a descriptor. */
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;
/** Flag of the available ring. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** Flag of the used ring. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

const AVAIL_ENTRY_BYTES = 2;
const EVENT_BYTES = 2;

/** Offset of entry `slot` in the available ring; that of used_event when `slot` is the queue's size. */
export function availEntry(slot: number): number {
	return virtq_avail.ring + AVAIL_ENTRY_BYTES * slot;
}

/** Offset of entry `slot` in the used ring; that of avail_event when `slot` is the queue's size. */
export function usedEntry(slot: number): number {
	return virtq_used.ring + virtq_used_elem.sizeof * slot;
}

/** Bytes of each part for a queue of `size` entries, the event fields included. */
export const descBytes = (size: number): number => virtq_desc.sizeof * size;
export const availBytes = (size: number): number => availEntry(size) + EVENT_BYTES;
export const usedBytes = (size: number): number => usedEntry(size) + EVENT_BYTES;
