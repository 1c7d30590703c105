/*
 * A machine for containers that is made of a template, with the networks and file systems that it is to have. These are
 * added to it before it starts: its guest finds them when it goes on.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import type { ConsoleBackend } from "../../backends/contract.ts";
import { markUsed } from "../../host/unused.ts";
import type { OwnFsConfig } from "../../machine/devices/fs.ts";
import { openNetDevice } from "../../machine/devices/net.ts";
import { Machine } from "../../machine/machine.ts";
import type { VirtioDevice } from "../../virtio/device.ts";
import { FsDevice } from "../../virtio/fs/device.ts";
import type { ContainerNetwork } from "../run.ts";
import type { SetupStep } from "../setup-steps.ts";
import { TEMPLATE_DEVICES } from "./make.ts";
import { mayBeWarm, removeTemplate, type TemplateShape, templatePath } from "./store.ts";

/** What a machine has besides the devices of its template. */
export interface AddedDevices {
	readonly networks: readonly ContainerNetwork[];
	readonly fs: readonly OwnFsConfig[];
}

/** A machine that has not started, and what its agent has to do first. */
export interface WarmMachine {
	readonly machine: Machine;
	readonly steps: readonly SetupStep[];
	/** Removes the template, of which no machine should be made again. */
	readonly reject: () => void;
}

/** Random bytes for the guest. */
const SEED_BYTES = 64;

/**
 * Makes a machine of the template of its shape. Resolves with undefined when there is none, or when it cannot be used; it
 * is removed then.
 *
 * @throws what opening a network says; the machine has ended then
 */
export async function warmMachine(
	shape: TemplateShape,
	devices: AddedDevices,
	{ console, signal }: { console: ConsoleBackend; signal?: AbortSignal | undefined },
): Promise<WarmMachine | undefined> {
	const path = templatePath(shape);
	if (!mayBeWarm() || !existsSync(path)) return undefined;
	const reject = () => removeTemplate(path);
	let machine: Machine;
	try {
		machine = await Machine.restore(path, {
			...TEMPLATE_DEVICES,
			console: { kind: "own", console },
			...(signal === undefined ? {} : { signal }),
		});
		await markUsed(path);
	} catch {
		signal?.throwIfAborted();
		reject();
		return undefined;
	}
	try {
		const ids = await plug(machine, devices, signal);
		const found = ids.map((id): SetupStep => ["bind", machine.deviceAddress(id).toString(16)]);
		return { machine, steps: [["entropy", randomBytes(SEED_BYTES).toString("hex")], ...found], reject };
	} catch (error) {
		await machine.stop();
		throw error;
	}
}

async function plug(machine: Machine, devices: AddedDevices, signal: AbortSignal | undefined): Promise<string[]> {
	const ids: string[] = [];
	const { enter } = machine;
	const add = (id: string, device: VirtioDevice) => {
		machine.addDevice(id, device);
		ids.push(id);
	};
	for (const [i, { device }] of devices.networks.entries())
		add(`net${i}`, await openNetDevice(device, i, { enter, signal }));
	for (const [i, { tag, fileSystem, cache = "auto" }] of devices.fs.entries())
		add(`fs${i}`, new FsDevice(tag, fileSystem, { name: `virtio-fs${i}`, cache }));
	return ids;
}
