/*
 * Makes the template of a machine. The guest boots with nobody on the host to talk to. When its agent asks for the host
 * the first time, all of the boot has been done, and the machine is saved. The agent of a machine that is made of it asks
 * again, and finds a host.
 */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { VSOCK_AGENT_PORT } from "../../agent/protocol.ts";
import { GuestError } from "../../base/errors.ts";
import { withFileLock } from "../../host/file-lock.ts";
import { removeLeftovers, removeUnused } from "../../host/unused.ts";
import type { MachineConfig } from "../../machine/config.ts";
import { Machine } from "../../machine/machine.ts";
import { describeShutdown } from "../../machine/shutdown-reason.ts";
import type { WriteOptions } from "../../snapshot/write.ts";
import { forgetAttempt } from "./attempts.ts";
import { isTemplate, removeTemplate, type TemplateShape, templatePath } from "./store.ts";

/** The devices of a template, and so of each machine that is made of it. Others are added to it later. */
export const TEMPLATE_DEVICES = { vsock: { cid: 3 }, rng: true, balloon: {} } as const;

/** A serial console, as the machines of the template have one. */
const CONSOLE = { kind: "file", path: "/dev/null" } as const;

/** Kernel parameters of a machine that containers join. */
export const CMDLINE = "quiet";

/**
 * Makes the template if it is missing or damaged, and removes those that were not used for a month. One is made at a time.
 *
 * @throws what Machine.create and Machine.snapshot throw; GuestError ERR_GUEST_ENDED
 */
export async function makeTemplate(shape: TemplateShape, options: WriteOptions = {}): Promise<void> {
	const path = templatePath(shape);
	const directory = dirname(path);
	await mkdir(directory, { recursive: true });
	const make = async () => {
		await removeLeftovers(directory);
		if (await isTemplate(path)) return forgetAttempt(path);
		removeTemplate(path);
		await boot(shape, path, options);
		forgetAttempt(path);
		await removeUnused(directory, (name) => !path.endsWith(name));
	};
	await withFileLock(`${directory}/.lock`, make, options.signal);
}

async function boot(shape: TemplateShape, path: string, options: WriteOptions): Promise<void> {
	const { signal } = options;
	const config: MachineConfig = { ...shape, ...TEMPLATE_DEVICES, cmdline: CMDLINE, console: CONSOLE, signal };
	await using machine = await Machine.create(config);
	const asked = machine.vsock!.refusal(VSOCK_AGENT_PORT);
	machine.start();
	const end = await Promise.race([asked, machine.ended]);
	signal?.throwIfAborted();
	if (end !== undefined) {
		const message = `Cannot make a template of ${shape.kernel}: ${describeShutdown(end)}`;
		throw new GuestError("ERR_GUEST_ENDED", message);
	}
	await machine.snapshot(path, options);
}
