/*
 * The differentiated system description table: the devices that no bus lists, in AML. Linux knows virtio-mmio by the ID
 * LNRO0005, a processor by ACPI0007, the pvpanic device by QEMU0001, and the generation ID by VM_GEN_COUNTER.
 */
import { COM1_GSI, COM1_PORT, GENERATION_ID_ADDRESS, PVPANIC_PORT, RTC_PORT } from "../addresses.ts";
import type { MmioDevice } from "../cmdline.ts";
import {
	bytesOf,
	device,
	eisaId,
	integer,
	interrupt,
	ioPorts,
	name,
	pkg,
	resourceTemplate,
	scope,
	string,
	type Term,
} from "./aml.ts";
import { hotPlugSlots } from "./hot-plug.ts";
import { table } from "./table.ts";

/** SLP_TYP of the soft-off state. \_S5 gives it to the guest, which writes it to the sleep control register. */
export const S5_SLEEP_TYPE = 5;

/** The DSDT of a machine with these processors and slots of virtio-mmio devices. */
export function dsdt(cpus: number, slots: readonly MmioDevice[]): Buffer {
	const soft_off = name("\\_S5", pkg(integer(S5_SLEEP_TYPE), integer(0), integer(0), integer(0)));
	const processors = Array.from({ length: cpus }, (_, cpu) =>
		device(`C${hex3(cpu)}`, name("_HID", string("ACPI0007")), name("_UID", integer(cpu))),
	);
	const system = scope("\\_SB", com1(), clock(), pvpanic(), generationId(), ...hotPlugSlots(slots), ...processors);
	return table("DSDT", 2, bytesOf(soft_off, system));
}

function com1(): Term {
	return device(
		"COM1",
		name("_HID", eisaId("PNP0501")),
		name("_UID", integer(0)),
		name("_CRS", resourceTemplate(ioPorts(COM1_PORT, 8), interrupt(COM1_GSI))),
	);
}

/* Without an interrupt: Linux then uses the clock without its alarm. */
function clock(): Term {
	return device("RTC", name("_HID", eisaId("PNP0B00")), name("_CRS", resourceTemplate(ioPorts(RTC_PORT, 2))));
}

function pvpanic(): Term {
	return device(
		"PEVT",
		name("_HID", string("QEMU0001")),
		name("_STA", integer(0xf)),
		name("_CRS", resourceTemplate(ioPorts(PVPANIC_PORT, 1))),
	);
}

/* The address in two halves of 32 bits. The event device notifies this device (hot-plug.ts). */
function generationId(): Term {
	return device(
		"VGEN",
		name("_HID", string("TSVM0001")),
		name("_CID", string("VM_Gen_Counter")),
		name("_DDN", string("VM_Gen_Counter")),
		name("ADDR", pkg(integer(GENERATION_ID_ADDRESS), integer(0))),
	);
}

function hex3(value: number): string {
	return value.toString(16).toUpperCase().padStart(3, "0");
}
