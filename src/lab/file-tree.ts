/*
 * The tree of the host's files that a lab can see. A process, the holder, keeps a mount namespace in which the tree is
 * put together at /sys/root. QEMU has a second mount namespace, whose root is the tree. A share that is added later
 * reaches QEMU by mount propagation. guests/lab/tree is the script that mounts. Root makes the namespaces directly, any
 * other user in a user namespace.
 *
 *     supervisor -- nsenter --> the holder's namespace: the host's mounts, and the tree at /sys/root
 *                                |  mount propagation
 *                               QEMU's namespace: the tree alone
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { lstatSync, readlinkSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { HostError } from "../base/errors.ts";
import { boundCommand } from "../host/bound-command.ts";
import { run } from "../host/command.ts";
import { packageRoot } from "../host/native.ts";
import { findTool, toolMissing } from "../host/tools.ts";
import { isLabOwn, isWithin, type Share, type ShareAccess, SYSTEM_DIRECTORIES } from "./shares.ts";

const SCRIPT = join(packageRoot(), "guests/lab/tree");

/** Where QEMU sees the shared files, the template's directory and the console's file. */
export const CONFINED = { files: "/files", template: "/template", console: "/console" } as const;

/* QEMU opens files for programs in the lab, which are root there. So root's QEMU keeps root's rights on files. */
const ROOT_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid";

const RANK: Record<ShareAccess, number> = { none: 0, directory: 1, ro: 2, rw: 3 };
/** Symbolic links in one path; Linux has the same limit. */
const LINKS_MAX = 40;

interface Shared {
	access: ShareAccess;
	/** Device and inode of what is mounted; undefined when nothing is mounted. */
	mounted: string | undefined;
}

export class FileTree {
	readonly #holder: ChildProcessWithoutNullStreams;
	readonly #isUser: boolean;
	/** The key is the real path. */
	readonly #shares = new Map<string, Shared>();
	#work: Promise<void> = Promise.resolve();

	private constructor(holder: ChildProcessWithoutNullStreams, isUser: boolean, limits: readonly Share[]) {
		this.#holder = holder;
		this.#isUser = isUser;
		for (const { path, access } of limits) this.#shares.set(path, { access, mounted: undefined });
	}

	/**
	 * Makes an empty tree.
	 *
	 * @param limits what QEMU may do at these paths, even when a directory that contains them is shared
	 * @returns the kernel's reason instead of a tree when the host refuses namespaces
	 */
	static async open(limits: readonly Share[]): Promise<FileTree | { refused: string }> {
		let refused = "";
		for (const isUser of process.getuid?.() === 0 ? [false, true] : [true]) {
			const holder = hold(isUser);
			let stderr = "";
			holder.stderr.setEncoding("utf8").on("data", (text: string) => {
				stderr += text;
			});
			holder.stdin.on("error", () => undefined);
			const ready = once(holder.stdout, "data").then(() => true);
			const ended = once(holder, "close").then(
				() => false,
				() => false,
			);
			if (await Promise.race([ready, ended])) {
				const tree = new FileTree(holder, isUser, limits);
				try {
					await tree.#run("root", systemOfQemu());
				} catch (error) {
					await tree.close();
					throw error;
				}
				return tree;
			}
			refused = stderr.trim();
		}
		return { refused };
	}

	/** The files and directories that the lab sees, without empty directories. */
	get shares(): Share[] {
		return [...this.#shares]
			.filter(([, { access, mounted }]) => mounted !== undefined && RANK[access] >= RANK.ro)
			.map(([path, { access }]) => ({ path, access }));
	}

	/**
	 * Adds shares. Mounts a share again when its file has been replaced on the host.
	 *
	 * @throws HostError ERR_LAB_SHARE
	 */
	share(wanted: readonly Share[]): Promise<void> {
		const work = this.#work.then(async () => {
			const steps: string[] = [];
			for (const [path, shared] of this.#shares) this.#refresh(path, shared, steps);
			for (const { path, access } of wanted) this.#add(path, access, steps);
			if (steps.length > 0) await this.#run("add", steps);
		});
		this.#work = work.catch(() => undefined);
		return work;
	}

	/**
	 * The command line that goes before QEMU's own. It starts QEMU with this tree as its root directory, without the
	 * rights that it does not need.
	 */
	confine(templateDirectory: string, consoleFile: string): string[] {
		const setpriv = tool("setpriv");
		const rights = ["--no-new-privs", "--inh-caps", "-all"];
		return [
			...this.#enter(),
			...[tool("unshare"), "--mount", "--propagation", "slave", "--"],
			...["/bin/sh", SCRIPT, "enter", templateDirectory, consoleFile],
			...[setpriv, "--pdeathsig", "KILL", ...rights],
			...["--bounding-set", this.#isUser ? "-all" : ROOT_CAPABILITIES, "--"],
		];
	}

	async close(): Promise<void> {
		const ended = once(this.#holder, "close");
		this.#holder.kill("SIGKILL");
		if (this.#holder.exitCode === null && this.#holder.signalCode === null) await ended;
	}

	#enter(): string[] {
		const user = this.#isUser ? ["--user", "--preserve-credentials"] : [];
		return [tool("nsenter"), "--target", `${this.#holder.pid}`, ...user, "--mount", "--"];
	}

	async #run(what: string, words: readonly string[]): Promise<void> {
		const [nsenter, ...args] = [...this.#enter(), "/bin/sh", SCRIPT, what, ...words];
		const { status, stderr } = await run(nsenter!, args, { cwd: "/", accept: "any" });
		if (status === 0) return;
		throw new HostError("ERR_LAB_SHARE", `Cannot give the lab its files: ${stderr.trim()}`);
	}

	/** Mounts a share again when its path now names another file: the old mount still shows the old file. */
	#refresh(path: string, shared: Shared, steps: string[]): void {
		if (shared.mounted === undefined) return;
		const now = identity(path);
		if (now === shared.mounted) return;
		steps.push("drop", path);
		if (now === undefined) this.#shares.delete(path);
		else this.#mount(path, shared.access, steps);
	}

	#add(path: string, access: ShareAccess, steps: string[]): void {
		if (path === "/") {
			if (access === "directory") return;
			throw new HostError("ERR_LAB_SHARE", "Cannot share / with the lab", {
				hint: "Name the directories that it needs",
			});
		}
		const real = this.#follow(path, steps);
		if (real === undefined || real === "/" || isLabOwn(real)) return;
		if (RANK[this.#accessTo(real)] >= RANK[access]) return;
		this.#mount(real, access, steps);
	}

	/** Mounts a share. It covers the shares below its path, so these are mounted again. */
	#mount(path: string, access: ShareAccess, steps: string[]): void {
		this.#shares.set(path, { access, mounted: access === "directory" ? undefined : identity(path) });
		steps.push(access, path);
		if (access === "directory") return;
		const inside = [...this.#shares].filter(([other]) => other !== path && isWithin(other, path));
		for (const [other, shared] of inside.sort(([a], [b]) => a.length - b.length)) {
			shared.mounted = shared.access === "directory" ? undefined : identity(other);
			if (shared.mounted !== undefined) steps.push(shared.access, other);
		}
	}

	/** What the lab may do at a real path. The innermost share decides. */
	#accessTo(path: string): ShareAccess {
		let found: ShareAccess = "none";
		let depth = 0;
		for (const [share, { access }] of this.#shares) {
			const decides = access === "directory" ? share === path : isWithin(path, share);
			if (decides && share.length > depth) {
				found = access;
				depth = share.length;
			}
		}
		return found;
	}

	/** Finds the real path and makes the symbolic links on the way in the tree. Undefined when nothing is there. */
	#follow(path: string, steps: string[]): string | undefined {
		let rest = path.split("/").filter((part) => part !== "");
		let at = "/";
		for (let links = 0; rest.length > 0; ) {
			const next = join(at, rest.shift()!);
			const found = look(next);
			if (found === undefined) return undefined;
			if (!found.isSymbolicLink()) {
				at = next;
				continue;
			}
			if (++links > LINKS_MAX) return undefined;
			if (RANK[this.#accessTo(next)] < RANK.ro && !isLabOwn(next)) steps.push("link", next);
			rest = [
				...resolve(dirname(next), readlinkSync(next))
					.split("/")
					.filter((part) => part !== ""),
				...rest,
			];
			at = "/";
		}
		return at;
	}
}

function hold(isUser: boolean): ChildProcessWithoutNullStreams {
	const user = isUser ? ["--user", "--map-root-user"] : [];
	const unshare = [tool("unshare"), ...user, "--mount", "--propagation", "slave", "--", "/bin/sh", SCRIPT, "hold"];
	const [program, words] = boundCommand(unshare);
	return spawn(program, words, { cwd: "/" });
}

function tool(name: string): string {
	const path = findTool(name);
	if (path === undefined) throw toolMissing(name);
	return path;
}

/**
 * What QEMU itself needs: the system's programs and libraries, /proc (it changes a file's mode through it), and the
 * directory of the real resolv.conf.
 */
function systemOfQemu(): string[] {
	const directories = [...SYSTEM_DIRECTORIES, "/proc"].filter((path) => look(path) !== undefined);
	const names = statSync("/etc/resolv.conf", { throwIfNoEntry: false });
	const server = names === undefined ? "/etc" : dirname(realpathSync("/etc/resolv.conf"));
	return directories.some((directory) => isWithin(server, directory)) ? directories : [...directories, server];
}

/** lstat(2). Undefined when nothing is there, or when we may not look. */
function look(path: string): Stats | undefined {
	try {
		return lstatSync(path);
	} catch {
		return undefined;
	}
}

function identity(path: string): string | undefined {
	const found = look(path);
	return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}
