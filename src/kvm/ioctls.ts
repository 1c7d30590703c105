/*
 * KVM ioctl numbers, computed from the direction, the number and the size of the argument (asm-generic/ioctl.h), so
 * that a number and its layout cannot drift apart. Names and order as in <linux/kvm.h>; a test compares them all.
 */
import type { Sized } from "../base/struct.ts";
import * as s from "./structs.ts";

const KVMIO = 0xae;
const WRITE = 1;
const READ = 2;
const U64: Sized = { sizeof: 8, alignof: 8 };

/* Multiplication, not shifts: a READ number has bit 31 set and must stay positive. */
const number = (direction: number, nr: number, sizeof: number): number =>
	direction * 2 ** 30 + sizeof * 2 ** 16 + KVMIO * 2 ** 8 + nr;
/** No argument, or one by value. */
const _IO = (nr: number): number => number(0, nr, 0);
/** The kernel writes the argument. */
const _IOR = (nr: number, type: Sized): number => number(READ, nr, type.sizeof);
/** The kernel reads the argument. */
const _IOW = (nr: number, type: Sized): number => number(WRITE, nr, type.sizeof);
/** The kernel reads and writes the argument. */
const _IOWR = (nr: number, type: Sized): number => number(READ | WRITE, nr, type.sizeof);

/** ioctl numbers by their C name. */
export const IOCTL = {
	/* of /dev/kvm */
	KVM_GET_API_VERSION: _IO(0x00),
	KVM_CREATE_VM: _IO(0x01),
	KVM_GET_MSR_INDEX_LIST: _IOWR(0x02, s.kvm_msr_list),
	KVM_CHECK_EXTENSION: _IO(0x03),
	KVM_GET_VCPU_MMAP_SIZE: _IO(0x04),
	KVM_GET_SUPPORTED_CPUID: _IOWR(0x05, s.kvm_cpuid2),
	/* of a VM */
	KVM_CREATE_VCPU: _IO(0x41),
	KVM_GET_DIRTY_LOG: _IOW(0x42, s.kvm_dirty_log),
	KVM_SET_USER_MEMORY_REGION: _IOW(0x46, s.kvm_userspace_memory_region),
	KVM_SET_TSS_ADDR: _IO(0x47),
	KVM_SET_IDENTITY_MAP_ADDR: _IOW(0x48, U64),
	KVM_CREATE_IRQCHIP: _IO(0x60),
	KVM_IRQ_LINE: _IOW(0x61, s.kvm_irq_level),
	KVM_GET_IRQCHIP: _IOWR(0x62, s.kvm_irqchip),
	KVM_SET_IRQCHIP: _IOR(0x63, s.kvm_irqchip),
	KVM_SET_GSI_ROUTING: _IOW(0x6a, s.kvm_irq_routing),
	KVM_IRQFD: _IOW(0x76, s.kvm_irqfd),
	KVM_CREATE_PIT2: _IOW(0x77, s.kvm_pit_config),
	KVM_SET_BOOT_CPU_ID: _IO(0x78),
	KVM_IOEVENTFD: _IOW(0x79, s.kvm_ioeventfd),
	KVM_SET_CLOCK: _IOW(0x7b, s.kvm_clock_data),
	KVM_GET_CLOCK: _IOR(0x7c, s.kvm_clock_data),
	KVM_GET_PIT2: _IOR(0x9f, s.kvm_pit_state2),
	KVM_SET_PIT2: _IOW(0xa0, s.kvm_pit_state2),
	KVM_SIGNAL_MSI: _IOW(0xa5, s.kvm_msi),
	/* of a vCPU */
	KVM_RUN: _IO(0x80),
	KVM_GET_REGS: _IOR(0x81, s.kvm_regs),
	KVM_SET_REGS: _IOW(0x82, s.kvm_regs),
	KVM_GET_SREGS: _IOR(0x83, s.kvm_sregs),
	KVM_SET_SREGS: _IOW(0x84, s.kvm_sregs),
	KVM_TRANSLATE: _IOWR(0x85, s.kvm_translation),
	KVM_INTERRUPT: _IOW(0x86, s.kvm_interrupt),
	KVM_GET_MSRS: _IOWR(0x88, s.kvm_msrs),
	KVM_SET_MSRS: _IOW(0x89, s.kvm_msrs),
	KVM_GET_FPU: _IOR(0x8c, s.kvm_fpu),
	KVM_SET_FPU: _IOW(0x8d, s.kvm_fpu),
	KVM_GET_LAPIC: _IOR(0x8e, s.kvm_lapic_state),
	KVM_SET_LAPIC: _IOW(0x8f, s.kvm_lapic_state),
	KVM_SET_CPUID2: _IOW(0x90, s.kvm_cpuid2),
	KVM_GET_CPUID2: _IOWR(0x91, s.kvm_cpuid2),
	KVM_GET_MP_STATE: _IOR(0x98, s.kvm_mp_state),
	KVM_SET_MP_STATE: _IOW(0x99, s.kvm_mp_state),
	KVM_NMI: _IO(0x9a),
	KVM_SET_GUEST_DEBUG: _IOW(0x9b, s.kvm_guest_debug),
	KVM_GET_VCPU_EVENTS: _IOR(0x9f, s.kvm_vcpu_events),
	KVM_SET_VCPU_EVENTS: _IOW(0xa0, s.kvm_vcpu_events),
	KVM_GET_DEBUGREGS: _IOR(0xa1, s.kvm_debugregs),
	KVM_SET_DEBUGREGS: _IOW(0xa2, s.kvm_debugregs),
	/* of a VM and of a vCPU */
	KVM_SET_TSC_KHZ: _IO(0xa2),
	KVM_GET_TSC_KHZ: _IO(0xa3),
	KVM_ENABLE_CAP: _IOW(0xa3, s.kvm_enable_cap),
	/* of a vCPU */
	KVM_GET_XSAVE: _IOR(0xa4, s.kvm_xsave),
	KVM_SET_XSAVE: _IOW(0xa5, s.kvm_xsave),
	KVM_GET_XCRS: _IOR(0xa6, s.kvm_xcrs),
	KVM_SET_XCRS: _IOW(0xa7, s.kvm_xcrs),
	KVM_KVMCLOCK_CTRL: _IO(0xad),
	KVM_GET_XSAVE2: _IOR(0xcf, s.kvm_xsave),
	KVM_SET_DEVICE_ATTR: _IOW(0xe1, s.kvm_device_attr),
	KVM_GET_DEVICE_ATTR: _IOW(0xe2, s.kvm_device_attr),
} as const;

/** Bytes that the argument has at least: structures with a flexible end have more. 0 when it is no structure. */
export function argumentBytes(name: IoctlName): number {
	return Math.floor(IOCTL[name] / 2 ** 16) & 0x3fff;
}

/** The C name of an ioctl of KVM. */
export type IoctlName = keyof typeof IOCTL;
