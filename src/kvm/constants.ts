/*
 * Capabilities, exit reasons and flags of KVM, spelled as in <linux/kvm.h>; a test compares each with the header.
 */

/** What KVM_GET_API_VERSION has answered since Linux 2.6.22 (KVM api.rst §4.1). */
export const KVM_API_VERSION = 12;

/** Capabilities for KVM_CHECK_EXTENSION (KVM api.rst §4.4). */
export const KVM_CAP = {
	KVM_CAP_IRQCHIP: 0,
	KVM_CAP_HLT: 1,
	KVM_CAP_USER_MEMORY: 3,
	KVM_CAP_SET_TSS_ADDR: 4,
	KVM_CAP_EXT_CPUID: 7,
	KVM_CAP_CLOCKSOURCE: 8,
	KVM_CAP_NR_VCPUS: 9,
	KVM_CAP_NR_MEMSLOTS: 10,
	KVM_CAP_MP_STATE: 14,
	KVM_CAP_USER_NMI: 22,
	KVM_CAP_SET_GUEST_DEBUG: 23,
	KVM_CAP_IRQ_ROUTING: 25,
	KVM_CAP_IRQFD: 32,
	KVM_CAP_PIT2: 33,
	KVM_CAP_IOEVENTFD: 36,
	KVM_CAP_SET_IDENTITY_MAP_ADDR: 37,
	KVM_CAP_ADJUST_CLOCK: 39,
	KVM_CAP_VCPU_EVENTS: 41,
	KVM_CAP_DEBUGREGS: 50,
	KVM_CAP_XSAVE: 55,
	KVM_CAP_XCRS: 56,
	KVM_CAP_TSC_CONTROL: 60,
	KVM_CAP_GET_TSC_KHZ: 61,
	KVM_CAP_MAX_VCPUS: 66,
	KVM_CAP_TSC_DEADLINE_TIMER: 72,
	KVM_CAP_KVMCLOCK_CTRL: 76,
	KVM_CAP_SIGNAL_MSI: 77,
	KVM_CAP_READONLY_MEM: 81,
	KVM_CAP_ENABLE_CAP_VM: 98,
	KVM_CAP_SPLIT_IRQCHIP: 121,
	KVM_CAP_IMMEDIATE_EXIT: 136,
	KVM_CAP_X86_DISABLE_EXITS: 143,
	KVM_CAP_SET_GUEST_DEBUG2: 195,
	KVM_CAP_EXIT_ON_EMULATION_FAILURE: 204,
	KVM_CAP_XSAVE2: 208,
} as const;

/** `exit_reason` of struct kvm_run. */
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_EXCEPTION = 1;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HYPERCALL = 3;
export const KVM_EXIT_DEBUG = 4;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_SYSTEM_EVENT = 24;
export const KVM_EXIT_IOAPIC_EOI = 26;
export const KVM_EXIT_X86_RDMSR = 29;
export const KVM_EXIT_X86_WRMSR = 30;

/** `direction` of kvm_run_io. */
export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;

/** `suberror` of kvm_run_internal, and a flag of kvm_run_emulation_failure. */
export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1;

/** `type` of kvm_run_system_event. */
export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;

/** `flags` of kvm_userspace_memory_region. */
export const KVM_MEM_LOG_DIRTY_PAGES = 1;
export const KVM_MEM_READONLY = 2;

/** `flags` of kvm_pit_config: KVM answers port 0x61 too. */
export const KVM_PIT_SPEAKER_DUMMY = 1;

/** `chip_id` of kvm_irqchip, and how many pins the I/O APIC has. */
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;
export const KVM_IOAPIC_NUM_PINS = 24;

/** `type` of kvm_irq_routing_entry. */
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;

/** `flags` of kvm_ioeventfd. */
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 4;

/** `flags` of kvm_irqfd. */
export const KVM_IRQFD_FLAG_DEASSIGN = 1;
export const KVM_IRQFD_FLAG_RESAMPLE = 2;

/** States of a vCPU (KVM_GET_MP_STATE). */
export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3;
export const KVM_MP_STATE_SIPI_RECEIVED = 4;

/** `flags` of kvm_cpuid_entry2: the entry holds for its `index` (ECX) alone. Spelled as in the header. */
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;

/** `control` of kvm_guest_debug. */
export const KVM_GUESTDBG_ENABLE = 1;
export const KVM_GUESTDBG_SINGLESTEP = 2;
export const KVM_GUESTDBG_USE_SW_BP = 0x10000;
export const KVM_GUESTDBG_USE_HW_BP = 0x20000;
export const KVM_GUESTDBG_INJECT_DB = 0x40000;
export const KVM_GUESTDBG_INJECT_BP = 0x80000;
/** Of KVM_CAP_SET_GUEST_DEBUG2 (Linux 5.13): no interrupt comes while a vCPU steps. */
export const KVM_GUESTDBG_BLOCKIRQ = 0x100000;

/** The group of a vCPU's attributes about its TSC, and the one that is there. */
export const KVM_VCPU_TSC_CTRL = 0;
export const KVM_VCPU_TSC_OFFSET = 0;

/** Flag of KVM_GET_CLOCK: the host's TSC at that moment is told as well. */
export const KVM_CLOCK_HOST_TSC = 1 << 3;
