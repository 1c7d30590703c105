/*
 * A listening unix socket of a machine. Only its owner can connect, and `close` removes it.
 *
 * The socket is bound in a temporary directory and gets its name by link(2) once it listens and its mode is set. So nobody
 * can connect too early. link(2) fails when the name is taken. A socket that a killed process left is removed under a
 * lock, so that only one of several processes takes its place.
 */
import { chmodSync, linkSync, lstatSync, mkdtempSync, rmSync, statSync, unlinkSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { errnoName, explain, HostError } from "../base/errors.ts";
import { withFileLock } from "../host/file-lock.ts";

/** The most connections at once. */
const MAX_CLIENTS = 1024;
/** sizeof(sockaddr_un.sun_path) without the NUL. Node cuts longer paths and does not say so. */
const MAX_PATH_BYTES = 107;
/** "/.XXXXXX/s", the socket's first name. */
const FIRST_NAME_BYTES = 10;
/** A process that can connect to the socket can reach the guest. */
const OWNER_ONLY = 0o600;

export class UnixListener {
	readonly #path: string;
	readonly #server: Server;
	/** The socket's inode. Another socket may have its name by now. */
	readonly #ino: bigint;
	/** The lock file of a take-over; removed with the socket. */
	#lockPath: string | undefined;

	private constructor(path: string, server: Server, ino: bigint) {
		this.#path = path;
		this.#server = server;
		this.#ino = ino;
	}

	/**
	 * Listens at `path`. Replaces a socket there that nobody listens on.
	 *
	 * @param onClient gets each connection; half-open use is allowed
	 * @throws HostError ERR_SOCKET_IN_USE when somebody listens there, ERR_SOCKET when the path cannot be a socket
	 */
	static async open(path: string, onClient: (socket: Socket) => void): Promise<UnixListener> {
		checkPath(path);
		const server = createServer({ allowHalfOpen: true }, onClient);
		server.maxConnections = MAX_CLIENTS;
		try {
			return await UnixListener.#named(path, server);
		} catch (error) {
			server.close();
			if (error instanceof HostError) throw error;
			throw new HostError("ERR_SOCKET", `Cannot listen on ${path}: ${explain(error)}`, { cause: error });
		}
	}

	/** Ends listening, but not the connections. Resolves when those have ended, too. */
	async close(): Promise<void> {
		if (inodeOf(this.#path) === this.#ino) {
			if (this.#lockPath !== undefined) rmSync(this.#lockPath, { force: true });
			unlinkSync(this.#path);
		}
		if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
	}

	static async #named(path: string, server: Server): Promise<UnixListener> {
		const directory = mkdtempSync(`${dirname(path)}/.`);
		try {
			const first = join(directory, "s");
			await new Promise<void>((resolve, reject) => {
				server.once("error", reject);
				server.listen(first, resolve);
			});
			chmodSync(first, OWNER_ONLY);
			const listener = new UnixListener(path, server, inodeOf(first)!);
			if (!linked(first, path)) await listener.#takeOver(first);
			return listener;
		} finally {
			rmSync(directory, { recursive: true, force: true });
		}
	}

	/** Takes the place of a socket that nobody listens on. */
	async #takeOver(first: string): Promise<void> {
		const path = this.#path;
		await refuseLive(path);
		/*
		 * The lock's owner removes the lock file only after it listens. A process that waited for the lock then finds the
		 * socket in use.
		 */
		const lockPath = `${path}.lock`;
		await withFileLock(lockPath, async () => {
			do {
				await refuseLive(path);
				rmSync(path, { force: true });
			} while (!linked(first, path));
			this.#lockPath = lockPath;
		});
	}
}

/** Gives the file at `from` the name `to` as well. False when that is taken. */
function linked(from: string, to: string): boolean {
	try {
		linkSync(from, to);
		return true;
	} catch (error) {
		if (errnoName(error) === "EEXIST") return false;
		throw error;
	}
}

function inodeOf(path: string): bigint | undefined {
	return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

/** @throws HostError when what is at `path` must stay: a socket that somebody listens on, or a file of another kind */
async function refuseLive(path: string): Promise<void> {
	const stat = lstatSync(path, { throwIfNoEntry: false });
	if (stat === undefined) return;
	if (!stat.isSocket())
		throw new HostError("ERR_SOCKET", `Cannot listen on ${path}: a file that is no socket is there`);
	if (!(await isLive(path))) return;
	throw new HostError("ERR_SOCKET_IN_USE", `Cannot listen on ${path}: another process listens there`, {
		hint: "Give this machine another uds path, or stop the other one",
	});
}

/** Whether somebody accepts connections at `path`. */
function isLive(path: string): Promise<boolean> {
	return new Promise((resolve) => {
		const probe = connect(path);
		probe.once("connect", () => {
			probe.destroy();
			resolve(true);
		});
		probe.once("error", (error) => {
			const errno = errnoName(error);
			resolve(errno !== "ECONNREFUSED" && errno !== "ENOENT");
		});
	});
}

/** Finds errors that libuv hides or misreports: it calls a missing directory EACCES. @throws HostError ERR_SOCKET */
function checkPath(path: string): void {
	const directory = dirname(path);
	const bytes = Math.max(Buffer.byteLength(path), Buffer.byteLength(directory) + FIRST_NAME_BYTES);
	if (bytes > MAX_PATH_BYTES) {
		throw new HostError(
			"ERR_SOCKET",
			`Cannot listen on ${path}: the path has ${bytes} bytes, a socket's takes ${MAX_PATH_BYTES}`,
		);
	}
	try {
		if (statSync(directory).isDirectory()) return;
	} catch (cause) {
		throw new HostError("ERR_SOCKET", `Cannot listen on ${path}: ${directory}: ${explain(cause)}`, { cause });
	}
	throw new HostError("ERR_SOCKET", `Cannot listen on ${path}: ${directory} is not a directory`);
}
