/*
 * The supervisor: the process that owns a lab. It makes the template if need be, lets QEMU go on from it, lets the
 * outer machine mount the host's files, and then passes the agent's protocol between one virtio-serial port and as many
 * clients as come to its unix socket. It ends when it is told to (SIGTERM), when QEMU does, or when the lab no longer
 * answers or runs programs; whatever happens, QEMU ends with it.
 *
 *     clients --unix socket--> supervisor (broker) --socket pair--> QEMU: virtio-serial --> agent
 */
import { rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { exitStatus } from "../agent/session.ts";
import { errnoName, explain, HostError, TsvmmError } from "../base/errors.ts";
import { Teardown } from "../base/teardown.ts";
import { answerRequests, CONTROL_PROTOCOL, type LabAnswer, type LabRequest } from "./control.ts";
import { FileTree } from "./file-tree.ts";
import { LabVm } from "./lab-vm.ts";
import { isOpenFile } from "./lock.ts";
import { BROKEN, LabPaths, type SupervisorRecord } from "./paths.ts";
import { Qemu, type QemuMachine, type QemuSize } from "./qemu.ts";
import { commonShares, enterArguments, type Share, shareLimits } from "./shares.ts";
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

/** The lab's lock, which whoever started the supervisor has taken and handed on (lab.ts). */
const LOCK_FD = 3;

/** Keeps the lab `name` until it ends. @returns the exit status */
export async function superviseLab(name: string, size: QemuSize): Promise<number> {
	const paths = new LabPaths(name);
	if (!isOpenFile(LOCK_FD, paths.lock)) {
		throw new HostError("ERR_LAB_FAILED", `Cannot supervise lab ${name}: it was not handed the lab's lock`);
	}
	const teardown = new Teardown();
	const stopped = new Promise<string>((resolve) => {
		for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => resolve(signal));
	});
	const supervisor = new Supervisor(paths, size, teardown);
	const abort = new AbortController();
	void stopped.then(() => abort.abort(new Stopped()));
	try {
		await Promise.race([supervisor.up(abort.signal), stopped.then(() => Promise.reject(new Stopped()))]);
		const why = await Promise.race([supervisor.dead, stopped]);
		if (why !== "SIGTERM") process.stderr.write(`the lab has ended: ${why}\n`);
		/* Before its clients lose it: they and the next command say why. */
		const { broken } = supervisor;
		if (broken !== undefined) paths.writeFailure({ code: BROKEN, message: broken });
		await teardown.run();
		if (broken === undefined) paths.remove();
		return 0;
	} catch (error) {
		await teardown.run();
		if (error instanceof Stopped) {
			paths.remove();
			return 0;
		}
		const known = error instanceof TsvmmError ? error : unexpected(error);
		const { code, message, hint } = known;
		paths.writeFailure({ code, message, ...(hint === undefined ? {} : { hint }) });
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

class Supervisor {
	/** Resolves when the lab has ended by itself, with why. */
	readonly dead: Promise<string>;
	readonly #paths: LabPaths;
	readonly #size: QemuSize;
	readonly #teardown: Teardown;
	/** What the lab no longer did; undefined when it has not failed by itself. */
	broken: string | undefined;
	#die: (why: string) => void = () => undefined;
	#record: SupervisorRecord;
	#tree: FileTree | undefined;
	#installed = installedTag();

	constructor(paths: LabPaths, size: QemuSize, teardown: Teardown) {
		this.#paths = paths;
		this.#size = size;
		this.#teardown = teardown;
		this.#record = { pid: process.pid, state: "building", protocol: CONTROL_PROTOCOL, sinceMs: Date.now(), ...size };
		this.dead = new Promise((resolve) => {
			this.#die = resolve;
		});
	}

	/** @param signal ends what making a template has started */
	async up(signal: AbortSignal): Promise<void> {
		const paths = this.#paths;
		for (const stale of [paths.socket, paths.control]) rmSync(stale, { force: true });
		this.#updateRecord({});
		const machine: QemuMachine = { size: this.#size, console: paths.console, lock: LOCK_FD };
		const template = await prepareTemplate(machine, signal);
		this.#updateRecord({ state: "restoring", template: template.directory });

		const start = performance.now();
		const tree = await this.#openTree();
		const qemu = Qemu.resume(template.files, machine, tree);
		this.#teardown.add(() => qemu.kill());
		void qemu.ended.then((how) => this.#die(`QEMU has ended (${how}) ${qemu.stderr}`));
		await qemu.restore();
		const vm = await LabVm.open(qemu, RESTORE_TIMEOUT_MS);
		this.#teardown.add(() => vm.close());
		await vm.greet((status) => {
			if (FAULTS.has(exitStatus(status))) void this.#probe(vm);
		});
		await vm.run(["/bin/sh", "/enter", ...enterArguments()], RESTORE_TIMEOUT_MS);
		this.#teardown.add(() => vm.run(["/bin/busybox", "sync"], TOOL_TIMEOUT_MS).catch(() => undefined));
		this.#teardown.add(await answerRequests(paths.control, (request) => this.#answer(vm, request)));
		await this.#listen(vm);
		const watchdog = setInterval(() => {
			if (vm.silentMs > SILENCE_MS) this.#break("answer", `silence for ${SILENCE_MS / 1000} s`);
		}, WATCH_MS);
		this.#teardown.add(() => clearInterval(watchdog));
		const prober = setInterval(() => void this.#probe(vm), PROBE_MS);
		this.#teardown.add(() => clearInterval(prober));
		this.#updateRecord({ state: "ready", qemuPid: qemu.pid, restoreMs: Math.round(performance.now() - start) });
	}

	/** The tree of the files that the lab is given; undefined where it must be given all, and the record says why. */
	async #openTree(): Promise<FileTree | undefined> {
		const tree = await FileTree.open(shareLimits());
		if (!(tree instanceof FileTree)) {
			this.#updateRecord({ unconfined: tree.refused });
			return undefined;
		}
		this.#teardown.owns(tree);
		this.#tree = tree;
		await this.#share(tree, commonShares());
		return tree;
	}

	async #share(tree: FileTree, wanted: readonly Share[]): Promise<void> {
		await tree.share(wanted);
		this.#updateRecord({ shares: tree.shares });
	}

	/** The lab is of no use any more: it does not do `what`. */
	#break(what: string, why: string): void {
		this.broken ??= `did not ${what} any more (${why})`;
		this.#die(`it ${this.broken}`);
	}

	/** Ends a lab that runs no programs. */
	async #probe(vm: LabVm): Promise<void> {
		const why = await vm.probe();
		if (why !== undefined) this.#break("run programs", why);
	}

	async #answer(vm: LabVm, { shares }: LabRequest): Promise<LabAnswer> {
		if (this.#tree !== undefined) await this.#share(this.#tree, shares);
		await this.#probe(vm);
		return this.broken === undefined ? {} : { broken: this.broken };
	}

	#updateRecord(change: Partial<SupervisorRecord>): void {
		const since = change.state === undefined ? {} : { sinceMs: Date.now() };
		this.#record = { ...this.#record, ...change, ...since };
		this.#paths.writeRecord(this.#record);
	}

	/** The client's bytes wait in its socket until it is handed on. */
	async #serve(vm: LabVm, client: Socket): Promise<void> {
		const tag = installedTag();
		if (this.#installed !== tag) {
			this.#installed = tag;
			/* The cached share would go on without programs that were installed since. */
			await vm.run(["/bin/sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"], TOOL_TIMEOUT_MS).catch(() => undefined);
		}
		vm.serve(client);
	}

	async #listen(vm: LabVm): Promise<void> {
		const clients = new Set<Socket>();
		const server = createServer((client) => {
			clients.add(client);
			client.on("error", () => undefined);
			client.on("close", () => clients.delete(client));
			void this.#serve(vm, client);
		});
		this.#teardown.add(async () => {
			const closed = new Promise<void>((resolve) => server.close(() => resolve()));
			for (const client of clients) client.destroy();
			await closed;
		});
		await new Promise<void>((resolve, reject) => {
			server.once("error", reject);
			server.listen(this.#paths.socket, () => resolve());
		});
	}
}

/** When programs were last installed on the host: changes with the system's directories and dpkg's own record. */
function installedTag(): string {
	const paths = ["/var/lib/dpkg/status", "/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin"];
	return paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs).join();
}
