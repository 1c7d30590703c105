/*
 * The public entry for ioctl experiments: one class per KVM file descriptor, one method per ioctl, and the structs that
 * they take; RAM to give to a VM, and the run loop that calls KVM_RUN. What the ioctls mean is in the kernel's
 * Documentation/virt/kvm/api.rst.
 */

export type { MemoryRegion } from "./base/guest-memory.ts";
export { type PageRun, PageSet } from "./base/page-set.ts";
export type { Layout, Member, Row, Sized, Struct } from "./base/struct.ts";
export { EventFd } from "./host/eventfd.ts";
export { GuestRam, type RamBacking, type RamOptions, type RamPart, type RamRange } from "./host/ram.ts";
export type { Watch } from "./host/reactor.ts";
export { RunLoop, type RunLoopEvents } from "./host/run-loop.ts";
export * from "./kvm/constants.ts";
export * from "./kvm/struct-view.ts";
export * from "./kvm/structs.ts";
export { Kvm } from "./kvm/system.ts";
export { Vcpu } from "./kvm/vcpu.ts";
export { type GsiRoute, type IoEventFd, type MemorySlot, Vm } from "./kvm/vm.ts";
