/*
 * Connections that have a packet to send, in the order of their arrival. The list is linked through the connections, so
 * a packet allocates nothing.
 */
import type { Connection } from "./connection.ts";

export class Schedule {
	#head: Connection | undefined;
	#tail: Connection | undefined;

	/** The next connection that still has a packet to send. Takes those off that have none. */
	get first(): Connection | undefined {
		while (this.#head !== undefined && !this.#head.hasPending()) this.remove(this.#head);
		return this.#head;
	}

	/** Puts a connection at the end, unless it is in the list. */
	add(connection: Connection): void {
		if (connection.scheduled) return;
		connection.scheduled = true;
		if (this.#tail === undefined) this.#head = connection;
		else this.#tail.next = connection;
		this.#tail = connection;
	}

	/** Takes a connection off the list, so that a closed one costs no receive buffer. */
	remove(connection: Connection): void {
		if (!connection.scheduled) return;
		let before: Connection | undefined;
		for (let at = this.#head; at !== undefined && at !== connection; at = at.next) before = at;
		if (before === undefined) this.#head = connection.next;
		else before.next = connection.next;
		if (this.#tail === connection) this.#tail = before;
		connection.next = undefined;
		connection.scheduled = false;
	}
}
