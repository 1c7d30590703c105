/*
 * Takes a machine that waits for a container, if there is one: the first that answers is the taker's alone.
 */
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { HostError } from "../../base/errors.ts";
import { controlGroups } from "../../host/inheritance.ts";
import { connectTo, RemoteError } from "../../host/request-socket.ts";
import { containerKernel } from "../life/kernel.ts";
import type { StoredContainer } from "../life/store.ts";
import { sharedShape } from "../template/shape.ts";
import { mayBeWarm } from "../template/store.ts";
import { machinesWait, PoolPaths } from "./paths.ts";
import { BEGUN, type Order, type Report, TAKEN } from "./protocol.ts";

/**
 * Lets the process of a waiting machine supervise a container.
 *
 * @param onBegun told when it has the container and listens
 * @returns false when no machine fits; true when the container runs
 * @throws RemoteError why it does not; HostError ERR_CONTAINER_FAILED when the process ends
 */
export async function takeMachine(
	container: StoredContainer,
	options: Pick<Order, "awaitAttach" | "timings">,
	onBegun: () => void,
): Promise<boolean> {
	const { config } = container;
	if (!mayTake(config) || !machinesWait()) return false;
	const kernel = await containerKernel(config.kernel);
	const shape = await sharedShape({ kernel, cpus: config.cpus, memoryMiB: config.memoryMiB });
	if (!existsSync(shape.kernel)) return false;
	const order: Order = {
		id: container.id,
		...options,
		env: process.env,
		umask: process.umask(),
		groups: controlGroups(),
	};
	for (const path of PoolPaths.of(shape).sockets()) if (await give(path, order, onBegun)) return true;
	return false;
}

/** What needs a boot needs no machine that has booted (template/restore.ts). One that is observed is so from its start. */
function mayTake({ cold = false, cmdline, consoleFile, joins, observed }: StoredContainer["config"]): boolean {
	const needsOwn = [cmdline, consoleFile, joins, observed].some((one) => one !== undefined);
	return mayBeWarm() && !cold && !needsOwn;
}

/** @returns false when the machine is another's, or cannot be this one's */
async function give(path: string, order: Order, onBegun: () => void): Promise<boolean> {
	const socket = await connectTo(path);
	if (socket === undefined) return false;
	try {
		socket.end(JSON.stringify(order));
		const answer = await allOf(socket, (text) => {
			if (text.startsWith(TAKEN + BEGUN)) onBegun();
		});
		if (!answer.startsWith(TAKEN)) return false;
		const report = answer.slice(TAKEN.length);
		if (report === "") {
			throw new HostError("ERR_CONTAINER_FAILED", "Cannot start the container: its supervisor of the pool has ended");
		}
		const { failure } = JSON.parse(report) as Report;
		if (failure !== undefined) throw new RemoteError(failure);
		return true;
	} finally {
		socket.destroy();
	}
}

/** What has come until the stream has ended, in whatever way. */
async function allOf(socket: Socket, onMore: (text: string) => void): Promise<string> {
	let all = "";
	try {
		for await (const chunk of socket.setEncoding("utf8")) {
			all += chunk as string;
			onMore(all);
		}
	} catch {
		/* What is missing tells. */
	}
	return all;
}
