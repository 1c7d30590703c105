/*
 * Starts a machine for containers that is made of a template, or else boots: when its guest does not come back to life, a
 * machine that boots takes its place.
 */
import { type GuestMachine, RunningMachine } from "../running-machine.ts";
import type { SetupStep } from "../setup-steps.ts";
import type { RejectTemplate } from "./restore.ts";

/** A machine that is ready to start. */
export interface StartableMachine {
	readonly guest: GuestMachine;
	/** In the agent's own root, before any container. */
	readonly machineSteps?: readonly SetupStep[] | undefined;
	/** When it is made of a template. */
	readonly rejectTemplate?: RejectTemplate | undefined;
	/** What was wrong with its template. */
	readonly warning?: string | undefined;
}

export interface StartOptions<M> {
	/** Only boots; false when missing. */
	readonly cold?: boolean | undefined;
	readonly signal?: AbortSignal | undefined;
	/**
	 * Called before a machine starts, and again when another one takes its place. What it throws is not the template's
	 * fault; it ends the machine before. @returns its guest as it is used from then on
	 */
	readonly prepare?: ((created: M) => Promise<GuestMachine>) | undefined;
	/** Told, in one line, of a template that cannot be used. */
	readonly warn: (message: string) => void;
}

/**
 * Makes a machine and starts it.
 *
 * @param create makes it, of a template unless `cold`
 * @throws what RunningMachine.boot throws; no machine is left then
 */
export async function startMachine<M extends StartableMachine>(
	create: (cold: boolean) => Promise<M>,
	{ cold = false, signal, prepare, warn }: StartOptions<M>,
): Promise<{ created: M; running: RunningMachine }> {
	const make = async (boots: boolean) => {
		const created = await create(boots);
		if (created.warning !== undefined) warn(created.warning);
		return { created, guest: (await prepare?.(created)) ?? created.guest };
	};
	const start = async ({ created, guest }: { created: M; guest: GuestMachine }) => {
		return { created, running: await RunningMachine.boot(guest, { steps: created.machineSteps, signal }) };
	};
	const made = await make(cold);
	try {
		return await start(made);
	} catch (error) {
		const { rejectTemplate } = made.created;
		if (rejectTemplate === undefined || signal?.aborted) throw error;
		warn(rejectTemplate(error));
	}
	return await start(await make(true));
}
