/*
 * A machine with an inspector, and a guest that uses a disk without an end. Its disk answers late, so that there are
 * always requests in flight.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConsoleTap } from "../../src/inspector/console-tap.ts";
import { Inspector } from "../../src/inspector/inspector.ts";
import { Machine } from "../../src/machine/machine.ts";
import { LateDisk } from "../inspector/late-disk.ts";
import { bareKernel } from "./bare-kernel.ts";
import { Transcript } from "./transcript.ts";

/** Where guests/bare/verify.c has its parameters: interrupts, EVENT_IDX, requests in flight, requests in all, the end. */
const PARAMETERS = 0x2f0000;
const REQUESTS = 256;
const BYTES = 4096;
const IN_FLIGHT = 8;
const LATENCY_MS = 10;

export class InspectedMachine {
	readonly machine: Machine;
	readonly inspector: Inspector;
	readonly console: Transcript;
	readonly #directory: string;

	/** @param kernel another guest, which needs no disk */
	static async create(kernel?: string): Promise<InspectedMachine> {
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-inspector-"));
		const console = new Transcript();
		const tap = new ConsoleTap(console);
		const machine = await Machine.create({
			kernel: kernel ?? bareKernel("verify", directory),
			memoryMiB: 64,
			console: { kind: "own", console: tap },
			disks: [{ backend: new LateDisk(REQUESTS * BYTES, LATENCY_MS) }],
			rng: true,
			balloon: {},
		});
		const { memory } = machine;
		for (const [i, value] of [1, 1, IN_FLIGHT, REQUESTS, 0].entries()) memory.setU32(PARAMETERS + 4 * i, value);
		return new InspectedMachine(machine, await Inspector.open(machine, tap, 0), console, directory);
	}

	private constructor(machine: Machine, inspector: Inspector, console: Transcript, directory: string) {
		this.machine = machine;
		this.inspector = inspector;
		this.console = console;
		this.#directory = directory;
	}

	/** Lets the guest end by itself. */
	finish(): void {
		this.machine.memory.setU32(PARAMETERS + 16, 1);
	}

	async close(): Promise<void> {
		await this.inspector.close(await this.machine.stop());
		rmSync(this.#directory, { recursive: true });
	}
}
