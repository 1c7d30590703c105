/*
 * Slots of virtio-mmio devices in AML. Each may be empty when the kernel starts:
 *
 *     OperationRegion (HPRG, SystemIO, ...)  Field { PRES, 32, CHNG, 32 }       devices/hot-plug.ts
 *     Device (S003)  ACPI0004, a container                                      Notify (S003, 0): bus check
 *       Device (V003)  LNRO0005, _STA by bit 3 of PRES
 *     Device (GED)   ACPI0013: its interrupt runs _EVT, which notifies the containers of CHNG's bits, and VGEN (dsdt.ts)
 *
 * Each slot has its own container. Linux takes a notification only for devices with a scan handler
 * (drivers/acpi/scan.c, acpi_scan_init_hotplug), and LNRO0005 has none. A bus check of the container scans its child
 * and attaches or detaches the ACPI device. The platform device of an LNRO0005 stays once it is made, so the guest must
 * unbind its driver.
 */
import { GENERATION_EVENT, HOT_PLUG_GSI, HOT_PLUG_PORT } from "../addresses.ts";
import type { MmioDevice } from "../cmdline.ts";
import {
	and,
	device,
	field,
	ifTrue,
	integer,
	interrupt,
	LOCAL0,
	memory32Fixed,
	method,
	name,
	notify,
	operationRegion,
	path,
	resourceTemplate,
	returns,
	store,
	string,
	type Term,
} from "./aml.ts";

const BUS_CHECK = 0;
/** The generation ID is another one. */
const GENERATION_CHANGED = 0x80;
/** Present, enabled, shown, working. */
const STA_PRESENT = 0xf;

/** All slots and the event device, for the scope \_SB. */
export function hotPlugSlots(slots: readonly MmioDevice[]): Term[] {
	const registers = [
		operationRegion("HPRG", HOT_PLUG_PORT, 8),
		field("HPRG", [
			["PRES", 32],
			["CHNG", 32],
		]),
	];
	return [...registers, ...slots.map(slotOf), eventDevice(slots.length)];
}

function slotOf({ address, sizeBytes, gsi }: MmioDevice, index: number): Term {
	const virtio = device(
		`V${hex3(index)}`,
		name("_HID", string("LNRO0005")),
		name("_UID", integer(index)),
		name("_CCA", integer(1)),
		name("_CRS", resourceTemplate(memory32Fixed(address, sizeBytes), interrupt(gsi))),
		method(
			"_STA",
			0,
			ifTrue(and(path("PRES"), integer(1 << index)), returns(integer(STA_PRESENT))),
			returns(integer(0)),
		),
	);
	return device(`S${hex3(index)}`, name("_HID", string("ACPI0004")), name("_UID", integer(index)), virtio);
}

/** CHNG is cleared before the notification, so that a later change raises another interrupt. */
function eventDevice(slots: number): Term {
	const told = Array.from({ length: slots }, (_, index) =>
		ifTrue(and(LOCAL0, integer(1 << index)), notify(`S${hex3(index)}`, BUS_CHECK)),
	);
	const generation = ifTrue(and(LOCAL0, integer(2 ** GENERATION_EVENT)), notify("VGEN", GENERATION_CHANGED));
	return device(
		"GED",
		name("_HID", string("ACPI0013")),
		name("_CRS", resourceTemplate(interrupt(HOT_PLUG_GSI))),
		method("_EVT", 1, store(path("CHNG"), LOCAL0), store(LOCAL0, path("CHNG")), ...told, generation),
	);
}

function hex3(value: number): string {
	return value.toString(16).toUpperCase().padStart(3, "0");
}
