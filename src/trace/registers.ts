/*
 * The names of registers, by the device's name on its bus and the address. They are those of the data sheets and of
 * virtio 1.2 §4.2.2.
 */
import {
	ACPI_REGISTERS_PORT,
	COM1_PORT,
	HOT_PLUG_PORT,
	I8042_PORT,
	PVPANIC_PORT,
	RTC_PORT,
} from "../boot/addresses.ts";
import {
	ACKNOWLEDGE,
	DEVICE_NEEDS_RESET,
	DRIVER,
	DRIVER_OK,
	FAILED,
	FEATURES_OK,
	VIRTIO_MMIO,
} from "../virtio/spec.ts";

/** Bytes of address space per virtio-mmio device: a power of two. */
const SLOT_BYTES = 0x1000;

/** PC16550D data sheet, with DLAB clear: what a read has at an address, what a write has. */
const UART: readonly (readonly [read: string, write: string])[] = [
	["RBR", "THR"],
	["IER", "IER"],
	["IIR", "FCR"],
	["LCR", "LCR"],
	["MCR", "MCR"],
	["LSR", "LSR"],
	["MSR", "MSR"],
	["SCR", "SCR"],
];

const PORTS: ReadonlyMap<number, string> = new Map([
	[I8042_PORT, "data"],
	[I8042_PORT + 4, "status/command"],
	[RTC_PORT, "index"],
	[RTC_PORT + 1, "data"],
	[PVPANIC_PORT, "event"],
	[ACPI_REGISTERS_PORT, "SLEEP_CONTROL"],
	[ACPI_REGISTERS_PORT + 1, "SLEEP_STATUS"],
	[ACPI_REGISTERS_PORT + 2, "RESET"],
	[HOT_PLUG_PORT, "PRES"],
	[HOT_PLUG_PORT + 4, "CHNG"],
	[0xcf8, "CONFIG_ADDRESS"],
	[0xcfc, "CONFIG_DATA"],
]);

const VIRTIO = new Map<number, string>(Object.entries(VIRTIO_MMIO).map(([name, offset]) => [offset, name]));

/** The register at an address; undefined when nothing names it. */
export function registerAt(device: string, address: number, write: boolean): string | undefined {
	if (device.startsWith("virtio-") || address >= 0x10000) return virtioRegister(address % SLOT_BYTES);
	if (device === "serial") return UART[address - COM1_PORT]?.[write ? 1 : 0];
	return device === "nothing" ? undefined : PORTS.get(address);
}

function virtioRegister(offset: number): string | undefined {
	if (offset >= VIRTIO_MMIO.Config) return `Config+${offset - VIRTIO_MMIO.Config}`;
	return VIRTIO.get(offset);
}

/** The names of the bits in `value`, lowest first; a bit without a name by its number. */
export function bitsOf(value: number, names: ReadonlyMap<number, string>): string[] {
	const bits: string[] = [];
	for (let bit = 0; bit < 32; bit++) {
		const mask = (1 << bit) >>> 0;
		if ((value & mask) !== 0) bits.push(names.get(mask) ?? `bit ${bit}`);
	}
	return bits;
}

const STATUS = new Map([
	[ACKNOWLEDGE, "ACKNOWLEDGE"],
	[DRIVER, "DRIVER"],
	[DRIVER_OK, "DRIVER_OK"],
	[FEATURES_OK, "FEATURES_OK"],
	[DEVICE_NEEDS_RESET, "DEVICE_NEEDS_RESET"],
	[FAILED, "FAILED"],
]);

/** The names of the bits of a device's Status. */
export function statusBits(status: number): string[] {
	return bitsOf(status, STATUS);
}
