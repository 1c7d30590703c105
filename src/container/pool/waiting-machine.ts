/*
 * A machine that was made of a template before anybody has asked for it. Its guest runs, and its agent was greeted. When a
 * container comes, its disks and networks are added as to a machine that runs, and the guest's random numbers begin anew.
 */
import { AgentBroker } from "../../agent/broker.ts";
import { explain, GuestError, ignore } from "../../base/errors.ts";
import { markUsed } from "../../host/unused.ts";
import { Machine } from "../../machine/machine.ts";
import { describeShutdown, type ShutdownReason } from "../../machine/shutdown-reason.ts";
import { guestOf, TailConsole } from "../guest.ts";
import { type GuestMachine, within } from "../running-machine.ts";
import type { SetupStep } from "../setup-steps.ts";
import { makeTemplate, TEMPLATE_DEVICES } from "../template/make.ts";
import { type AddedDevices, equip, type RejectTemplate } from "../template/restore.ts";
import { type TemplateShape, templatePath } from "../template/store.ts";

/** How long its agent may take. */
const PATIENCE_MS = 60_000;

/** One that is a container's from now on. */
export interface TakenMachine {
	readonly machine: Machine;
	readonly guest: GuestMachine;
	readonly broker: AgentBroker;
	/** What its agent does first. */
	readonly steps: readonly SetupStep[];
	/** The container's machine boots then. */
	readonly rejectTemplate: RejectTemplate;
}

export class WaitingMachine {
	readonly #path: string;
	readonly #machine: Machine;
	readonly #guest: GuestMachine;
	readonly #broker: AgentBroker;
	#isTaken = false;

	/**
	 * Makes one. The template is made first, when there is none.
	 *
	 * @throws what makeTemplate and Machine.restore throw; GuestError ERR_AGENT_TIMEOUT, ERR_GUEST_ENDED. Nothing is left
	 */
	static async make(shape: TemplateShape, signal: AbortSignal): Promise<WaitingMachine> {
		await makeTemplate(shape, { signal });
		const path = templatePath(shape);
		const console = new TailConsole(undefined);
		const machine = await Machine.restore(path, { ...TEMPLATE_DEVICES, console: { kind: "own", console } });
		machine.workingSet?.awaitRecord();
		const stop = () => void machine.stop();
		signal.addEventListener("abort", stop, { once: true });
		try {
			signal.throwIfAborted();
			await markUsed(path).catch(ignore);
			const guest = guestOf(machine, console);
			machine.start();
			const broker = await greet(guest);
			return new WaitingMachine(path, machine, guest, broker);
		} catch (error) {
			await machine.stop();
			signal.throwIfAborted();
			throw error;
		} finally {
			signal.removeEventListener("abort", stop);
		}
	}

	private constructor(path: string, machine: Machine, guest: GuestMachine, broker: AgentBroker) {
		this.#path = path;
		this.#machine = machine;
		this.#guest = guest;
		this.#broker = broker;
	}

	/** Resolves when the machine has ended. */
	get ended(): Promise<ShutdownReason> {
		return this.#machine.ended;
	}

	async stop(): Promise<void> {
		this.#broker.close();
		await this.#machine.stop();
	}

	/**
	 * Makes it a container's. Only the first call can.
	 *
	 * @param shape undefined when the container needs a machine that boots
	 * @returns undefined when it is another one's already, or does not fit; it has ended then
	 * @throws what opening a disk, a network or a directory says; the machine has ended then
	 */
	async take(
		shape: TemplateShape | undefined,
		devices: () => Promise<AddedDevices>,
		signal: AbortSignal | undefined,
	): Promise<TakenMachine | undefined> {
		if (this.#isTaken) return undefined;
		this.#isTaken = true;
		if (shape === undefined || templatePath(shape) !== this.#path) {
			await this.stop();
			return undefined;
		}
		const takenMs = performance.now();
		const steps = await equip(this.#machine, devices, shape, signal);
		const restoredMs = performance.now() - takenMs;
		return {
			machine: this.#machine,
			guest: { ...this.#guest, start: ignore, restoredMs, takenMs },
			broker: this.#broker,
			steps,
			rejectTemplate: (why) => `Cannot use a machine of the pool: ${explain(why).split("\n")[0]}`,
		};
	}
}

/** @throws GuestError ERR_AGENT_TIMEOUT, ERR_GUEST_ENDED */
async function greet(guest: GuestMachine): Promise<AgentBroker> {
	const attempt = "Cannot make a machine of a pool";
	const greeting = guest.agent.then(async (stream) => {
		const broker = new AgentBroker(stream);
		await broker.ready;
		return broker;
	});
	if (!(await within(Promise.race([greeting, guest.ended]), PATIENCE_MS))) {
		throw new GuestError("ERR_AGENT_TIMEOUT", `${attempt}: its agent did not answer within ${PATIENCE_MS / 1000} s`);
	}
	const ended = guest.ended.then((end): never => {
		throw new GuestError("ERR_GUEST_ENDED", `${attempt}: ${describeShutdown(end)}`);
	});
	return await Promise.race([greeting, ended]);
}
