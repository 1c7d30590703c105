/*
 * The MultiProcessor table (Intel MP specification 1.4, §4) for kernels that run without ACPI: which CPUs there are,
 * and that ISA interrupt n is I/O APIC pin n. Kernels find it by its "_MP_" signature from 0xf0000 up.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { checksum } from "./acpi/table.ts";
import { HIGH_MEMORY_START, IOAPIC_ADDRESS, LAPIC_ADDRESS, MP_TABLE_ADDRESS } from "./addresses.ts";

const FLOATING_POINTER_BYTES = 16;
const HEADER_BYTES = 44;
const SPEC_REVISION = 4;
const PROCESSOR = 0;
const BUS = 1;
const IO_APIC = 2;
const IO_INTERRUPT = 3;
const LOCAL_INTERRUPT = 4;
const APIC_VERSION = 0x14;
const IO_APIC_VERSION = 0x11;
const IO_APIC_PINS = 24;
const CPU_ENABLED = 1;
const CPU_BOOT = 2;
const ENABLED = 1;
const INT = 0;
const NMI = 1;
const EXT_INT = 3;
const ALL_APICS = 0xff;
/* Family 6, features FPU and APIC. Linux soon replaces them with those of CPUID. */
const CPU_SIGNATURE = 0x600;
const CPU_FEATURES = 0x201;

/** Writes the floating pointer and the table. */
export function writeMpTable(memory: GuestMemory, cpus: number): void {
	const entries: Buffer[] = [];
	for (let cpu = 0; cpu < cpus; cpu++) {
		const entry = Buffer.alloc(20);
		entry.set([PROCESSOR, cpu, APIC_VERSION, CPU_ENABLED | (cpu === 0 ? CPU_BOOT : 0)]);
		entry.writeUInt32LE(CPU_SIGNATURE, 4);
		entry.writeUInt32LE(CPU_FEATURES, 8);
		entries.push(entry);
	}
	entries.push(Buffer.from([BUS, 0, ...Buffer.from("ISA   ", "latin1")]));
	const ioapicId = cpus;
	const ioapic = Buffer.from([IO_APIC, ioapicId, IO_APIC_VERSION, ENABLED, 0, 0, 0, 0]);
	ioapic.writeUInt32LE(IOAPIC_ADDRESS, 4);
	entries.push(ioapic);
	for (let pin = 0; pin < IO_APIC_PINS; pin++) {
		entries.push(Buffer.from([IO_INTERRUPT, INT, 0, 0, 0, pin, ioapicId, pin]));
	}
	entries.push(Buffer.from([LOCAL_INTERRUPT, EXT_INT, 0, 0, 0, 0, 0, 0]));
	entries.push(Buffer.from([LOCAL_INTERRUPT, NMI, 0, 0, 0, 0, ALL_APICS, 1]));

	const header = Buffer.alloc(HEADER_BYTES);
	header.write("PCMP", 0, "latin1");
	const body = Buffer.concat(entries);
	header.writeUInt16LE(HEADER_BYTES + body.length, 4);
	header[6] = SPEC_REVISION;
	header.write("TSVMM   ", 8, "latin1");
	header.write("TSVMM       ", 16, "latin1");
	header.writeUInt16LE(entries.length, 34);
	header.writeUInt32LE(LAPIC_ADDRESS, 36);
	const bytes = Buffer.concat([header, body]);
	bytes[7] = checksum(bytes);

	const pointer = Buffer.alloc(FLOATING_POINTER_BYTES);
	pointer.write("_MP_", 0, "latin1");
	pointer.writeUInt32LE(MP_TABLE_ADDRESS + FLOATING_POINTER_BYTES, 4);
	pointer[8] = 1;
	pointer[9] = SPEC_REVISION;
	pointer[10] = checksum(pointer);
	const whole = Buffer.concat([pointer, bytes]);
	if (MP_TABLE_ADDRESS + whole.length > HIGH_MEMORY_START) throw new RangeError("the MP table does not fit");
	memory.write(MP_TABLE_ADDRESS, whole);
}
