/*
 * Linux guests for tests: `tsvmm boot` in the lab, with a stock or the minimal kernel, the test initrd, and a shell
 * script that the guest runs. Each test file has one `Linux`, which brings the lab up and down.
 *
 *     const linux = await Linux.up();                                     // beforeAll
 *     const { output } = await linux.check({ kernel: "minimal", script: "nproc", cpus: 4 });
 *     await linux.down();                                                 // afterAll
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exitStatus, type Session } from "../../src/agent/session.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildKernel } from "../../src/kernel/build.ts";
import { fetchKernel, type GuestKernel } from "../../src/kernel/store.ts";
import { within } from "../../src/lab/collect.ts";
import { Lab } from "../../src/lab/lab.ts";
import { testInitrd } from "./initrd.ts";

export type KernelChoice = "6.1-cloud" | "6.12-cloud" | "minimal";

export interface BootOptions {
	kernel: KernelChoice;
	/** What the guest runs, by busybox sh. Its standard input is the console. */
	script: string;
	cpus?: number;
	memoryMiB?: number;
	/** Values of --disk, in order; the script's disk comes after them. */
	disks?: string[];
	/** Kernel parameters after `quiet`. */
	cmdline?: string;
	/** More flags of `tsvmm boot`. */
	args?: string[];
	/** Boots the bzImage instead of the vmlinux. */
	bzImage?: boolean;
	/** Static programs of this machine to put into the guest's /bin, by name. */
	programs?: Record<string, string>;
	input?: string | Uint8Array;
	timeoutMs?: number;
	/** A terminal for tsvmm. */
	tty?: { columns: number; rows: number };
}

export interface BootResult {
	/** Of tsvmm. */
	status: number;
	/** Of tsvmm: the console, lines ended by \n alone. */
	stdout: string;
	stderr: string;
	/** What the script printed until its end or the guest's. */
	output: string;
	/** The script's exit status; undefined when the script has not ended. */
	scriptStatus: number | undefined;
}

const TIMEOUT_MS = 240_000;

/** The kernel of that name, fetched or built if need be. */
export async function testKernel(choice: KernelChoice): Promise<GuestKernel> {
	if (choice === "minimal") return await buildKernel();
	return await fetchKernel(choice).catch((error: { code?: string }) => {
		if (error.code !== "ERR_KERNEL_PIN_GONE") throw error;
		return fetchKernel(choice, { latest: true });
	});
}

/** A guest that runs. */
export class RunningLinux {
	readonly session: Session;
	readonly #timeoutMs: number;
	#stdout = "";
	#stderr = "";
	#more: () => void = () => undefined;

	constructor(session: Session, timeoutMs: number) {
		this.session = session;
		this.#timeoutMs = timeoutMs;
		const decoder = new TextDecoder();
		session.stdout.on("data", (chunk: Buffer) => {
			this.#stdout += decoder.decode(chunk, { stream: true });
			this.#more();
		});
		session.stderr.on("data", (chunk: Buffer) => {
			this.#stderr += chunk;
		});
		session.stdout.on("end", () => this.#more());
		session.stdin.on("error", () => undefined);
	}

	/** The console so far. */
	get stdout(): string {
		return this.#stdout.replaceAll("\r\n", "\n");
	}

	/** Waits until tsvmm has written `text` on standard error. */
	async hears(text: string): Promise<void> {
		const { stderr } = this.session;
		const heard = new Promise<void>((resolve) => {
			const look = () => {
				if (!this.#stderr.includes(text)) return;
				stderr.off("data", look);
				resolve();
			};
			stderr.on("data", look);
			look();
		});
		await within(heard, this.#timeoutMs, () => this.session.signal(9, true));
	}

	/** Types text on the console. */
	type(text: string): void {
		this.session.stdin.write(text);
	}

	/** Waits until the console shows `text` or a match. @throws when the guest ends first, or takes too long */
	async shows(text: string | RegExp): Promise<void> {
		const found = () => (typeof text === "string" ? this.stdout.includes(text) : text.test(this.stdout));
		const wait = new Promise<void>((resolve, reject) => {
			const look = () => {
				if (found()) resolve();
				else if (this.session.stdout.readableEnded)
					reject(new Error(`the guest has not shown ${text}: ${this.#all()}`));
			};
			this.#more = look;
			look();
		});
		await within(wait, this.#timeoutMs, () => this.session.signal(9, true)).catch((error: Error) => {
			throw new Error(`${error.message}: waiting for ${text}: ${this.#all()}`);
		});
	}

	/** Sends tsvmm a signal by number. */
	signal(number: number): void {
		this.session.signal(number);
	}

	/** Waits for tsvmm's end. */
	async ended(): Promise<BootResult> {
		const { session } = this;
		const streams = [session.stdout, session.stderr].map(
			(stream) => new Promise<void>((resolve) => (stream.readableEnded ? resolve() : stream.once("end", resolve))),
		);
		const all = Promise.all([session.exit, ...streams]);
		const [exit] = await within(all, this.#timeoutMs, () => session.signal(9, true)).catch((error: Error) => {
			throw new Error(`${error.message}: ${this.#all()}`);
		});
		return parse(exitStatus(exit), this.stdout, this.#stderr);
	}

	#all(): string {
		return `\n--- console\n${this.stdout.slice(-3000)}\n--- stderr\n${this.#stderr.slice(-2000)}`;
	}
}

function parse(status: number, stdout: string, stderr: string): BootResult {
	const start = stdout.indexOf("@@script@@\n");
	const end = /\n@@status (\d+)@@\n/.exec(stdout);
	const output = start < 0 ? "" : stdout.slice(start + "@@script@@\n".length, end?.index);
	return { status, stdout, stderr, output, scriptStatus: end === null ? undefined : Number(end[1]) };
}

export class Linux {
	readonly lab: Lab;
	/** A directory of this machine that the lab shares, for the test's files. */
	readonly directory: string;
	#scripts = 0;

	private constructor(lab: Lab, directory: string) {
		this.lab = lab;
		this.directory = directory;
	}

	/** Brings the lab up; bundles the sources first if they have changed. */
	static async up(name = "linux"): Promise<Linux> {
		execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
		const lab = await Lab.up({ name });
		return new Linux(lab, mkdtempSync(join(tmpdir(), "linux-")));
	}

	async down(): Promise<void> {
		await this.lab.down();
		rmSync(this.directory, { recursive: true, force: true });
	}

	/** The command line that boots such a guest in the lab. */
	async command(options: BootOptions): Promise<string[]> {
		const { cpus = 1, memoryMiB = 128, disks = [], cmdline, args = [] } = options;
		const kernel = await testKernel(options.kernel);
		const script = join(this.directory, `script-${this.#scripts++}`);
		const text = Buffer.from(options.script);
		writeFileSync(script, Buffer.concat([text, Buffer.alloc(512 - (text.length % 512))]));
		return [
			...[process.execPath, join(packageRoot(), "dist/tsvmm.js"), "boot"],
			...["--kernel", options.bzImage === true ? kernel.vmlinuz! : kernel.vmlinux],
			...["--initrd", await testInitrd(kernel, options.programs)],
			...["--cmdline", cmdline === undefined ? "quiet" : `quiet ${cmdline}`],
			...["--cpus", `${cpus}`, "--memory", `${memoryMiB}M`],
			...[...disks, `${script},ro,id=script`].flatMap((disk) => ["--disk", disk]),
			...args,
		];
	}

	/** Starts a guest and leaves it running; `ended()` must be awaited. */
	async spawn(options: BootOptions): Promise<RunningLinux> {
		const { timeoutMs = TIMEOUT_MS, tty, input } = options;
		const command = await this.command(options);
		const session = await this.lab.spawn(command, { cwd: this.directory, ...(tty === undefined ? {} : { tty }) });
		const running = new RunningLinux(session, timeoutMs);
		if (input !== undefined) session.stdin.write(input);
		return running;
	}

	/** Boots a guest and waits until it ends, in any way. */
	async boot(options: BootOptions): Promise<BootResult> {
		return await (await this.spawn(options)).ended();
	}

	/**
	 * Boots a guest whose script must succeed and which must power off.
	 *
	 * @throws Error with console and standard error when it does not
	 */
	async check(options: BootOptions): Promise<BootResult> {
		const result = await this.boot(options);
		const { status, scriptStatus, stdout, stderr } = result;
		if (status === 0 && scriptStatus === 0) return result;
		throw new Error(`tsvmm: ${status}, script: ${scriptStatus}\n--- console\n${stdout}\n--- stderr\n${stderr}`);
	}

	/** Runs a shell command in the lab, outside of the guest. @returns its output @throws when it fails */
	async sh(script: string, timeoutMs = TIMEOUT_MS): Promise<string> {
		const { status, stdout, stderr } = await this.lab.exec(["sh", "-c", script], { cwd: this.directory, timeoutMs });
		if (status !== 0) throw new Error(`in the lab: status ${status} of ${script}: ${stdout}${stderr}`);
		return String(stdout);
	}
}
