/*
 * Explains a machine that runs, without a trace from its start: what its state says at two moments, and the events between
 * them. Work counts as left over only if both looks show it and nothing was done about it meanwhile, because a
 * machine at work has some at every moment.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ignore } from "../base/errors.ts";
import type { Observer } from "../base/observer.ts";
import type { StoppedState } from "../base/stopped-state.ts";
import type { TraceEvent } from "../trace/event.ts";
import { eventObserver } from "../trace/recorder.ts";
import { type Explanation, explain } from "./explanation.ts";
import { Story } from "./story.ts";
import { addressNames } from "./symbols.ts";

/** What is explained: a Machine. */
export interface LiveMachine {
	readonly state: string;
	observe(observer: Observer): () => void;
	tellState(): Promise<void>;
	inspect(): {
		readonly cpus: number;
		readonly memoryMiB: number;
		readonly kernel: string;
		readonly cmdline: string;
		readonly virtio: readonly {
			readonly id: string;
			readonly name: string;
			readonly deviceId: number;
			readonly address: number;
			readonly gsi: number;
			readonly queues: readonly { readonly maxSize: number }[];
		}[];
	};
}

export interface LiveOptions {
	/** From the first look to the second. */
	readonly seconds: number;
	/** A file with the kernel's symbols; that of the machine when missing. */
	readonly symbols?: string | undefined;
	/** The last lines of its console, as far as they are known. */
	readonly output?: string | undefined;
}

/** @throws StateError ERR_MACHINE_STATE when the machine has ended; ImageError ERR_SYMBOLS */
export async function explainLive(machine: LiveMachine, options: LiveOptions): Promise<Explanation> {
	const { seconds, symbols, output } = options;
	const story = new Story({ seconds, state: machine.state });
	story.add(made(machine));
	if (output) story.add({ t: 0, kind: "console", device: "serial", text: `${output}\n` });
	const states: StoppedState[] = [];
	const event = (one: TraceEvent) => {
		/* The first exit that is seen is not the kernel's first one. */
		const isEntry = one.kind === "boot" && one.phase === "entry";
		if (one.kind === "state") states.push(one);
		else if (!isEntry) story.add(one);
	};
	const leave = machine.observe(eventObserver({ event }));
	try {
		await machine.tellState();
		await sleep(seconds * 1000);
		/* It may have ended meanwhile, which is an event then. */
		await machine.tellState().catch(ignore);
	} finally {
		leave();
	}
	const first = states[0];
	const last = states.at(-1);
	if (first !== undefined && last !== undefined)
		story.add({ t: Math.max(story.lastT, seconds * 1e9), kind: "state", ...lasting(first, last, story) });
	const names = await addressNames(symbols ?? story.created?.kernel, symbols !== undefined);
	return explain(story, names);
}

function made(machine: LiveMachine): TraceEvent {
	const { cpus, memoryMiB, kernel, cmdline, virtio } = machine.inspect();
	const devices = virtio.map(({ id, name, deviceId, address, gsi, queues }) => {
		return { id, name, deviceId, address, gsi, queues: queues.map(({ maxSize }) => maxSize) };
	});
	const life = { state: "created", cpus, memoryMiB, kernel, cmdline, devices, restored: false } as const;
	return { t: 0, kind: "machine", format: 1, ...life };
}

/** The last look, without what was on its way. */
function lasting(first: StoppedState, last: StoppedState, story: Story): StoppedState {
	const devices = last.devices.map((device) => {
		const before = first.devices.find((one) => one.device === device.device);
		const seen = story.devices.get(device.device);
		const isBusy = (seen?.interrupts ?? 0) > 0;
		const queues = device.queues.map((queue) => {
			const earlier = before?.queues.find((one) => one.queue === queue.queue);
			const hasMoved = (seen?.queues.get(queue.queue)?.used ?? 0) > 0;
			const left = (now: number, then = 0) => (hasMoved ? 0 : Math.min(now, then));
			const pending = left(queue.pending, earlier?.pending);
			return { ...queue, pending, inFlight: left(queue.inFlight, earlier?.inFlight) };
		});
		const interruptStatus = isBusy ? 0 : device.interruptStatus & (before?.interruptStatus ?? 0);
		return { ...device, queues, interruptStatus };
	});
	return { ...last, devices };
}
