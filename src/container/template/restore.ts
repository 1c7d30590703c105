/*
 * A machine for containers that is made of a template, with the disks, networks and file systems that it is to have. These
 * are added to it before it starts: its guest finds them when it goes on.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { NullConsole } from "../../backends/console.ts";
import type { ConsoleBackend } from "../../backends/contract.ts";
import { explain, HostError, IoctlError, ignore } from "../../base/errors.ts";
import { markUsed } from "../../host/unused.ts";
import type { RestoreConfig } from "../../machine/config.ts";
import { type DiskFields, diskKind } from "../../machine/devices/disk.ts";
import { type FsFields, fsKind } from "../../machine/devices/fs.ts";
import { type NetFields, netKind } from "../../machine/devices/net.ts";
import { Machine } from "../../machine/machine.ts";
import type { CreateOptions, DevicePlan } from "../../virtio/device-kind.ts";
import type { SetupStep } from "../setup-steps.ts";
import { failAttempt } from "./attempts.ts";
import { TEMPLATE_DEVICES } from "./make.ts";
import { mayBeWarm, removeTemplate, type TemplateShape, templatePath } from "./store.ts";

/** What a machine has besides the devices of its template. */
export type AddedDevices = DiskFields & NetFields & FsFields;

/** A machine that has not started, and what its agent has to do first. */
export interface WarmMachine {
	readonly machine: Machine;
	readonly steps: readonly SetupStep[];
	/** How long it took to make it. */
	readonly restoredMs: number;
	readonly reject: RejectTemplate;
}

/** Removes the template, of which no machine should be made again. @returns what to tell the user, one line */
export type RejectTemplate = (why: unknown) => string;

/** Options of `warmMachine`. */
export interface WarmOptions {
	readonly console: ConsoleBackend;
	readonly signal?: AbortSignal | undefined;
	/** Told, in one line, of a template that cannot be used. */
	readonly onRejected?: ((message: string) => void) | undefined;
	/** Who looks on, from its start. */
	readonly observation?: Pick<RestoreConfig, "traceFiles" | "observer"> | undefined;
}

const KINDS = [diskKind, netKind, fsKind];
/** Random bytes for the guest. */
export const SEED_BYTES = 64;

/**
 * Makes a machine of the template of its shape. Resolves with undefined when there is none, or when it cannot be used; it
 * is removed then.
 *
 * @param devices resolves when their files are there; asked for when the machine is made
 * @throws what opening a disk, a network or a directory says; the machine has ended then
 */
export async function warmMachine(
	shape: TemplateShape,
	devices: () => Promise<AddedDevices>,
	{ console, signal, onRejected: tell = ignore, observation }: WarmOptions,
): Promise<WarmMachine | undefined> {
	const path = templatePath(shape);
	if (!mayBeWarm() || !existsSync(path)) return undefined;
	const reject = (why: unknown) => rejectTemplate(path, why);
	const begun = performance.now();
	let machine: Machine;
	try {
		machine = await Machine.restore(path, {
			...TEMPLATE_DEVICES,
			...observation,
			console: { kind: "own", console },
			...(signal === undefined ? {} : { signal }),
		});
	} catch (error) {
		signal?.throwIfAborted();
		/* What this host lacks is not the template's fault, and a machine that boots tells of it. */
		if (!(error instanceof HostError) || error instanceof IoctlError) tell(reject(error));
		return undefined;
	}
	machine.workingSet?.awaitRecord();
	/* Another process may have removed it meanwhile. */
	await markUsed(path).catch(ignore);
	const steps = await equip(machine, devices, shape, signal);
	return { machine, steps, restoredMs: performance.now() - begun, reject };
}

/**
 * Adds the devices of a container to a machine of a template, before or after it starts.
 *
 * @param devices resolves when their files are there
 * @returns what its agent does first: the guest's random numbers are not those of other clones then
 * @throws what opening a disk, a network or a directory says; the machine has ended then
 */
export async function equip(
	machine: Machine,
	devices: () => Promise<AddedDevices>,
	shape: Pick<TemplateShape, "cpus">,
	signal: AbortSignal | undefined,
): Promise<SetupStep[]> {
	let added: AddedDevices = {};
	try {
		added = await devices();
		const ids = await plug(machine, added, shape, signal);
		const found = ids.map((id): SetupStep => ["bind", machine.deviceAddress(id).toString(16)]);
		return [["entropy", randomBytes(SEED_BYTES).toString("hex")], ...found];
	} catch (error) {
		await machine.stop();
		for (const kind of KINDS) for (const part of kind.given?.(added) ?? []) await part.close();
		throw error;
	}
}

function rejectTemplate(path: string, why: unknown): string {
	removeTemplate(path);
	const message = `Cannot use template ${basename(path)}, which is removed: ${explain(why).split("\n")[0]}`;
	try {
		failAttempt(path, message);
	} catch {
		/* Nothing of it need be kept, such as in a cache that cannot be written. */
	}
	return message;
}

/** @returns the ids of the devices */
async function plug(
	machine: Machine,
	devices: AddedDevices,
	shape: Pick<TemplateShape, "cpus">,
	signal: AbortSignal | undefined,
): Promise<string[]> {
	const { enter } = machine;
	const plans: DevicePlan[] = KINDS.flatMap((kind) => [...kind.plan(devices, shape)]);
	for (const plan of plans) {
		const device = plan.create(await plan.open?.({ enter, signal }), NO_CONSOLE);
		try {
			machine.addDevice(plan.id, device);
		} catch (error) {
			await device.close();
			throw error;
		}
	}
	return plans.map(({ id }) => id);
}

/** None of these devices is a console or a balloon. */
const NO_CONSOLE: CreateOptions = { consoleLine: () => new NullConsole(), discard: () => undefined };
