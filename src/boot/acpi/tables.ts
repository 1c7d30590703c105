/*
 * The ACPI tables of the machine (ACPI 6.5 §5.2), laid out from ACPI_ADDRESS up:
 *
 *     RSDP -> XSDT -> FADT -> DSDT
 *                  -> MADT
 *
 * The machine is of the hardware-reduced kind (§4.1): no SCI, no PM timer, no fixed events. Stock kernels then power
 * off by the sleep control register and reset by the reset register (devices/acpi-registers.ts), and neither need nor
 * test the 8259 and 8254. A kernel booted with acpi=off still finds those, and the MP table (mptable.ts).
 */
import type { GuestMemory } from "../../base/guest-memory.ts";
import { ACPI_ADDRESS, ACPI_END, ACPI_REGISTERS_PORT, IOAPIC_ADDRESS, LAPIC_ADDRESS } from "../addresses.ts";
import type { MmioDevice } from "../cmdline.ts";
import { dsdt } from "./dsdt.ts";
import { HEADER_BYTES, portAddress, rootPointer, table } from "./table.ts";

/** Written to the reset register to reset the machine. */
export const ACPI_RESET_VALUE = 1;

/* FADT fields by their offset in the table (§5.2.9). */
const FADT = Object.freeze({
	dsdt: 40,
	iapc_boot_arch: 109,
	century: 108,
	flags: 112,
	reset_reg: 116,
	reset_value: 128,
	minor_version: 131,
	x_dsdt: 140,
	sleep_control_reg: 244,
	sleep_status_reg: 256,
	hypervisor_vendor: 268,
	sizeof: 276,
});
const FADT_REVISION = 6;
const CMOS_CENTURY = 0x32;
const WBINVD = 1 << 0;
const PWR_BUTTON = 1 << 4;
const SLP_BUTTON = 1 << 5;
const RESET_REG_SUP = 1 << 10;
const HW_REDUCED_ACPI = 1 << 20;
/* No 8042 although one answers at its ports: it can only reset, and a probe of it takes time. */
const VGA_NOT_PRESENT = 1 << 2;
const PCIE_ASPM_CONTROLS = 1 << 4;

/**
 * Writes all tables to guest memory.
 *
 * @param slots where virtio-mmio devices (LNRO0005) can be, now or later; at most 31
 * @returns the address of the RSDP
 */
export function writeAcpiTables(memory: GuestMemory, cpus: number, slots: readonly MmioDevice[]): number {
	const rsdp = ACPI_ADDRESS;
	let next = rsdp + 64;
	const place = (bytes: Buffer): number => {
		const at = next;
		next = Math.ceil((at + bytes.length) / 16) * 16;
		if (next > ACPI_END) throw new RangeError(`the ACPI tables have ${next - rsdp} bytes`);
		memory.write(at, bytes);
		return at;
	};
	const dsdtAt = place(dsdt(cpus, slots));
	const tables = [place(fadt(dsdtAt)), place(madt(cpus))];
	const entries = Buffer.alloc(8 * tables.length);
	for (const [i, at] of tables.entries()) entries.writeBigUInt64LE(BigInt(at), 8 * i);
	memory.write(rsdp, rootPointer(place(table("XSDT", 1, entries))));
	return rsdp;
}

/** Fixed ACPI description table (§5.2.9). */
function fadt(dsdtAt: number): Buffer {
	const bytes = Buffer.alloc(FADT.sizeof);
	bytes.writeUInt32LE(dsdtAt, FADT.dsdt);
	bytes[FADT.century] = CMOS_CENTURY;
	bytes.writeUInt16LE(VGA_NOT_PRESENT | PCIE_ASPM_CONTROLS, FADT.iapc_boot_arch);
	bytes.writeUInt32LE(WBINVD | PWR_BUTTON | SLP_BUTTON | RESET_REG_SUP | HW_REDUCED_ACPI, FADT.flags);
	portAddress(bytes, FADT.sleep_control_reg, ACPI_REGISTERS_PORT);
	portAddress(bytes, FADT.sleep_status_reg, ACPI_REGISTERS_PORT + 1);
	portAddress(bytes, FADT.reset_reg, ACPI_REGISTERS_PORT + 2);
	bytes[FADT.reset_value] = ACPI_RESET_VALUE;
	bytes[FADT.minor_version] = 5;
	bytes.writeBigUInt64LE(BigInt(dsdtAt), FADT.x_dsdt);
	bytes.write("TSVMM", FADT.hypervisor_vendor, "latin1");
	return table("FACP", FADT_REVISION, bytes.subarray(HEADER_BYTES));
}

/*
 * Multiple APIC description table (§5.2.12). It has no interrupt source overrides: KVM routes every ISA interrupt to
 * the I/O APIC pin of the same number, also the timer's.
 */
function madt(cpus: number): Buffer {
	const LOCAL_APIC = 0;
	const IO_APIC = 1;
	const LOCAL_APIC_NMI = 4;
	const ENABLED = 1;
	const ALL_PROCESSORS = 0xff;
	const head = Buffer.alloc(8);
	head.writeUInt32LE(LAPIC_ADDRESS, 0);
	const structures = [head];
	for (let cpu = 0; cpu < cpus; cpu++) structures.push(Buffer.from([LOCAL_APIC, 8, cpu, cpu, ENABLED, 0, 0, 0]));
	const ioapic = Buffer.from([IO_APIC, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
	ioapic.writeUInt32LE(IOAPIC_ADDRESS, 4);
	structures.push(ioapic, Buffer.from([LOCAL_APIC_NMI, 6, ALL_PROCESSORS, 0, 0, 1]));
	return table("APIC", 5, Buffer.concat(structures));
}
