/*
 * The inspector of one machine: what its page shows and does (docs/inspector.md). It looks at the machine from outside,
 * by an observer and by views, and is loaded only when it is asked for.
 *
 *     Machine -- Observer --> Activity --+
 *             -- console --> ConsoleTap -+-- Frames --> the page
 *             -- inspect() --------------+               | pause, step, resume, input
 *             <-- MachineDebugger -----------------------+
 */
import type { ServerResponse } from "node:http";
import { MachineDebugger, type Stop } from "../debug/debugger.ts";
import type { Machine } from "../machine/machine.ts";
import { describeShutdown, type ShutdownReason } from "../machine/shutdown-reason.ts";
import type { TraceEvent } from "../trace/event.ts";
import { eventObserver } from "../trace/recorder.ts";
import { Activity, type Counts } from "./activity.ts";
import { BoundedLog } from "./bounded-log.ts";
import type { ConsoleTap } from "./console-tap.ts";
import { Frames, type Positions } from "./frames.ts";
import { InspectorServer, RequestError, type Routes } from "./server.ts";
import { VcpuViews } from "./vcpu-view.ts";

/** Counts at one moment, for the chart of a page that is opened later. */
interface Sample extends Counts {
	readonly ms: number;
	/** Bytes that the guest has printed. */
	readonly printed: number;
}

const SAMPLE_MS = 500;
/** Two minutes of them. */
const MOST_SAMPLES = 240;
/** A guest may print as many lines of drivers as it likes. */
const MOST_EVENTS = 256;
/** A page shows no more of memory at once. */
const MOST_MEMORY_BYTES = 4096;

export class Inspector {
	readonly #machine: Machine;
	readonly #console: ConsoleTap;
	readonly #activity = new Activity();
	readonly #samples = new BoundedLog<Sample>(MOST_SAMPLES);
	readonly #sampler: NodeJS.Timeout;
	readonly #frames: Frames;
	/** Phases of the boot, and what drivers did wrong. */
	readonly #timeline = new BoundedLog<TraceEvent>(MOST_EVENTS);
	readonly #stopObserving: readonly (() => void)[];
	readonly #debugger: MachineDebugger;
	readonly #vcpus: VcpuViews;
	/** How often the machine has stopped, and why it did last. */
	#stops = 0;
	#stop: Stop | undefined;
	#server: InspectorServer | undefined;

	/**
	 * Opens the inspector of a machine that has not been started.
	 *
	 * @param port of the loopback; 0 for a free one
	 * @throws HostError ERR_INSPECT_PORT
	 */
	static async open(machine: Machine, console: ConsoleTap, port: number): Promise<Inspector> {
		const inspector = new Inspector(machine, console);
		try {
			inspector.#server = await InspectorServer.open(port, inspector.#routes());
		} catch (error) {
			await inspector.close();
			throw error;
		}
		return inspector;
	}

	private constructor(machine: Machine, console: ConsoleTap) {
		this.#machine = machine;
		this.#console = console;
		this.#frames = new Frames(
			(positions) => this.#frame(positions),
			() => this.#activity.beginPeriod(),
		);
		const boot = eventObserver({ event: (event) => this.#timeline.add(event) }, ["boot"]);
		this.#stopObserving = [machine.observe(this.#activity), machine.observe(boot)];
		this.#sampler = setInterval(() => this.#samples.add(this.#sample()), SAMPLE_MS).unref();
		this.#debugger = MachineDebugger.of(machine);
		this.#vcpus = new VcpuViews(this.#debugger, machine.inspect());
		this.#debugger.onStop((stop) => {
			this.#stops++;
			this.#stop = stop;
			this.#frames.sendNow();
		});
	}

	/** The page's address, with the token. */
	get url(): string {
		return this.#server?.url ?? "";
	}

	/** Tells the pages how the machine has ended, and closes the server. */
	async close(end?: ShutdownReason): Promise<void> {
		clearInterval(this.#sampler);
		for (const stop of this.#stopObserving) stop();
		const console = this.#console.since(0).toString("base64");
		this.#frames.end({ ended: end === undefined ? "closed" : describeShutdown(end), console });
		await this.#server?.close();
	}

	#routes(): Routes {
		return {
			get: {
				memory: (query) => this.#memory(query),
				vcpu: (query) => this.#vcpu(numberOf(query, "vcpu")),
				virtual: (query) => this.#virtual(query),
			},
			post: {
				pause: () => this.#debugger.stop(),
				resume: () => this.#resume(),
				step: (body) => this.#debugger.step(Number((body as { vcpu?: unknown } | null)?.vcpu ?? 0)),
				input: (body) => this.#type(body),
			},
			stream: (response, query) => this.#stream(response, query),
		};
	}

	#stream(response: ServerResponse, query: URLSearchParams): void {
		const positions = {
			log: numberOf(query, "log"),
			console: numberOf(query, "console"),
			events: numberOf(query, "events"),
		};
		const { cpus, memoryMiB, kernel, cmdline, ram } = this.#machine.inspect();
		const samples = this.#samples.since(0).entries;
		this.#frames.add(response, positions, { machine: { cpus, memoryMiB, kernel, cmdline, ram }, samples });
	}

	#frame(positions: Positions): unknown {
		if (this.#machine.state === "ended") return {};
		const { virtio, platform } = this.#machine.inspect();
		const { counts, queues, accesses, left, log } = this.#activity;
		const { entries } = log.since(positions.log);
		const printed = this.#console.since(positions.console);
		const { entries: events } = this.#timeline.since(positions.events);
		positions.events = this.#timeline.end;
		positions.log = log.end;
		positions.console = this.#console.end;
		return {
			ms: this.#activity.ms,
			state: this.#machine.state,
			stops: this.#stops,
			stop: this.#stop,
			counts: { ...counts, printed: this.#console.end },
			queues: Object.fromEntries(queues),
			accesses: Object.fromEntries(accesses),
			virtio,
			platform,
			events,
			log: entries,
			left,
			console: printed.toString("base64"),
			positions,
		};
	}

	#sample(): Sample {
		return { ms: this.#activity.ms, ...this.#activity.counts, printed: this.#console.end };
	}

	/** Guest-physical memory: what of it is RAM. */
	#memory(query: URLSearchParams): { address: number; bytes: Uint8Array } {
		const address = numberOf(query, "address");
		const length = Math.min(numberOf(query, "length"), MOST_MEMORY_BYTES);
		const { memory } = this.#machine;
		const window = memory.find(address, 1);
		if (this.#machine.state === "ended" || window === undefined) {
			throw new RequestError(404, `Cannot read guest memory at 0x${address.toString(16)}: it is not RAM`);
		}
		return { address, bytes: memory.bytes(address, Math.min(length, window.end - address)).slice() };
	}

	#resume(): void {
		if (this.#machine.state === "paused") this.#debugger.resume();
	}

	/** Nothing while the machine runs: it may have been resumed since the page asked. */
	async #vcpu(index: number): Promise<unknown> {
		return (await this.#vcpus.view(index)) ?? {};
	}

	/** Memory by a vCPU's virtual address. */
	#virtual(query: URLSearchParams): unknown {
		const length = Math.min(numberOf(query, "length"), MOST_MEMORY_BYTES);
		return this.#vcpus.memory(numberOf(query, "vcpu"), bigOf(query, "address"), length);
	}

	#type(body: unknown): void {
		const text = (body as { text?: unknown } | null)?.text;
		if (typeof text !== "string") throw new RequestError(400, "Cannot type: there is no text");
		if (!this.#console.type(Buffer.from(text))) throw new RequestError(409, "Cannot type: the guest does not read");
	}
}

/** A 64-bit address in a query. @throws RequestError */
function bigOf(query: URLSearchParams, name: string): bigint {
	const text = query.get(name) ?? "";
	if (/^(\d{1,20}|0x[\da-f]{1,16})$/i.test(text)) return BigInt.asUintN(64, BigInt(text));
	throw new RequestError(400, `Cannot read ${name} "${text}": a whole number is wanted`);
}

/** A number in a query, decimal or "0x..."; 0 when it is missing. @throws RequestError */
function numberOf(query: URLSearchParams, name: string): number {
	const text = query.get(name) ?? "0";
	const number = /^(\d{1,16}|0x[\da-f]{1,13})$/i.test(text) ? Number(text) : Number.NaN;
	if (Number.isSafeInteger(number)) return number;
	throw new RequestError(400, `Cannot read ${name} "${text}": a whole number is wanted`);
}
