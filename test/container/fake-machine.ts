/*
 * A container's machine without a VM: the real agent as a process of this host. It ends with its stream, as a VM does
 * after power-off.
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { GuestMachine } from "../../src/container/running-machine.ts";
import type { ShutdownReason } from "../../src/machine/shutdown-reason.ts";
import { NativeAgent } from "../agent/native-agent.ts";

const agents: NativeAgent[] = [];

/** Ends the agents of all machines. */
export async function stopAgents(): Promise<void> {
	for (const agent of agents.splice(0)) await agent.stop();
}

/** A machine of a native agent; `end` lets it end as a guest would. */
export class FakeMachine implements GuestMachine {
	readonly ended: Promise<ShutdownReason>;
	readonly agent: Promise<Duplex>;
	end!: (end: ShutdownReason) => void;
	#begin!: () => void;
	#socket: Socket | undefined;

	/** @param tools the directory of the agent's tools */
	constructor(tools?: string) {
		this.ended = new Promise((resolve) => {
			this.end = (end) => {
				this.#socket?.destroy();
				resolve(end);
			};
		});
		this.agent = new Promise((resolve, reject) => {
			this.#begin = () => {
				const agent = new NativeAgent([], tools === undefined ? [] : ["--tools", tools]);
				agents.push(agent);
				agent.connect().then((socket) => {
					this.#socket = socket;
					resolve(socket);
				}, reject);
			};
		});
	}
	start(): void {
		this.#begin();
	}
	stop(): Promise<ShutdownReason> {
		this.end({ reason: "stopped" });
		return this.ended;
	}
	consoleTail(): string {
		return "line one\nKernel panic - not syncing: test";
	}
}

export function endsWhenRefused(machine: FakeMachine): FakeMachine {
	/* Stands for the VM that vanishes at POWEROFF: the first write of that frame type ends it. */
	const agent = machine.agent.then((stream) => {
		const write = stream.write.bind(stream) as (chunk: Buffer) => boolean;
		stream.write = ((chunk: Buffer) => {
			if (chunk[4] === 18) setImmediate(() => machine.end({ reason: "power-off" }));
			return write(chunk);
		}) as typeof stream.write;
		return stream;
	});
	agent.catch(() => undefined);
	return Object.assign(Object.create(machine) as FakeMachine, {
		agent,
		ended: machine.ended,
		start: () => machine.start(),
		stop: () => machine.stop(),
	});
}
