/*
 * The devices of the PC platform that a kernel expects: serial port, keyboard controller (reset), clock, ACPI power
 * registers, an empty PCI bus, pvpanic. KVM has the interrupt controllers and the timer.
 */
import type { ConsoleBackend } from "../backends/contract.ts";
import type { BusDevice } from "../base/bus.ts";
import type { Stateful } from "../base/state.ts";
import {
	ACPI_REGISTERS_PORT,
	COM1_GSI,
	COM1_PORT,
	GENERATION_EVENT,
	HOT_PLUG_GSI,
	HOT_PLUG_PORT,
	I8042_PORT,
	PVPANIC_PORT,
	RTC_PORT,
} from "../boot/addresses.ts";
import { AcpiRegisters } from "../devices/acpi-registers.ts";
import { GenerationId } from "../devices/generation-id.ts";
import { HotPlug } from "../devices/hot-plug.ts";
import { I8042 } from "../devices/i8042.ts";
import { PciConfigStub } from "../devices/pci-config-stub.ts";
import { Pvpanic } from "../devices/pvpanic.ts";
import { Rtc } from "../devices/rtc.ts";
import { Serial } from "../devices/serial.ts";
import type { Wiring } from "./builder.ts";
import { PanicWatch } from "./panic-watch.ts";

const COM1_LSR = COM1_PORT + 5;

/** The devices of the platform that the machine uses later. */
export interface Platform {
	/** It is flushed before the machine ends. */
	readonly serial: Serial;
	readonly hotPlug: HotPlug;
	/** Not among those with state: a guest that was booted by an earlier version has none. */
	readonly generation: GenerationId;
	/** All that has state, by name. */
	readonly stateful: ReadonlyMap<string, Stateful>;
}

/**
 * Puts the platform's devices on the port bus.
 *
 * @param console what the serial port is connected to
 */
export function attachPlatform(
	{ vm, memory, runLoop, threads, pio, entry, observers, observed }: Wiring,
	console: ConsoleBackend,
): Platform {
	const panic = new PanicWatch((why) => entry.onPanic?.(why));
	const lsr = runLoop.allocateWord();
	const serial = new Serial({
		line: {
			raise: () => {
				observers.observer?.interrupt?.("serial", undefined);
				vm.irqLine(COM1_GSI, true);
			},
			lower: () => vm.irqLine(COM1_GSI, false),
		},
		lsrWord: runLoop.shadow.subarray(lsr, lsr + 1),
		onOutput: (bytes) => {
			panic.write(bytes);
			observers.observer?.console?.("serial", bytes);
			if (!console.write(bytes)) threads.setConsoleFull(true);
		},
		onDrain: () => console.setInputWanted?.(true),
		enter: entry.enter,
	});
	console.start?.({
		input: (bytes) => {
			if (!serial.input(bytes)) console.setInputWanted?.(false);
		},
		writable: () => threads.setConsoleFull(false),
		resized: () => undefined,
	});
	/* A kernel that panicked resets the machine. Its earlier output tells a panic from a reset. */
	const stop = (reason: "power-off" | "reset") => {
		serial.flush();
		entry.end(panic.detail === undefined ? { reason } : { reason: "panic", detail: panic.detail });
	};
	const reset = () => stop("reset");
	const stateful = new Map<string, Stateful>([["panic-watch", panic]]);
	const place = (port: number, sizeBytes: number, device: BusDevice & Stateful) => {
		pio.add(port, sizeBytes, device);
		stateful.set(device.name, device);
	};
	place(COM1_PORT, 8, serial);
	runLoop.registerPosted(true, COM1_PORT, 1);
	if (!observed) runLoop.registerShadowRead(true, COM1_LSR, 1, lsr);
	place(I8042_PORT, 5, new I8042(reset));
	place(RTC_PORT, 2, new Rtc());
	place(
		ACPI_REGISTERS_PORT,
		AcpiRegisters.SIZE,
		new AcpiRegisters({ onPowerOff: () => stop("power-off"), onReset: reset }),
	);
	place(PciConfigStub.PORT, PciConfigStub.SIZE, new PciConfigStub(reset));
	place(
		PVPANIC_PORT,
		1,
		new Pvpanic(() => {
			serial.flush();
			if (panic.detail === undefined) entry.onPanic?.(undefined);
			entry.end({ reason: "panic", ...(panic.detail === undefined ? {} : { detail: panic.detail }) });
		}),
	);
	const pulse = () => {
		observers.observer?.interrupt?.("hot-plug", undefined);
		vm.irqLine(HOT_PLUG_GSI, true);
		vm.irqLine(HOT_PLUG_GSI, false);
	};
	const present = runLoop.allocateWord();
	const hotPlug = new HotPlug(pulse, runLoop.shadow.subarray(present, present + 1));
	if (!observed) runLoop.registerShadowRead(true, HOT_PLUG_PORT, 4, present);
	place(HOT_PLUG_PORT, HotPlug.SIZE, hotPlug);
	const generation = new GenerationId(memory, () => hotPlug.announce(GENERATION_EVENT));
	return { serial, hotPlug, generation, stateful };
}
