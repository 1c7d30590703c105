/*
 * Lab 9, solved: the host's side of an agent in a guest. The agent connects to vsock port 1024, says hello, and runs
 * commands. A frame is the length of its JSON (u32, little-endian) and the JSON.
 */
import { Duplex } from "node:stream";
import type { VsockBackend, VsockGuest } from "tsvmm/virtio";

const AGENT_PORT = 1024;
const VERSION = 1;
const LENGTH_BYTES = 4;
const MOST_BYTES = 65_536;

interface Result {
	readonly status: number;
	readonly output: string;
}

/** A command that has no status yet. */
interface Running {
	output: string;
	resolve(result: Result): void;
	reject(reason: Error): void;
}

interface Message {
	readonly type: string;
	readonly id: number;
	readonly version: number;
	readonly text: string;
	readonly status: number;
}

export class AgentHost implements VsockBackend {
	readonly #running = new Map<number, Running>();
	/* Requests that came before the agent. */
	readonly #waiting: Buffer[] = [];
	#stream: Duplex | undefined;
	#isReady = false;
	#received = Buffer.alloc(0);
	#count = 0;

	start(_guest: VsockGuest): void {
		/* We never connect to the guest: it connects to us. */
	}

	async open(port: number): Promise<Duplex | undefined> {
		if (port !== AGENT_PORT) return undefined;
		const stream = new Duplex({
			read() {
				/* Frames are pushed when there are some. */
			},
			write: (bytes: Buffer, _encoding, done) => {
				done(this.#receive(bytes));
			},
			destroy: (error, done) => {
				this.#failed(error ?? new Error("the agent is gone"));
				done(null);
			},
		});
		this.#stream = stream;
		return stream;
	}

	/** Runs a command in the guest. Waits for the agent if it is not there yet. */
	run(command: string): Promise<Result> {
		const id = this.#count++;
		const frame = frameOf({ type: "run", id, command });
		if (this.#isReady) this.#stream?.push(frame);
		else this.#waiting.push(frame);
		return new Promise((resolve, reject) => {
			this.#running.set(id, { output: "", resolve, reject });
		});
	}

	async close(): Promise<void> {
		this.#stream?.destroy();
	}

	/** @returns what is wrong with the bytes: the stream ends by it */
	#receive(bytes: Buffer): Error | null {
		this.#received = Buffer.concat([this.#received, bytes]);
		while (this.#received.length >= LENGTH_BYTES) {
			const length = this.#received.readUInt32LE(0);
			if (length > MOST_BYTES) return new Error(`a frame of ${length} bytes`);
			if (this.#received.length < LENGTH_BYTES + length) break;
			const text = this.#received.toString("utf8", LENGTH_BYTES, LENGTH_BYTES + length);
			this.#received = this.#received.subarray(LENGTH_BYTES + length);
			try {
				this.#handle(JSON.parse(text) as Message);
			} catch (error) {
				return error as Error;
			}
		}
		return null;
	}

	#handle(message: Message): void {
		if (message.type === "hello") {
			if (message.version !== VERSION) throw new Error(`an agent of version ${message.version}`);
			this.#isReady = true;
			for (const frame of this.#waiting.splice(0)) this.#stream?.push(frame);
			return;
		}
		const running = this.#running.get(message.id);
		if (running === undefined) return;
		if (message.type === "output") running.output += message.text;
		if (message.type !== "exit") return;
		this.#running.delete(message.id);
		running.resolve({ status: message.status, output: running.output });
	}

	#failed(reason: Error): void {
		this.#isReady = false;
		for (const running of this.#running.values()) running.reject(reason);
		this.#running.clear();
	}
}

function frameOf(message: object): Buffer {
	const json = Buffer.from(JSON.stringify(message));
	const length = Buffer.alloc(LENGTH_BYTES);
	length.writeUInt32LE(json.length);
	return Buffer.concat([length, json]);
}
