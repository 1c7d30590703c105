/*
 * Events for containerd, in order: each is sent when the one before was taken.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { log } from "../base/log.ts";
import { encode, type Message, timestamp } from "./messages.ts";
import { TtrpcClient } from "./ttrpc.ts";

/** Topics by the message that is sent. */
const TOPICS = {
	TaskCreate: "/tasks/create",
	TaskStart: "/tasks/start",
	TaskExit: "/tasks/exit",
	TaskOOM: "/tasks/oom",
	TaskDelete: "/tasks/delete",
	TaskExecAdded: "/tasks/exec-added",
	TaskExecStarted: "/tasks/exec-started",
	TaskPaused: "/tasks/paused",
	TaskResumed: "/tasks/resumed",
} as const;

export type TaskEvent = keyof typeof TOPICS;

/** At once when only the connection was old, then as long as containerd's own shims try. */
const RETRIES_MS = [0, 1000, 2000, 3000, 4000];
const SERVICE = "containerd.services.events.ttrpc.v1.Events";

export class EventPublisher {
	readonly #address: string | undefined;
	/** containerd's, whose events these are. */
	readonly namespace: string;
	readonly #retriesMs: readonly number[];
	#client: TtrpcClient | undefined;
	#sent: Promise<void> = Promise.resolve();

	/**
	 * @param address of containerd's ttrpc socket; nobody is told without one
	 * @param retriesMs how long to wait before each new attempt
	 */
	constructor(address: string | undefined, namespace: string, retriesMs: readonly number[] = RETRIES_MS) {
		this.#address = address?.replace(/^unix:\/\//, "");
		this.namespace = namespace;
		this.#retriesMs = retriesMs;
	}

	publish(event: TaskEvent, message: Message): void {
		const envelope = {
			timestamp: timestamp(),
			namespace: this.namespace,
			topic: TOPICS[event],
			event: { type_url: `containerd.events.${event}`, value: encode(event, message) },
		};
		this.#sent = this.#sent.then(() => this.#send(encode("ForwardRequest", { envelope }), event));
	}

	/** Resolves when all events were sent. */
	async close(): Promise<void> {
		await this.#sent;
		this.#client?.close();
	}

	/** Again and again by a new connection, because containerd may just be started anew. */
	async #send(payload: Buffer, event: TaskEvent): Promise<void> {
		if (this.#address === undefined) return;
		for (const waitMs of [...this.#retriesMs, undefined]) {
			try {
				this.#client ??= new TtrpcClient(this.#address);
				await this.#client.call(SERVICE, "Forward", payload);
				return;
			} catch (error) {
				this.#client?.close();
				this.#client = undefined;
				if (waitMs === undefined) log("warn", `cannot tell containerd of ${event}: ${(error as Error).message}`);
				else await sleep(waitMs);
			}
		}
	}
}
