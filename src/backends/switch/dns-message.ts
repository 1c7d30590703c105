/*
 * DNS messages (RFC 1035 §4) as far as a server needs them that knows addresses only: it reads the one question of a
 * query, and writes an answer that repeats it.
 *
 *     0 id  2 flags  4 questions  6 answers  8 authorities  10 additionals | 12 name type class | answers
 */

const HEADER_BYTES = 12;
const QR = 0x8000;
const OPCODE = 0x7800;
const AA = 0x0400;
const RD = 0x0100;
const RA = 0x0080;
export const RCODE_SERVFAIL = 2;

export const TYPE_A = 1;
const CLASS_IN = 1;
/** A pointer (§4.1.4) to the name in the question, which is always there. */
const QUESTION_NAME = 0xc000 | HEADER_BYTES;
const MOST_LABEL_BYTES = 63;

/** The question of a query. */
export interface Question {
	/** In lower case, without the last dot. */
	name: string;
	type: number;
	/** Where it ends in the message. */
	endBytes: number;
}

/** The question of a query; undefined for what is no query of one question about the internet. */
export function readQuestion(message: Buffer): Question | undefined {
	if (message.length < HEADER_BYTES) return undefined;
	if ((message.readUInt16BE(2) & (QR | OPCODE)) !== 0 || message.readUInt16BE(4) !== 1) return undefined;
	const labels: string[] = [];
	let at = HEADER_BYTES;
	for (;;) {
		const length = message[at];
		/* A pointer has the two highest bits. The first name has nothing to point to. */
		if (length === undefined || length > MOST_LABEL_BYTES) return undefined;
		at++;
		if (length === 0) break;
		if (at + length > message.length || labels.length > 127) return undefined;
		labels.push(message.toString("latin1", at, at + length).toLowerCase());
		at += length;
	}
	if (at + 4 > message.length || message.readUInt16BE(at + 2) !== CLASS_IN) return undefined;
	return { name: labels.join("."), type: message.readUInt16BE(at), endBytes: at + 4 };
}

/** The answer with these addresses, 4 bytes each: none means that the name has no record of the type that was asked. */
export function answerWith(
	query: Buffer,
	{ endBytes }: Question,
	addresses: readonly Buffer[],
	ttlSeconds: number,
): Buffer {
	const records = addresses.map((address) => {
		const record = Buffer.alloc(12);
		record.writeUInt16BE(QUESTION_NAME, 0);
		record.writeUInt16BE(TYPE_A, 2);
		record.writeUInt16BE(CLASS_IN, 4);
		record.writeUInt32BE(ttlSeconds, 6);
		record.writeUInt16BE(address.length, 10);
		return Buffer.concat([record, address]);
	});
	return Buffer.concat([header(query, AA, records.length), query.subarray(HEADER_BYTES, endBytes), ...records]);
}

/** The answer that there is none, and why (RCODE). */
export function failWith(query: Buffer, { endBytes }: Question, rcode: number): Buffer {
	return Buffer.concat([header(query, rcode, 0), query.subarray(HEADER_BYTES, endBytes)]);
}

function header(query: Buffer, flags: number, answers: number): Buffer {
	const header = Buffer.alloc(HEADER_BYTES);
	header.writeUInt16BE(query.readUInt16BE(0), 0);
	header.writeUInt16BE(QR | RA | (query.readUInt16BE(2) & RD) | flags, 2);
	header.writeUInt16BE(1, 4);
	header.writeUInt16BE(answers, 6);
	return header;
}
