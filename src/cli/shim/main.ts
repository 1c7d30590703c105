/*
 * containerd-shim-tsvmm-v2: what containerd starts for each pod or container (containerd docs/runtime-v2.md).
 *
 *     start    prints the address of the shim that serves the task: the pod's, or a new one that stays
 *     delete   clears away what a shim that was killed has left
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { explain } from "../../base/errors.ts";
import { launchDetached, readinessReporter } from "../../host/detached-process.ts";
import { withFileLock } from "../../host/file-lock.ts";
import { tsvmmVersion } from "../../host/package-version.ts";
import { connectTo } from "../../host/request-socket.ts";
import { readBundle } from "../../oci/bundle.ts";
import { podOf } from "../../oci/pod.ts";
import { OciContainer } from "../../oci/state.ts";
import { EventPublisher } from "../../shim/events.ts";
import { encode, timestamp } from "../../shim/messages.ts";
import { unmountRootfs } from "../../shim/rootfs.ts";
import { TaskService } from "../../shim/task-service.ts";
import { serve } from "../../shim/ttrpc.ts";
import { removeContainer } from "../oci/life.ts";

const NAME = "io.containerd.tsvmm.v2";
const SOCKETS = "/run/containerd/s";
const STATES = "/run/tsvmm-shim";
/** No namespace of containerd's has such a name. */
const LOCK = `${STATES}/.lock`;
/** 128 + SIGKILL: what a task is said to have ended with whose shim was killed. */
const KILLED = 137;

interface Flags {
	namespace: string;
	address: string;
	id: string;
	bundle: string;
	socket: string;
}

/** Runs one command line. @returns the exit status */
export async function shimMain(argv: readonly string[]): Promise<number> {
	try {
		const { values, positionals } = parseArgs({ args: argv.map(goFlag), options: OPTIONS, allowPositionals: true });
		const { namespace = "", address = "", id = "", bundle = process.cwd(), socket = "" } = values;
		if (values.v === true || values.info === true) {
			process.stdout.write(`${NAME} version ${tsvmmVersion()}\n`);
			return 0;
		}
		const flags = { namespace, address, id, bundle, socket };
		switch (positionals[0]) {
			case "start":
				process.stdout.write(await start(flags));
				return 0;
			case "delete":
				process.stdout.write(await remove(flags));
				return 0;
			case "serve":
				return await serveTasks(flags);
			default:
				throw new Error(`unknown action ${JSON.stringify(positionals[0] ?? "")}: start or delete is wanted`);
		}
	} catch (error) {
		process.stderr.write(`${NAME}: ${explain(error)}\n`);
		return 1;
	}
}

const OPTIONS = {
	namespace: { type: "string" },
	address: { type: "string" },
	"publish-binary": { type: "string" },
	id: { type: "string" },
	bundle: { type: "string" },
	socket: { type: "string" },
	debug: { type: "boolean" },
	v: { type: "boolean" },
	info: { type: "boolean" },
} as const;

/** Go's flags have one dash. */
function goFlag(word: string): string {
	return /^-[a-z]/.test(word) ? `-${word}` : word;
}

/** @returns the address of the shim for a task */
async function start({ namespace, address, id, bundle }: Flags): Promise<string> {
	const group = podOf(readBundle(bundle).config) ?? id;
	const hash = createHash("sha256")
		.update(join(address, namespace, group))
		.digest("hex");
	const socket = join(SOCKETS, hash);
	if (!(await isServed(socket))) {
		await launchDetached({
			words: ["shim", "-namespace", namespace, "-address", address, "-id", id, "-socket", socket, "serve"],
			log: join(bundle, "shim.log"),
			attempt: "cannot start the shim: it",
			code: "ERR_OCI_FAILED",
		});
	}
	writeFileSync(join(bundle, "address"), `unix://${socket}`);
	return `unix://${socket}`;
}

async function isServed(socket: string): Promise<boolean> {
	const found = await connectTo(socket);
	found?.destroy();
	return found !== undefined;
}

/** Two that are started at once for one pod, and one that ends, do not come between one another. */
async function alone<T>(work: () => Promise<T>): Promise<T> {
	mkdirSync(STATES, { recursive: true, mode: 0o711 });
	return await withFileLock(LOCK, work);
}

async function serveTasks({ namespace, socket }: Flags): Promise<number> {
	const onReady = readinessReporter("ERR_OCI_FAILED");
	try {
		const events = new EventPublisher(process.env.TTRPC_ADDRESS, namespace);
		const service = new TaskService(join(STATES, namespace), events);
		const close = await alone(() => listen(socket, service));
		onReady();
		/* Another one serves the pod. */
		if (close === undefined) return 0;
		await service.shutdown;
		await events.close();
		await alone(async () => {
			close();
			rmSync(socket, { force: true });
		});
		return 0;
	} catch (error) {
		onReady(error);
		return 1;
	}
}

/** @returns what ends it; undefined when another shim serves there */
async function listen(socket: string, service: TaskService): Promise<(() => void) | undefined> {
	if (await isServed(socket)) return undefined;
	mkdirSync(dirname(socket), { recursive: true, mode: 0o711 });
	rmSync(socket, { force: true });
	return await serve(socket, service.methods);
}

/** Also called when all is in order. @returns what the task is said to have ended with */
async function remove({ namespace, id, bundle }: Flags): Promise<Buffer> {
	const container = new OciContainer(join(STATES, namespace), id);
	const pid = await removeContainer(container).catch(() => 0);
	await unmountRootfs(join(bundle, "rootfs"));
	await removeSocket(join(bundle, "address"));
	return encode("DeleteResponse", { pid, exit_status: KILLED, exited_at: timestamp() });
}

/** A shim that was killed has left it. */
async function removeSocket(address: string): Promise<void> {
	if (!existsSync(address)) return;
	const socket = readFileSync(address, "utf8").replace(/^unix:\/\//, "");
	await alone(async () => {
		if (dirname(socket) === SOCKETS && !(await isServed(socket))) rmSync(socket, { force: true });
	});
}
