/*
 * The process of a machine that waits. It listens at a socket of its own; the first that sends an order has it, and from
 * then on it is that container's supervisor. It ends with its pool, until it is taken:
 *
 *     machine made -> READY -> order -> TAKEN -> the taker's environment, control group, log -> superviseContainer
 */
import { closeSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer, type Server, Socket } from "node:net";
import { join } from "node:path";
import { HostError, ignore } from "../../base/errors.ts";
import { InterruptedError } from "../../base/signals.ts";
import { enterControlGroups } from "../../host/inheritance.ts";
import { replaceDescriptor } from "../../host/libc.ts";
import { failureOf, readAll } from "../../host/request-socket.ts";
import { bootContainer } from "../life/boot.ts";
import { ContainerStore } from "../life/store.ts";
import { onSignals, superviseContainer } from "../life/supervisor.ts";
import type { TemplateShape } from "../template/store.ts";
import { BEGUN, type Order, READY, type Report, TAKEN } from "./protocol.ts";
import { WaitingMachine } from "./waiting-machine.ts";

/** Descriptor of the stream to the pool. */
const POOL_FD = 3;
const STDOUT_FD = 1;
const STDERR_FD = 2;

/** A machine's taker, who waits for a report. */
export interface Taken {
	order: Order;
	taker: Socket;
}

/**
 * Makes a machine, waits for its container and supervises that. Resolves when the container has ended, or the pool.
 *
 * @throws what WaitingMachine.make throws; GuestError when the machine ends before it is taken
 */
export async function superviseWhenTaken(path: string, shape: TemplateShape): Promise<void> {
	const pool = new Socket({ fd: POOL_FD, readable: true, writable: true });
	const abort = new AbortController();
	const leave = () => abort.abort(new InterruptedError("wait for a container", 15));
	pool.on("error", ignore).on("end", leave).on("close", leave).resume();
	let machine: WaitingMachine | undefined;
	let taken: Taken | undefined;
	{
		await using _signals = onSignals(async () => leave());
		try {
			machine = await WaitingMachine.make(shape, abort.signal);
			taken = await firstTaker(path, machine, { pool, signal: abort.signal });
		} catch (error) {
			if (!abort.signal.aborted) throw error;
		}
	}
	if (taken === undefined || machine === undefined) {
		await machine?.stop();
		pool.destroy();
		return;
	}
	pool.write(TAKEN);
	await becomeSupervisor(taken, machine, () => pool.destroySoon());
}

/** @returns undefined when `signal` ends the wait; nobody can take the machine then */
export async function firstTaker(
	path: string,
	machine: Pick<WaitingMachine, "ended">,
	{ pool, signal }: { pool: Socket; signal: AbortSignal },
): Promise<Taken | undefined> {
	let give: (taken: Taken | undefined) => void;
	const given = new Promise<Taken | undefined>((resolve) => {
		give = resolve;
	});
	let isOver = false;
	const server = createServer({ allowHalfOpen: true }, (taker) => {
		taker.on("error", ignore);
		readAll(taker)
			.then((line) => {
				const order = JSON.parse(line) as Order;
				/* From here on no other code runs until it is the taker's. */
				if (isOver || !enterControlGroups(order.groups)) return taker.destroy();
				isOver = true;
				taker.write(TAKEN);
				return give({ order, taker });
			})
			.catch(() => taker.destroy());
	});
	const leave = () => {
		if (isOver) return;
		isOver = true;
		give(undefined);
	};
	signal.addEventListener("abort", leave, { once: true });
	void machine.ended.then(leave);
	try {
		await listen(server, path);
		if (signal.aborted) leave();
		pool.write(READY);
		const taken = await given;
		if (taken === undefined && !signal.aborted) {
			throw new HostError("ERR_POOL_FAILED", "Cannot wait for a container: the machine of the pool has ended");
		}
		return taken;
	} finally {
		signal.removeEventListener("abort", leave);
		server.close();
		await rm(path, { force: true });
	}
}

async function listen(server: Server, path: string): Promise<void> {
	await new Promise<void>((resolve, reject) => {
		server.once("error", reject);
		server.listen(path, () => resolve());
	});
}

/** @param started called when the container runs, or will not: this process is nobody's but the container's then */
async function becomeSupervisor({ order, taker }: Taken, machine: WaitingMachine, started: () => void): Promise<void> {
	let reported = false;
	const onReady = (error?: unknown) => {
		if (reported) return;
		reported = true;
		started();
		const report: Report = error === undefined ? {} : { failure: failureOf(error, "ERR_CONTAINER_FAILED") };
		taker.end(JSON.stringify(report));
	};
	try {
		const { id, awaitAttach, timings, env, umask } = order;
		for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
		Object.assign(process.env, env);
		process.umask(umask);
		const container = new ContainerStore().find(id);
		logTo(join(container.paths.directory, "supervisor.log"));
		await superviseContainer(container, {
			awaitAttach,
			timings,
			onListening: () => void taker.write(BEGUN),
			onReady,
			boot: (stored, signal) => bootContainer(stored, signal, { waiting: machine }),
		});
	} catch (error) {
		onReady(error);
		throw error;
	} finally {
		await machine.stop();
	}
}

/** All that this process says goes there from now on. */
function logTo(path: string): void {
	const fd = openSync(path, "w", 0o600);
	for (const stream of [STDOUT_FD, STDERR_FD]) replaceDescriptor(fd, stream);
	closeSync(fd);
}
