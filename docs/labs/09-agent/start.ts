/*
 * Lab 9: vsock and an agent. The host's side of a program in the guest, which runs commands. Check it with
 *
 *     tsvmm learn check 9
 */
import type { Duplex } from "node:stream";
import type { VsockBackend, VsockGuest } from "tsvmm/virtio";

interface Result {
	readonly status: number;
	readonly output: string;
}

export class AgentHost implements VsockBackend {
	start(_guest: VsockGuest): void {
		/* We never connect to the guest: it connects to us. */
	}

	/** The guest connects to `port`. Undefined refuses. */
	async open(port: number): Promise<Duplex | undefined> {
		/* 1. A new Duplex({ read, write, destroy }) for port 1024. 2. Frames. 4. What if it breaks off? */
		console.log(`Yours to write: the guest connects to port ${port}`);
		return undefined;
	}

	/** Runs a command in the guest. Waits for the agent if it is not there yet. */
	async run(command: string): Promise<Result> {
		/* 3. Send a request, and wait for its exit. */
		throw new Error(`Yours to write: run ${command}`);
	}

	async close(): Promise<void> {
		/* The machine ends: so does the stream. */
	}
}
