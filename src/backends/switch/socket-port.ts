/*
 * A port of a switch whose other end is a unix stream socket (frame-stream.ts): a machine's StreamNet, or a QEMU.
 */
import type { Socket } from "node:net";
import { ignore } from "../../base/errors.ts";
import { FrameStream } from "../frame-stream.ts";
import type { EthernetSwitch, SwitchPort } from "./ethernet-switch.ts";

export interface SocketPortOptions {
	/** Who is at the other end, for the log. */
	name: string;
	/** The only Ethernet address that others reach here; any that it sends from when missing. */
	mac?: Uint8Array;
	/** Called once, when the other end has gone. The port is disconnected then. */
	onEnd?: () => void;
}

export class SocketPort implements SwitchPort {
	readonly #switch: EthernetSwitch;
	readonly #stream: FrameStream;

	/** Connects it to the switch. The socket is the port's from now on. */
	constructor(network: EthernetSwitch, socket: Socket, { name, mac, onEnd = ignore }: SocketPortOptions) {
		this.#switch = network;
		this.#stream = new FrameStream(socket, { name });
		network.add(this, mac);
		this.#stream.start({
			readable: () => this.#receive(),
			writable: ignore,
			lost: () => {
				network.remove(this);
				onEnd();
			},
		});
	}

	/** A frame for which the other end has no room is dropped. */
	send(frame: Buffer): void {
		this.#stream.sendBytes(frame);
	}

	/** Disconnects it. `onEnd` is not called. */
	close(): void {
		this.#switch.remove(this);
		this.#stream.close();
	}

	#receive(): void {
		for (let frame = this.#stream.take(); frame !== undefined; frame = this.#stream.take()) {
			this.#switch.receive(frame, this);
		}
	}
}
