/*
 * A container's own machine, booted for each start of its process. It ends with the process.
 */
import type { Duplex } from "node:stream";
import { AgentBroker } from "../../agent/broker.ts";
import { duplexPair } from "../../backends/duplex-pair.ts";
import { Container } from "../container.ts";
import type { Endpoint } from "../network/join.ts";
import type { GuestMachine } from "../running-machine.ts";
import { type BootedContainer, bootContainer } from "./boot.ts";
import type { ContainerHost, ProcessStart } from "./container-host.ts";
import type { StoredContainer } from "./store.ts";

/** Makes the machine of a container. Tests have machines of their own. */
export type BootContainer = (container: StoredContainer, signal: AbortSignal) => Promise<BootedContainer>;

export class OwnMachine implements ContainerHost {
	readonly #boot: BootContainer;
	#machine: BootedContainer["machine"] | undefined;
	#broker: AgentBroker | undefined;
	#endpoint: Endpoint | undefined;

	constructor(boot: BootContainer = bootContainer) {
		this.#boot = boot;
	}

	get endpoint(): Endpoint | undefined {
		return this.#endpoint;
	}

	get broker(): AgentBroker | undefined {
		return this.#broker;
	}

	async start(stored: StoredContainer, { process, awaited, signal }: ProcessStart): Promise<Container> {
		const { config } = stored;
		const { guest, machine, endpoint, ...plan } = await this.#boot(stored, signal);
		this.#endpoint = endpoint;
		await unlessAborted(awaited, signal, guest);
		const broker = brokered(guest, (made) => {
			this.#broker = made;
		});
		/* Its disk goes with it. */
		const isDiscarded = config.autoRemove && config.mounts.length === 0;
		this.#machine = machine;
		void guest.ended.then(() => {
			if (this.#machine !== machine) return;
			this.#machine = undefined;
			this.#broker?.close();
			this.#broker = undefined;
		});
		return await Container.start(broker, {
			...plan,
			keeps: plan.keeps === true && !isDiscarded,
			init: config.process.init,
			process,
			stopSignal: config.stopSignal,
			signal,
		});
	}

	async pause(): Promise<void> {
		await this.#machine?.pause();
	}

	async unpause(): Promise<void> {
		this.#machine?.resume();
	}
}

/** A machine whose agent has many clients: this process is one of the broker's. Its methods work apart from it. */
export function brokered(guest: GuestMachine, onBroker: (broker: AgentBroker) => void): GuestMachine {
	const share = (stream: Duplex) => {
		const broker = new AgentBroker(stream);
		onBroker(broker);
		const [ours, brokers] = duplexPair();
		broker.attach(brokers);
		return ours;
	};
	return {
		start: () => guest.start(),
		stop: () => guest.stop(),
		ended: guest.ended,
		agent: guest.agent.then(share),
		consoleTail: () => guest.consoleTail(),
	};
}

/** The machine ends when the wait does. */
async function unlessAborted(awaited: Promise<void>, signal: AbortSignal, guest: GuestMachine): Promise<void> {
	const aborted = new Promise<never>((_, reject) => {
		signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
	});
	aborted.catch(() => undefined);
	try {
		await Promise.race([awaited, aborted]);
	} catch (error) {
		await guest.stop();
		throw error;
	}
}
