/*
 * Packets of GDB's remote serial protocol (GDB manual, appendix "Remote Protocol"):
 *
 *     $payload#cc    cc: the sum of the payload's bytes, two hexadecimal digits     + or -: it has arrived, or not     0x03: stop
 *
 * In a payload the bytes # $ } and * are sent as } and the byte XOR 0x20. The reader holds one packet at most, and what does
 * not fit is refused with a "-".
 */

/** Bytes of a payload that both sides must take; told to the client in hexadecimal. */
export const PACKET_BYTES = 0x4000;

const ESCAPE = 0x7d;
const ESCAPED = new Set([0x23, 0x24, 0x2a, ESCAPE]);
const INTERRUPT = 0x03;
const [DOLLAR, HASH, PLUS, MINUS] = [0x24, 0x23, 0x2b, 0x2d];

/** What a client has sent. */
export type GdbInput =
	| { readonly kind: "packet"; readonly payload: Buffer }
	/** A packet that is too long, or whose sum is wrong. */
	| { readonly kind: "damaged" }
	/** The last packet of ours did not arrive. */
	| { readonly kind: "again" }
	| { readonly kind: "interrupt" };

/** True when a client of this protocol can begin with that byte. A browser, which can be led here, begins with a letter. */
export function isFirstByte(byte: number): boolean {
	return [DOLLAR, PLUS, MINUS, INTERRUPT].includes(byte);
}

export class PacketReader {
	readonly #payload = Buffer.alloc(PACKET_BYTES);
	#length = 0;
	#sum = 0;
	#state: "outside" | "payload" | "sum1" | "sum2" = "outside";
	#digits = "";

	/** Takes bytes until something is whole. Returns it with how many bytes it took, or undefined when all are taken. */
	next(bytes: Uint8Array): { input: GdbInput; taken: number } | undefined {
		for (let i = 0; i < bytes.length; i++) {
			const input = this.#byte(bytes[i]!);
			if (input !== undefined) return { input, taken: i + 1 };
		}
		return undefined;
	}

	#byte(byte: number): GdbInput | undefined {
		switch (this.#state) {
			case "outside":
				if (byte === INTERRUPT) return { kind: "interrupt" };
				if (byte === MINUS) return { kind: "again" };
				if (byte === DOLLAR) this.#begin();
				return undefined;
			case "payload":
				/* A new packet: the end of the one before was lost. */
				if (byte === DOLLAR) this.#begin();
				else if (byte === HASH) this.#state = "sum1";
				else {
					if (this.#length < PACKET_BYTES) this.#payload[this.#length] = byte;
					this.#length++;
					this.#sum = (this.#sum + byte) & 0xff;
				}
				return undefined;
			case "sum1":
				this.#digits = String.fromCharCode(byte);
				this.#state = "sum2";
				return undefined;
			case "sum2":
				this.#digits += String.fromCharCode(byte);
				this.#state = "outside";
				if (this.#length > PACKET_BYTES || this.#digits.toLowerCase() !== hexByte(this.#sum))
					return { kind: "damaged" };
				return { kind: "packet", payload: withoutEscapes(this.#payload.subarray(0, this.#length)) };
		}
	}

	#begin(): void {
		this.#state = "payload";
		this.#length = 0;
		this.#sum = 0;
	}
}

/** A packet with this payload. */
export function encodePacket(payload: Uint8Array | string): Buffer {
	const plain = typeof payload === "string" ? Buffer.from(payload, "latin1") : payload;
	const packet = Buffer.alloc(2 * plain.length + 4);
	let at = packet.write("$", "latin1");
	let sum = 0;
	const put = (byte: number) => {
		packet[at++] = byte;
		sum = (sum + byte) & 0xff;
	};
	for (const byte of plain) {
		if (ESCAPED.has(byte)) put(ESCAPE);
		put(ESCAPED.has(byte) ? byte ^ 0x20 : byte);
	}
	at += packet.write(`#${hexByte(sum)}`, at, "latin1");
	return packet.subarray(0, at);
}

function hexByte(value: number): string {
	return value.toString(16).padStart(2, "0");
}

function withoutEscapes(payload: Buffer): Buffer {
	const plain = Buffer.alloc(payload.length);
	let length = 0;
	for (let i = 0; i < payload.length; i++) {
		const isEscape = payload[i] === ESCAPE && i + 1 < payload.length;
		plain[length++] = isEscape ? payload[++i]! ^ 0x20 : payload[i]!;
	}
	return plain.subarray(0, length);
}
