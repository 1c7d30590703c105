/* A console that keeps what a guest prints, and the host's side of a machine with one device of each kind that has state. */
import type { ConsoleBackend } from "../../src/backends/contract.ts";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import type { RestoreConfig } from "../../src/machine/config.ts";

export class Transcript implements ConsoleBackend {
	text = "";
	write(bytes: Uint8Array): boolean {
		this.text += Buffer.from(bytes).toString("latin1");
		return true;
	}
	async close(): Promise<void> {
		/* nothing was opened */
	}
}

/** The devices of a golden snapshot: they never change. */
export const goldenHost = (console: ConsoleBackend): RestoreConfig => ({
	console: { kind: "own", console },
	rng: true,
	virtioConsole: true,
	vsock: {},
	disks: [{ backend: new MemoryDisk(4096) }],
});
