/*
 * Structures of the KVM interface on x86-64, spelled as in <linux/kvm.h> and <asm/kvm.h> (KVM api.rst). An anonymous
 * member of a union is a layout of its own, named after its path: `kvm_run_io` is what `kvm_run.io` points to; its
 * offsets count from there. test/abi.test.ts compares every size and offset with the real headers.
 */
import { array, type MEMBERS, struct, union } from "../base/struct.ts";

/** KVM_GET_REGS, KVM_SET_REGS. */
export const kvm_regs = struct("kvm_regs", {
	rax: "u64",
	rbx: "u64",
	rcx: "u64",
	rdx: "u64",
	rsi: "u64",
	rdi: "u64",
	rsp: "u64",
	rbp: "u64",
	r8: "u64",
	r9: "u64",
	r10: "u64",
	r11: "u64",
	r12: "u64",
	r13: "u64",
	r14: "u64",
	r15: "u64",
	rip: "u64",
	rflags: "u64",
});

/** A segment register, in kvm_sregs. */
export const kvm_segment = struct("kvm_segment", {
	base: "u64",
	limit: "u32",
	selector: "u16",
	type: "u8",
	present: "u8",
	dpl: "u8",
	db: "u8",
	s: "u8",
	l: "u8",
	g: "u8",
	avl: "u8",
	unusable: "u8",
	padding: "u8",
});

/** GDTR or IDTR, in kvm_sregs. */
export const kvm_dtable = struct("kvm_dtable", { base: "u64", limit: "u16", padding: array("u16", 3) });

/** KVM_GET_SREGS, KVM_SET_SREGS. */
export const kvm_sregs = struct("kvm_sregs", {
	cs: kvm_segment,
	ds: kvm_segment,
	es: kvm_segment,
	fs: kvm_segment,
	gs: kvm_segment,
	ss: kvm_segment,
	tr: kvm_segment,
	ldt: kvm_segment,
	gdt: kvm_dtable,
	idt: kvm_dtable,
	cr0: "u64",
	cr2: "u64",
	cr3: "u64",
	cr4: "u64",
	cr8: "u64",
	efer: "u64",
	apic_base: "u64",
	interrupt_bitmap: array("u64", 4),
});

/** KVM_GET_FPU, KVM_SET_FPU. */
export const kvm_fpu = struct("kvm_fpu", {
	fpr: array("u8", 8 * 16),
	fcw: "u16",
	fsw: "u16",
	ftwx: "u8",
	pad1: "u8",
	last_opcode: "u16",
	last_ip: "u64",
	last_dp: "u64",
	xmm: array("u8", 16 * 16),
	mxcsr: "u32",
	pad2: "u32",
});

/** One MSR and its value, in kvm_msrs. */
export const kvm_msr_entry = struct("kvm_msr_entry", { index: "u32", reserved: "u32", data: "u64" });

/** KVM_GET_MSRS, KVM_SET_MSRS: the head; `nmsrs` entries follow. */
export const kvm_msrs = struct("kvm_msrs", { nmsrs: "u32", pad: "u32", entries: array(kvm_msr_entry, 0) });

/** KVM_GET_MSR_INDEX_LIST: the head; `nmsrs` indices follow. */
export const kvm_msr_list = struct("kvm_msr_list", { nmsrs: "u32", indices: array("u32", 0) });

/** One leaf of CPUID, in kvm_cpuid2. */
export const kvm_cpuid_entry2 = struct("kvm_cpuid_entry2", {
	function: "u32",
	index: "u32",
	flags: "u32",
	eax: "u32",
	ebx: "u32",
	ecx: "u32",
	edx: "u32",
	padding: array("u32", 3),
});

/** KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2: the head; `nent` entries follow. */
export const kvm_cpuid2 = struct("kvm_cpuid2", { nent: "u32", padding: "u32", entries: array(kvm_cpuid_entry2, 0) });

/** KVM_GET_LAPIC, KVM_SET_LAPIC: the register page; register n is at 16 * n. */
export const kvm_lapic_state = struct("kvm_lapic_state", { regs: array("u8", 0x400) });

/** KVM_GET_MP_STATE, KVM_SET_MP_STATE. */
export const kvm_mp_state = struct("kvm_mp_state", { mp_state: "u32" });

const exception = struct("kvm_vcpu_events.exception", {
	injected: "u8",
	nr: "u8",
	has_error_code: "u8",
	pending: "u8",
	error_code: "u32",
});
const interrupt = struct("kvm_vcpu_events.interrupt", { injected: "u8", nr: "u8", soft: "u8", shadow: "u8" });
const nmi = struct("kvm_vcpu_events.nmi", { injected: "u8", pending: "u8", masked: "u8", pad: "u8" });
const smi = struct("kvm_vcpu_events.smi", { smm: "u8", pending: "u8", smm_inside_nmi: "u8", latched_init: "u8" });

/** KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS. */
export const kvm_vcpu_events = struct("kvm_vcpu_events", {
	exception,
	interrupt,
	nmi,
	sipi_vector: "u32",
	flags: "u32",
	smi,
	triple_fault: struct("kvm_vcpu_events.triple_fault", { pending: "u8" }),
	reserved: array("u8", 26),
	exception_has_payload: "u8",
	exception_payload: "u64",
});
/** Members of kvm_vcpu_events. */
export const kvm_vcpu_events_exception = exception;
export const kvm_vcpu_events_interrupt = interrupt;
export const kvm_vcpu_events_nmi = nmi;
export const kvm_vcpu_events_smi = smi;

/** KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS. */
export const kvm_debugregs = struct("kvm_debugregs", {
	db: array("u64", 4),
	dr6: "u64",
	dr7: "u64",
	flags: "u64",
	reserved: array("u64", 9),
});

/** KVM_GET_XSAVE, KVM_SET_XSAVE. */
export const kvm_xsave = struct("kvm_xsave", { region: array("u32", 1024), extra: array("u32", 0) });

/** One extended control register, in kvm_xcrs. */
export const kvm_xcr = struct("kvm_xcr", { xcr: "u32", reserved: "u32", value: "u64" });

/** KVM_GET_XCRS, KVM_SET_XCRS. */
export const kvm_xcrs = struct("kvm_xcrs", {
	nr_xcrs: "u32",
	flags: "u32",
	xcrs: array(kvm_xcr, 16),
	padding: array("u64", 16),
});

/** KVM_SET_USER_MEMORY_REGION. */
export const kvm_userspace_memory_region = struct("kvm_userspace_memory_region", {
	slot: "u32",
	flags: "u32",
	guest_phys_addr: "u64",
	memory_size: "u64",
	userspace_addr: "u64",
});

/** KVM_GET_DIRTY_LOG; `dirty_bitmap` is a host address. */
export const kvm_dirty_log = struct("kvm_dirty_log", { slot: "u32", padding1: "u32", dirty_bitmap: "u64" });

/** KVM_IRQ_LINE. */
export const kvm_irq_level = struct("kvm_irq_level", { irq: "u32", level: "u32" });

/** The state of one 8259A. */
export const kvm_pic_state = struct("kvm_pic_state", {
	last_irr: "u8",
	irr: "u8",
	imr: "u8",
	isr: "u8",
	priority_add: "u8",
	irq_base: "u8",
	read_reg_select: "u8",
	poll: "u8",
	special_mask: "u8",
	init_state: "u8",
	auto_eoi: "u8",
	rotate_on_auto_eoi: "u8",
	special_fully_nested_mode: "u8",
	init4: "u8",
	elcr: "u8",
	elcr_mask: "u8",
});

/** KVM_GET_IRQCHIP, KVM_SET_IRQCHIP; `chip` is a union of kvm_pic_state and kvm_ioapic_state. */
export const kvm_irqchip = struct("kvm_irqchip", {
	chip_id: "u32",
	pad: "u32",
	chip: union(array("u8", 512), "u64"),
});

/** The I/O APIC in kvm_irqchip; an entry of the redirection table is a union of one u64 and its fields. */
export const kvm_ioapic_state = struct("kvm_ioapic_state", {
	base_address: "u64",
	ioregsel: "u32",
	id: "u32",
	irr: "u32",
	pad: "u32",
	redirtbl: array("u64", 24),
});

/** KVM_CREATE_PIT2. */
export const kvm_pit_config = struct("kvm_pit_config", { flags: "u32", pad: array("u32", 15) });

/** One counter of the 8254, in kvm_pit_state2. */
export const kvm_pit_channel_state = struct("kvm_pit_channel_state", {
	count: "u32",
	latched_count: "u16",
	count_latched: "u8",
	status_latched: "u8",
	status: "u8",
	read_state: "u8",
	write_state: "u8",
	write_latch: "u8",
	rw_mode: "u8",
	mode: "u8",
	bcd: "u8",
	gate: "u8",
	count_load_time: "s64",
});

/** KVM_GET_PIT2, KVM_SET_PIT2. */
export const kvm_pit_state2 = struct("kvm_pit_state2", {
	channels: array(kvm_pit_channel_state, 3),
	flags: "u32",
	reserved: array("u32", 9),
});

/** KVM_IOEVENTFD. */
export const kvm_ioeventfd = struct("kvm_ioeventfd", {
	datamatch: "u64",
	addr: "u64",
	len: "u32",
	fd: "s32",
	flags: "u32",
	pad: array("u8", 36),
});

/** KVM_IRQFD. */
export const kvm_irqfd = struct("kvm_irqfd", {
	fd: "u32",
	gsi: "u32",
	flags: "u32",
	resamplefd: "u32",
	pad: array("u8", 16),
});

/** Where a GSI leads: a pin of an interrupt controller. */
export const kvm_irq_routing_irqchip = struct("kvm_irq_routing_irqchip", { irqchip: "u32", pin: "u32" });

/** Where a GSI leads: a message. */
export const kvm_irq_routing_msi = struct("kvm_irq_routing_msi", {
	address_lo: "u32",
	address_hi: "u32",
	data: "u32",
	pad: "u32",
});

/** `u` is a kvm_irq_routing_irqchip or kvm_irq_routing_msi by `type` (KVM_IRQ_ROUTING_*). */
export const kvm_irq_routing_entry = struct("kvm_irq_routing_entry", {
	gsi: "u32",
	type: "u32",
	flags: "u32",
	pad: "u32",
	u: union(kvm_irq_routing_irqchip, kvm_irq_routing_msi, array("u64", 3), array("u32", 8)),
});

/** KVM_SET_GSI_ROUTING: the head; `nr` entries follow. */
export const kvm_irq_routing = struct("kvm_irq_routing", {
	nr: "u32",
	flags: "u32",
	entries: array(kvm_irq_routing_entry, 0),
});

/** KVM_SIGNAL_MSI. */
export const kvm_msi = struct("kvm_msi", {
	address_lo: "u32",
	address_hi: "u32",
	data: "u32",
	flags: "u32",
	devid: "u32",
	pad: array("u8", 12),
});

/** KVM_GET_CLOCK, KVM_SET_CLOCK. */
export const kvm_clock_data = struct("kvm_clock_data", {
	clock: "u64",
	flags: "u32",
	pad0: "u32",
	realtime: "u64",
	host_tsc: "u64",
	pad: array("u32", 4),
});

/** KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR. */
export const kvm_device_attr = struct("kvm_device_attr", { flags: "u32", group: "u32", attr: "u64", addr: "u64" });

/** KVM_ENABLE_CAP. */
export const kvm_enable_cap = struct("kvm_enable_cap", {
	cap: "u32",
	flags: "u32",
	args: array("u64", 4),
	pad: array("u8", 64),
});

/** KVM_TRANSLATE. */
export const kvm_translation = struct("kvm_translation", {
	linear_address: "u64",
	physical_address: "u64",
	valid: "u8",
	writeable: "u8",
	usermode: "u8",
	pad: array("u8", 5),
});

/** KVM_INTERRUPT. */
export const kvm_interrupt = struct("kvm_interrupt", { irq: "u32" });

/** Debug registers, in kvm_guest_debug. */
export const kvm_guest_debug_arch = struct("kvm_guest_debug_arch", { debugreg: array("u64", 8) });

/** KVM_SET_GUEST_DEBUG. */
export const kvm_guest_debug = struct("kvm_guest_debug", { control: "u32", pad: "u32", arch: kvm_guest_debug_arch });

/* What an exit leaves in kvm_run, one layout per member of its union. */

/** KVM_EXIT_UNKNOWN. */
export const kvm_run_hw = struct("kvm_run.hw", { hardware_exit_reason: "u64" });
/** KVM_EXIT_FAIL_ENTRY. */
export const kvm_run_fail_entry = struct("kvm_run.fail_entry", { hardware_entry_failure_reason: "u64", cpu: "u32" });
/** KVM_EXIT_IO; the data is at `data_offset` from the start of kvm_run: `count` values of `size` bytes. */
export const kvm_run_io = struct("kvm_run.io", {
	direction: "u8",
	size: "u8",
	port: "u16",
	count: "u32",
	data_offset: "u64",
});
/** KVM_EXIT_MMIO. */
export const kvm_run_mmio = struct("kvm_run.mmio", {
	phys_addr: "u64",
	data: array("u8", 8),
	len: "u32",
	is_write: "u8",
});
/** KVM_EXIT_HYPERCALL. */
export const kvm_run_hypercall = struct("kvm_run.hypercall", {
	nr: "u64",
	args: array("u64", 6),
	ret: "u64",
	longmode: "u32",
	pad: "u32",
});
/** KVM_EXIT_INTERNAL_ERROR. */
export const kvm_run_internal = struct("kvm_run.internal", { suberror: "u32", ndata: "u32", data: array("u64", 16) });
/** KVM_EXIT_INTERNAL_ERROR with suberror KVM_INTERNAL_ERROR_EMULATION. */
export const kvm_run_emulation_failure = struct("kvm_run.emulation_failure", {
	suberror: "u32",
	ndata: "u32",
	flags: "u64",
	insn_size: "u8",
	insn_bytes: array("u8", 15),
});
/** KVM_EXIT_SYSTEM_EVENT. */
export const kvm_run_system_event = struct("kvm_run.system_event", {
	type: "u32",
	ndata: "u32",
	data: array("u64", 16),
});
/** KVM_EXIT_IOAPIC_EOI. */
export const kvm_run_eoi = struct("kvm_run.eoi", { vector: "u8" });
/** KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR. */
export const kvm_run_msr = struct("kvm_run.msr", {
	error: "u8",
	pad: array("u8", 7),
	reason: "u32",
	index: "u32",
	data: "u64",
});
/** KVM_EXIT_DEBUG. */
export const kvm_debug_exit_arch = struct("kvm_debug_exit_arch", {
	exception: "u32",
	pad: "u32",
	pc: "u64",
	dr6: "u64",
	dr7: "u64",
});

const head = struct("kvm_run", {
	request_interrupt_window: "u8",
	immediate_exit: "u8",
	padding1: array("u8", 6),
	exit_reason: "u32",
	ready_for_interrupt_injection: "u8",
	if_flag: "u8",
	flags: "u16",
	cr8: "u64",
	apic_base: "u64",
	/* The union of exit data. */
	padding: array("u64", 32),
	kvm_valid_regs: "u64",
	kvm_dirty_regs: "u64",
	s: array("u64", 2048 / 8),
});

/** The page shared with KVM_RUN. Every member of its union is at the same offset. */
export const kvm_run = Object.freeze({
	...(head as Omit<typeof head, typeof MEMBERS>),
	hw: head.padding,
	fail_entry: head.padding,
	io: head.padding,
	debug: head.padding,
	mmio: head.padding,
	hypercall: head.padding,
	internal: head.padding,
	emulation_failure: head.padding,
	system_event: head.padding,
	eoi: head.padding,
	msr: head.padding,
});
