/*
 * The keeper: the process that owns a lab. It makes the template if need be, lets QEMU go on from it, lets the outer
 * machine mount the host's files, and then passes the agent's protocol between one virtio-serial port and as many
 * clients as come to its unix socket. It ends when it is told to (SIGTERM), when QEMU does, or when the lab no longer
 * answers or runs programs; whatever happens, QEMU ends with it.
 *
 *     clients --unix socket--> keeper (broker) --socket pair--> QEMU: virtio-serial --> agent
 */
import { readdirSync, rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { errnoName, explain, HostError, TsvmmError } from "../base/errors.ts";
import { Teardown } from "../base/teardown.ts";
import { exitStatus } from "./collect.ts";
import { answerRequests, CONTROL_PROTOCOL, type LabAnswer } from "./control.ts";
import { Outer } from "./outer.ts";
import { BROKEN, type KeeperRecord, LabPlace, LOCK_HELD } from "./place.ts";
import { Qemu, type QemuSize } from "./qemu.ts";
import { enterArguments } from "./shares.ts";
import { prepareTemplate } from "./template.ts";

const RESTORE_TIMEOUT_MS = 60_000;
/** A lab that is silent for so long is dead: each answer takes well below a second even under load. */
const SILENCE_MS = 60_000;
const WATCH_MS = 1000;
/** How often the lab runs a program to see whether it can. */
const PROBE_MS = 10_000;
/** 128 + SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV: what programs of a broken lab end with. */
const FAULTS: ReadonlySet<number> = new Set([132, 133, 134, 135, 136, 139]);
const TOOL_TIMEOUT_MS = 5000;

/** Keeps the lab `name` until it ends. @returns the exit status: LOCK_HELD when another keeper has it */
export async function keepLab(name: string, size: QemuSize): Promise<number> {
	const place = new LabPlace(name);
	if (!holdsLock(place)) return LOCK_HELD;
	const teardown = new Teardown();
	const told = new Promise<string>((resolve) => {
		for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
	});
	const keeper = new Keeper(place, size, teardown);
	const abort = new AbortController();
	void told.then(() => abort.abort(new Stopped()));
	try {
		await Promise.race([keeper.up(abort.signal), told.then(() => Promise.reject(new Stopped()))]);
		const why = await Promise.race([keeper.dead, told]);
		if (why !== "SIGTERM") process.stderr.write(`the lab has ended: ${why}\n`);
		// Before its clients lose it: they and the next command say why.
		const { broken } = keeper;
		if (broken !== undefined) place.writeFailure({ code: BROKEN, message: broken });
		await teardown.run();
		if (broken === undefined) place.remove();
		return 0;
	} catch (error) {
		await teardown.run();
		if (error instanceof Stopped) {
			place.remove();
			return 0;
		}
		const known = error instanceof TsvmmError ? error : unexpected(error);
		const { code, message, hint } = known;
		place.writeFailure({ code, message, ...(hint === undefined ? {} : { hint }) });
		process.stderr.write(`${(error as Error).stack}\n`);
		return known.exitStatus;
	}
}

/** What the operating system refused, and where. */
function unexpected(error: unknown): HostError {
	const { path } = error as { path?: unknown };
	const where = typeof path === "string" ? ` at ${path}` : "";
	const unwritable = ["EROFS", "EACCES", "ENOSPC", "EDQUOT"].includes(errnoName(error) ?? "");
	return new HostError("ERR_LAB_FAILED", `Cannot bring up the lab: ${explain(error)}${where}`, {
		hint: unwritable ? "Set TSVMM_CACHE and TSVMM_RUNTIME to directories that you can write" : undefined,
		cause: error,
	});
}

/** Told to end before the lab was up. */
class Stopped extends Error {}

/**
 * flock(1) opened the lock and then became this process. Whoever held the lock before may have removed the directory
 * between the two: then the lock that we hold is no longer the lab's.
 */
function holdsLock(place: LabPlace): boolean {
	const lock = statSync(place.lock, { throwIfNoEntry: false });
	if (lock === undefined) return false;
	return readdirSync("/proc/self/fd").some((fd) => {
		const open = statSync(join("/proc/self/fd", fd), { throwIfNoEntry: false });
		return open?.ino === lock.ino && open.dev === lock.dev;
	});
}

class Keeper {
	/** Resolves when the lab has ended by itself, with why. */
	readonly dead: Promise<string>;
	readonly #place: LabPlace;
	readonly #size: QemuSize;
	readonly #teardown: Teardown;
	/** What the lab no longer did; undefined when it has not failed by itself. */
	broken: string | undefined;
	#die: (why: string) => void = () => undefined;
	#record: KeeperRecord;
	#installed = installedTag();

	constructor(place: LabPlace, size: QemuSize, teardown: Teardown) {
		this.#place = place;
		this.#size = size;
		this.#teardown = teardown;
		this.#record = { pid: process.pid, state: "building", protocol: CONTROL_PROTOCOL, sinceMs: Date.now(), ...size };
		this.dead = new Promise((resolve) => {
			this.#die = resolve;
		});
	}

	/** @param signal ends what making a template has started */
	async up(signal: AbortSignal): Promise<void> {
		const place = this.#place;
		for (const stale of [place.socket, place.control]) rmSync(stale, { force: true });
		this.#say({});
		const template = await prepareTemplate(this.#size, place.console, signal);
		this.#say({ state: "restoring", template: template.directory });

		const start = performance.now();
		const qemu = Qemu.start(template.files, this.#size, "restore", place.console);
		this.#teardown.add(() => qemu.kill());
		void qemu.ended.then((how) => this.#die(`QEMU has ended (${how}) ${qemu.said}`));
		await qemu.restore(template.files.state);
		const outer = await Outer.open(qemu, RESTORE_TIMEOUT_MS);
		this.#teardown.add(() => outer.close());
		await outer.greet((status) => {
			if (FAULTS.has(exitStatus(status))) void this.#probe(outer);
		});
		await outer.run(["/bin/sh", "/enter", ...enterArguments()], RESTORE_TIMEOUT_MS);
		this.#teardown.add(() => outer.run(["/bin/busybox", "sync"], TOOL_TIMEOUT_MS).catch(() => undefined));
		this.#teardown.add(await answerRequests(place.control, () => this.#answer(outer)));
		await this.#listen(outer);
		const watchdog = setInterval(() => {
			if (outer.silentMs > SILENCE_MS) this.#break("answer", `silence for ${SILENCE_MS / 1000} s`);
		}, WATCH_MS);
		this.#teardown.add(() => clearInterval(watchdog));
		const prober = setInterval(() => void this.#probe(outer), PROBE_MS);
		this.#teardown.add(() => clearInterval(prober));
		this.#say({ state: "ready", qemuPid: qemu.pid, restoreMs: Math.round(performance.now() - start) });
	}

	/** The lab is of no use any more: it does not do `what`. */
	#break(what: string, why: string): void {
		this.broken ??= `did not ${what} any more (${why})`;
		this.#die(`it ${this.broken}`);
	}

	/** Ends a lab that runs no programs. */
	async #probe(outer: Outer): Promise<void> {
		const why = await outer.probe();
		if (why !== undefined) this.#break("run programs", why);
	}

	async #answer(outer: Outer): Promise<LabAnswer> {
		await this.#probe(outer);
		return this.broken === undefined ? {} : { broken: this.broken };
	}

	#say(change: Partial<KeeperRecord>): void {
		this.#record = { ...this.#record, ...change, sinceMs: Date.now() };
		this.#place.writeRecord(this.#record);
	}

	/** The client's bytes wait in its socket until it is handed on. */
	async #serve(outer: Outer, client: Socket): Promise<void> {
		const tag = installedTag();
		if (this.#installed !== tag) {
			this.#installed = tag;
			// The cached share would go on without programs that were installed since.
			await outer.run(["/bin/sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"], TOOL_TIMEOUT_MS).catch(() => undefined);
		}
		outer.serve(client);
	}

	async #listen(outer: Outer): Promise<void> {
		const clients = new Set<Socket>();
		const server = createServer((client) => {
			clients.add(client);
			client.on("error", () => undefined);
			client.on("close", () => clients.delete(client));
			void this.#serve(outer, client);
		});
		this.#teardown.add(async () => {
			const closed = new Promise<void>((resolve) => server.close(() => resolve()));
			for (const client of clients) client.destroy();
			await closed;
		});
		await new Promise<void>((resolve, reject) => {
			server.once("error", reject);
			server.listen(this.#place.socket, () => resolve());
		});
	}
}

/** When programs were last installed on the host: changes with the system's directories and dpkg's own record. */
function installedTag(): string {
	const paths = ["/var/lib/dpkg/status", "/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin"];
	return paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs).join();
}
