/*
 * What happens to containers and pods, as `events` tells it: an append-only file, a line of JSON per event in Docker's shape.
 *
 *     STATE/events.json      each command and supervisor appends, a line per write
 *     STATE/events.old.json  the file before, once it has reached 8 MiB
 */
import { closeSync, fstatSync, openSync, renameSync, statSync, writeSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoName, explain } from "../../base/errors.ts";
import { log } from "../../base/log.ts";
import { stateDirectory } from "../../host/directories.ts";
import { tryLockFile } from "../../host/file-lock.ts";
import type { ContainerConfig } from "./config.ts";

/** Docker's events.Message. */
export interface ContainerEvent {
	/** What it did, and to whom, once more: Docker's older fields. */
	status: string;
	id: string;
	from: string;
	Type: "container" | "pod";
	Action: string;
	Actor: { ID: string; Attributes: Record<string, string> };
	scope: "local";
	/** In seconds and in ns since 1970. */
	time: number;
	timeNano: number;
}

export interface EventSelection {
	/** Only what is not older, in ms since 1970; what comes from now on when missing. */
	sinceMs?: number | undefined;
	/** Ends with what is newer; never when missing. */
	untilMs?: number | undefined;
	/** Asked while nothing happens: whether somebody still reads. */
	goesOn?: (() => boolean) | undefined;
}

/** A file that has become so large is put aside. */
const ROTATE_BYTES = 8 << 20;
const CHUNK_BYTES = 64 * 1024;
const POLL_MS = 50;

function eventsPath(): string {
	return join(stateDirectory(), "events.json");
}

function oldEventsPath(): string {
	return join(stateDirectory(), "events.old.json");
}

/** Tells that something has happened to a container. What is done is done: a failure is only logged. */
export function recordEvent(
	{ id, image, name, labels, joins }: ContainerConfig,
	action: string,
	attributes: Record<string, string> = {},
): void {
	const pod = joins?.kind === "pod" ? { pod: joins.id } : {};
	record({
		...{ status: action, id, from: image.name, Type: "container", Action: action },
		Actor: { ID: id, Attributes: { ...labels, ...attributes, ...pod, image: image.name, name } },
	});
}

/** As recordEvent, for a pod itself; its containers have events of their own. */
export function recordPodEvent(
	{ id, name, labels }: { id: string; name: string; labels: Record<string, string> },
	action: "create" | "start" | "die" | "remove",
): void {
	record({
		...{ status: action, id, from: "", Type: "pod", Action: action },
		Actor: { ID: id, Attributes: { ...labels, name } },
	});
}

function record(what: Omit<ContainerEvent, "scope" | "time" | "timeNano">): void {
	const timeMs = Date.now();
	const time = { time: Math.floor(timeMs / 1000), timeNano: timeMs * 1e6 };
	const event: ContainerEvent = { ...what, scope: "local", ...time };
	try {
		append(`${JSON.stringify(event)}\n`);
	} catch (error) {
		log("warn", `Cannot write ${eventsPath()}: ${explain(error)}`);
	}
}

/** In one write, so that lines of several processes do not mix. */
function append(line: string): void {
	const path = eventsPath();
	const fd = openSync(path, "a", 0o600);
	try {
		writeSync(fd, line);
		if (fstatSync(fd).size >= ROTATE_BYTES) rotate(fd, path);
	} finally {
		closeSync(fd);
	}
}

/** Who has the lock of the file that still has the name gives it the other name. */
function rotate(fd: number, path: string): void {
	if (!tryLockFile(fd, "exclusive", path)) return;
	if (statSync(path).ino === fstatSync(fd).ino) renameSync(path, oldEventsPath());
}

/** Events in order: what there is since `sinceMs`, then what happens. Ends at `untilMs`, or when nobody reads. */
export async function* readEvents(selection: EventSelection = {}): AsyncGenerator<ContainerEvent> {
	const { sinceMs, untilMs = Number.POSITIVE_INFINITY, goesOn = () => true } = selection;
	const wanted = (event: ContainerEvent) => sinceMs === undefined || timeOf(event) >= sinceMs;
	const before = sinceMs === undefined ? undefined : await EventFile.open(oldEventsPath());
	let file = await EventFile.open(eventsPath());
	/* The same file twice: it was put aside between the two. */
	const old = before !== undefined && before.inode !== file?.inode ? before : undefined;
	try {
		if (sinceMs === undefined) await file?.toEnd();
		for (const part of [old, file]) {
			for await (const event of part?.read() ?? []) {
				if (timeOf(event) > untilMs) return;
				if (wanted(event)) yield event;
			}
		}
		for (;;) {
			/* Both are asked before the look: what was written until then is then read. */
			const over = Date.now() >= untilMs || !goesOn();
			const next = await EventFile.open(eventsPath());
			for await (const event of file?.read() ?? []) {
				if (timeOf(event) > untilMs) return;
				yield event;
			}
			if (next !== undefined && next.inode !== file?.inode) {
				await file?.close();
				file = next;
				continue;
			}
			await next?.close();
			if (over) return;
			await sleep(Math.min(POLL_MS, Math.max(0, untilMs - Date.now())));
		}
	} finally {
		await before?.close();
		await file?.close();
	}
}

/** In ms. A number as large as timeNano is not exact. */
export function timeOf({ timeNano }: ContainerEvent): number {
	return Math.round(timeNano / 1e6);
}

/** One of the files, read as far as it goes. */
class EventFile {
	readonly inode: number;
	readonly #file: FileHandle;
	#position = 0;
	#rest = Buffer.alloc(0);

	private constructor(file: FileHandle, inode: number) {
		this.#file = file;
		this.inode = inode;
	}

	/** Undefined when there is none. */
	static async open(path: string): Promise<EventFile | undefined> {
		try {
			const file = await open(path, "r");
			return new EventFile(file, (await file.stat()).ino);
		} catch (error) {
			if (errnoName(error) === "ENOENT") return undefined;
			throw error;
		}
	}

	async toEnd(): Promise<void> {
		this.#position = (await this.#file.stat()).size;
	}

	/** What is new in it. A line that cannot be read is passed over: its writer was killed. */
	async *read(): AsyncGenerator<ContainerEvent> {
		for (;;) {
			const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
			const { bytesRead } = await this.#file.read(chunk, 0, CHUNK_BYTES, this.#position);
			if (bytesRead === 0) return;
			this.#position += bytesRead;
			this.#rest = Buffer.concat([this.#rest, chunk.subarray(0, bytesRead)]);
			for (let newline = this.#rest.indexOf(0x0a); newline >= 0; newline = this.#rest.indexOf(0x0a)) {
				const event = parseEvent(this.#rest.toString("utf8", 0, newline));
				this.#rest = this.#rest.subarray(newline + 1);
				if (event !== undefined) yield event;
			}
		}
	}

	async close(): Promise<void> {
		await this.#file.close();
	}
}

function parseEvent(line: string): ContainerEvent | undefined {
	try {
		const event = JSON.parse(line) as ContainerEvent;
		const whole = typeof event.timeNano === "number" && typeof event.Actor.Attributes === "object";
		return whole ? event : undefined;
	} catch {
		return undefined;
	}
}
