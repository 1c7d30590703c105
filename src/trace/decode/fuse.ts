/*
 * virtio-fs (virtio 1.2 §5.11): FUSE requests with fuse_in_header, answers with fuse_out_header.
 */
import { getU64 } from "../../base/u64.ts";
import * as constants from "../../virtio/fs/constants.ts";
import { fuse_in_header, fuse_out_header } from "../../virtio/fs/structs.ts";
import { type Decoder, nameOf } from "./decoder.ts";

const OPCODE_NAMES: ReadonlySet<string> = new Set([
	"FUSE_LOOKUP",
	"FUSE_FORGET",
	"FUSE_GETATTR",
	"FUSE_SETATTR",
	"FUSE_READLINK",
	"FUSE_SYMLINK",
	"FUSE_MKNOD",
	"FUSE_MKDIR",
	"FUSE_UNLINK",
	"FUSE_RMDIR",
	"FUSE_RENAME",
	"FUSE_LINK",
	"FUSE_OPEN",
	"FUSE_READ",
	"FUSE_WRITE",
	"FUSE_STATFS",
	"FUSE_RELEASE",
	"FUSE_FSYNC",
	"FUSE_SETXATTR",
	"FUSE_GETXATTR",
	"FUSE_LISTXATTR",
	"FUSE_REMOVEXATTR",
	"FUSE_FLUSH",
	"FUSE_INIT",
	"FUSE_OPENDIR",
	"FUSE_READDIR",
	"FUSE_RELEASEDIR",
	"FUSE_FSYNCDIR",
	"FUSE_CREATE",
	"FUSE_DESTROY",
	"FUSE_BATCH_FORGET",
	"FUSE_FALLOCATE",
	"FUSE_READDIRPLUS",
	"FUSE_RENAME2",
	"FUSE_LSEEK",
	"FUSE_COPY_FILE_RANGE",
	"FUSE_SYNCFS",
	"FUSE_TMPFILE",
]);
const OPCODES = new Map(
	Object.entries(constants).flatMap(([name, value]) => (OPCODE_NAMES.has(name) ? [[value, name] as const] : [])),
);
/** Requests whose name stands right behind the header. */
const NAMED = new Set(["FUSE_LOOKUP", "FUSE_UNLINK", "FUSE_RMDIR", "FUSE_SYMLINK", "FUSE_REMOVEXATTR"]);
const NAME_BYTES = 256;
const IN = new Uint8Array(fuse_in_header.sizeof + NAME_BYTES);
const IN_VIEW = new DataView(IN.buffer);
const OUT = new Uint8Array(fuse_out_header.sizeof);
const OUT_VIEW = new DataView(OUT.buffer);

export const fuseDecoder: Decoder = {
	queueName: (queue, queues) => {
		if (queue === 0) return "hiprio";
		return queues > 2 ? `request${queue}` : "request";
	},
	request({ chain: { readable } }) {
		const copied = readable.copyTo(IN);
		if (copied < fuse_in_header.sizeof) return undefined;
		const opcode = nameOf(OPCODES, IN_VIEW.getUint32(fuse_in_header.opcode, true), "FUSE_");
		const name = NAMED.has(opcode) ? textIn(IN.subarray(fuse_in_header.sizeof, copied)) : undefined;
		return {
			protocol: "fuse",
			opcode,
			nodeid: getU64(IN_VIEW, fuse_in_header.nodeid),
			unique: getU64(IN_VIEW, fuse_in_header.unique),
			...(name === undefined ? {} : { name }),
		};
	},
	answer({ chain: { writable }, written }) {
		if (written < OUT.length || writable.copyTo(OUT) < OUT.length) return undefined;
		const error = -OUT_VIEW.getInt32(fuse_out_header.error, true) | 0;
		return { protocol: "fuse", unique: getU64(OUT_VIEW, fuse_out_header.unique), error };
	},
};

function textIn(bytes: Uint8Array): string | undefined {
	const end = bytes.indexOf(0);
	return end < 0 ? undefined : Buffer.from(bytes.subarray(0, end)).toString();
}
