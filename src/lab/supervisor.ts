/*
 * The supervisor: the process that owns a lab.
 *
 * 1. It makes the template if there is none.
 * 2. It starts QEMU, which resumes the template.
 * 3. It has the VM mount the host's files.
 * 4. It accepts clients at its unix socket and connects them with the agent in the VM.
 *
 * It ends when it gets SIGTERM, when QEMU ends, or when the lab no longer answers or runs programs. QEMU always ends
 * with it.
 *
 *     clients --unix socket--> supervisor (broker) --socket pair--> QEMU: virtio-serial --> agent
 */
import { rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { exitStatus } from "../agent/session.ts";
import { errnoName, explain, HostError, TsvmmError } from "../base/errors.ts";
import { Teardown } from "../base/teardown.ts";
import { answerLabRequests, CONTROL_PROTOCOL, type LabAnswer, type LabRequest } from "./control.ts";
import { FileTree } from "./file-tree.ts";
import { LabVm } from "./lab-vm.ts";
import { isOpenFile } from "./lock.ts";
import { BROKEN, LabPaths, type SupervisorRecord } from "./paths.ts";
import { Qemu, type QemuMachine, type QemuSize } from "./qemu.ts";
import { commonShares, enterArguments, type Share, shareLimits } from "./shares.ts";
import { prepareTemplate } from "./template.ts";

const RESTORE_TIMEOUT_MS = 60_000;
/** A lab that has not answered for so long is dead. Even under load an answer takes less than a second. */
const SILENCE_MS = 60_000;
const WATCH_MS = 1000;
/** How often the supervisor checks that the lab runs programs. */
const PROBE_MS = 10_000;
/** 128 + SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV: how programs end in a broken lab. */
const FAULTS: ReadonlySet<number> = new Set([132, 133, 134, 135, 136, 139]);
const TOOL_TIMEOUT_MS = 5000;

/** Descriptor of the lab's lock. The process that started the supervisor has taken it (lab.ts). */
const LOCK_FD = 3;

/** Brings up the lab `name` and owns it until it ends. @returns the exit status */
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
		/* Written before the clients lose the lab: they read it and report why. */
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

/** An error of the operating system, with its path and a hint. */
function unexpected(error: unknown): HostError {
	const { path } = error as { path?: unknown };
	const where = typeof path === "string" ? ` at ${path}` : "";
	const unwritable = ["EROFS", "EACCES", "ENOSPC", "EDQUOT"].includes(errnoName(error) ?? "");
	return new HostError("ERR_LAB_FAILED", `Cannot bring up the lab: ${explain(error)}${where}`, {
		hint: unwritable ? "Set TSVMM_CACHE and TSVMM_RUNTIME to directories that you can write" : undefined,
		cause: error,
	});
}

/** A signal came before the lab was up. */
class Stopped extends Error {}

class Supervisor {
	/** Resolves when the lab has ended by itself, with the reason. */
	readonly dead: Promise<string>;
	readonly #paths: LabPaths;
	readonly #size: QemuSize;
	readonly #teardown: Teardown;
	/** What the lab "did not ... any more"; undefined while it is not broken. */
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

	/** @param signal ends the making of a template */
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
		this.#teardown.add(await answerLabRequests(paths.control, (request) => this.#answer(vm, request)));
		await this.#listen(vm);
		const watchdog = setInterval(() => {
			if (vm.silentMs > SILENCE_MS) this.#break("answer", `silence for ${SILENCE_MS / 1000} s`);
		}, WATCH_MS);
		this.#teardown.add(() => clearInterval(watchdog));
		const prober = setInterval(() => void this.#probe(vm), PROBE_MS);
		this.#teardown.add(() => clearInterval(prober));
		this.#updateRecord({ state: "ready", qemuPid: qemu.pid, restoreMs: Math.round(performance.now() - start) });
	}

	/** The tree of files that QEMU sees. Undefined when the host refuses namespaces: then QEMU sees all files. */
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

	/** Marks the lab as broken, because it does not do `what`, and ends it. */
	#break(what: string, why: string): void {
		this.broken ??= `did not ${what} any more (${why})`;
		this.#die(`it ${this.broken}`);
	}

	/** Checks that the lab runs programs, and ends it when it does not. */
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

	/** Connects a client with the agent. Until then its bytes wait in the socket. */
	async #serve(vm: LabVm, client: Socket): Promise<void> {
		const tag = installedTag();
		if (this.#installed !== tag) {
			this.#installed = tag;
			/* The VM caches /usr for good and would not see programs that were installed on the host since. */
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

/** Changes when programs are installed on the host: the modification times of system directories and dpkg's record. */
function installedTag(): string {
	const paths = ["/var/lib/dpkg/status", "/etc", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin"];
	return paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs).join();
}
