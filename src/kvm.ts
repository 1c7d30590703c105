/*
 * The public entry for ioctl experiments: one class per KVM file descriptor, one method per ioctl, and the structs that
 * they take. What they mean is in the kernel's Documentation/virt/kvm/api.rst.
 */
export * from "./kvm/constants.ts";
export * from "./kvm/structs.ts";
export { Kvm } from "./kvm/system.ts";
export { Vcpu } from "./kvm/vcpu.ts";
export { type GsiRoute, type IoEventFd, type MemorySlot, Vm } from "./kvm/vm.ts";
