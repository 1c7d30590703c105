/*
 * Where a container lives on the host:
 *
 *     STATE/containers/ID/   config.json    what it is; only `rename` and `update` change it
 *                            state.json     how it is, as its supervisor last wrote it
 *                            lock           held by the supervisor as long as it lives, however it dies
 *                            operation.lock held by start and remove while they are at work
 *                            writable.img   what it has written: the upper layer, a sparse ext4
 *                            log.json       its output
 *                            initialized    there once writable.img holds a file system
 *     RUNTIME/c/ID12/        control, agent, attach: sockets of the supervisor
 *
 * A state.json that says "running" beside a lock that is free is of a supervisor that was killed.
 */
import { join } from "node:path";
import { runtimeDirectory, stateDirectory } from "../../host/directories.ts";

/** The directory that holds every container's. */
export function containersDirectory(): string {
	return join(stateDirectory(), "containers");
}

export class ContainerPaths {
	readonly id: string;
	/** Its state, kept. */
	readonly directory: string;
	readonly config: string;
	readonly state: string;
	readonly lock: string;
	readonly operationLock: string;
	readonly writable: string;
	readonly log: string;
	/** Its sockets, there while it runs. A socket's path takes no more than 107 bytes. */
	readonly sockets: string;
	readonly control: string;
	readonly agent: string;
	readonly attach: string;

	/** @param id 64 hexadecimal digits */
	constructor(id: string, directory = join(containersDirectory(), id)) {
		this.id = id;
		this.directory = directory;
		this.config = join(directory, "config.json");
		this.state = join(directory, "state.json");
		this.lock = join(directory, "lock");
		this.operationLock = join(directory, "operation.lock");
		this.writable = join(directory, "writable.img");
		this.log = join(directory, "log.json");
		this.sockets = join(runtimeDirectory(), "c", id.slice(0, 12));
		this.control = join(this.sockets, "control");
		this.agent = join(this.sockets, "agent");
		this.attach = join(this.sockets, "attach");
	}
}
