/*
 * What a device is connected to on the host. The only file that virtio/ and backends/ share: a device holds a backend
 * by one of these interfaces. A backend never learns which device that is. No guest address crosses here, only bytes
 * (Segments). A backend may complete a request inside `submit`, but never inside the call that makes the request.
 */
import type { Duplex } from "node:stream";
import type { Segments } from "../base/segments.ts";

export type {
	Answer,
	AttributeChanges,
	Attributes,
	DirectoryEntry,
	FilePosition,
	FileSystem,
	FileSystemStatus,
	NewNode,
	NewTime,
	OpenFile,
	Place,
} from "./file-system.ts";

/** How a block request ended, as the device reports it: 0 is success, "io" VIRTIO_BLK_S_IOERR, "unsupported" S_UNSUPP. */
export type BlockResult = "ok" | "io" | "unsupported";

/**
 * A disk. Offsets and lengths are in bytes, multiples of 512, and inside `sizeBytes`: the device has checked them.
 * `token` names the request (0 to 1023, unique among those in flight); the segments stay valid until its completion.
 */
export interface BlockBackend {
	/** Size of the disk. What is not a whole sector of 512 bytes is not used. */
	readonly sizeBytes: number;
	/** Neither written nor discarded. */
	readonly readOnly: boolean;
	/** Called once before the first request. */
	start(complete: (token: number, result: BlockResult) => void): void;
	/** Fills `into` from the disk. */
	read(token: number, offsetBytes: number, into: Segments): void;
	/** Writes `from` to the disk. */
	write(token: number, offsetBytes: number, from: Segments): void;
	/** Makes stable what was completed before. */
	flush(token: number): void;
	/** The range is not needed any more; what it reads as afterwards is undefined. */
	discard(token: number, offsetBytes: number, lengthBytes: number): void;
	/** The range reads as zeroes afterwards; `mayUnmap` allows to give its room back. */
	writeZeroes(token: number, offsetBytes: number, lengthBytes: number, mayUnmap: boolean): void;
	/** Ends a batch: everything queued since the last call goes to the host now, in one system call where it can. */
	submit(): void;
	/** Resolves when nothing is in flight any more and the host resources are released. A second call does nothing. */
	close(): Promise<void>;
}

/** Offloads that a network backend can do (virtio 1.2 §5.1.3.1 names). All false for a plain frame carrier. */
export interface NetOffloads {
	/** Frames carry a struct virtio_net_hdr (12 bytes, virtio 1.x) in front, which backend and guest exchange as it is. */
	readonly vnetHeader: boolean;
	/** CSUM: the backend takes frames with partial checksums from the guest. */
	readonly csum: boolean;
	/** HOST_TSO4/6: and large TCP segments. */
	readonly tso: boolean;
	/** GUEST_CSUM: the backend may hand such frames to the guest. */
	readonly guestCsum: boolean;
	/** GUEST_TSO4/6: and such segments. */
	readonly guestTso: boolean;
}

/** What a network backend tells its device. */
export interface NetEvents {
	/** `receive` may have a frame now; called again only after `receive` has returned 0. */
	readable(): void;
	/** `send` would take a frame again after it returned false. */
	writable(): void;
	/** The network is gone for good: from now on `send` takes every frame and drops it. */
	linkDown(): void;
}

/** A network: frames in, frames out. Lengths in bytes, Ethernet header included, no FCS. */
export interface NetBackend {
	/** What it can do besides carrying plain frames. */
	readonly offloads: NetOffloads;
	/** Largest IP packet that the network carries, announced to the driver when given; 1500 is meant otherwise. */
	readonly mtu?: number;
	/** Called once, before anything else. */
	start(events: NetEvents): void;
	/** Tells which guest offloads the driver accepted. */
	setGuestOffloads(csum: boolean, tso: boolean): void;
	/** Takes a frame (with header if `vnetHeader`); false: no room now, offer it again after `writable`. */
	send(frame: Segments): boolean;
	/** Fills in the next frame; its length in bytes, 0 when none waits, -1 when it did not fit and was dropped. */
	receive(into: Segments): number;
	/** Releases the host resources. A second call does nothing. */
	close(): Promise<void>;
}

/**
 * The guest as a vsock backend sees it: ports that a stream can be connected to. The device moves the bytes; it pauses
 * and resumes the stream, ends each half as the guest ends it, and destroys it when the connection is reset.
 */
export interface VsockGuest {
	/**
	 * Asks for a connection to `port` of the guest. `answer` is called once: with the host-side port when the guest has
	 * accepted, before any byte of the guest reaches `stream`; with undefined when it refused or is not there, in which
	 * case the stream stays the caller's. A stream destroyed before the answer withdraws the request.
	 */
	connect(port: number, stream: Duplex, answer: (hostPort: number | undefined) => void): void;
}

/** What the guest's vsock reaches on the host (context ID 2). */
export interface VsockBackend {
	/** Called once, before anything else. */
	start(guest: VsockGuest): void;
	/** The guest connects to `port` of the host. The stream must allow half-open use; undefined refuses. */
	open(port: number): Promise<Duplex | undefined>;
	/** Releases the host resources. A second call does nothing. */
	close(): Promise<void>;
}

/** What a console tells whoever writes to it. */
export interface ConsoleEvents {
	/** Someone typed. The bytes are valid during the call only. The device keeps all of them; see `setInputWanted`. */
	input(bytes: Uint8Array): void;
	/** `write` has room again after it returned false. */
	writable(): void;
	/** The terminal has another size now, in characters. */
	resized(columns: number, rows: number): void;
}

/**
 * A console: a terminal, or a file that stands for one; bytes out, bytes in. Only `write` and `close` must be there. What
 * waits for a slow reader stays with the guest: whoever writes stops when `write` says so.
 */
export interface ConsoleBackend {
	/** Size of the terminal in characters; missing or undefined when it has none. */
	readonly size?: { readonly columns: number; readonly rows: number } | undefined;
	/** Called once, before anything else; may be missing where there is never an event. */
	start?(events: ConsoleEvents): void;
	/**
	 * Takes output, all of it, and without waiting. `bytes` are valid during the call only: copy them. False: no more
	 * before `writable`. The end of a machine, a pause and emergency writes may add a few KiB all the same.
	 */
	write(bytes: Uint8Array): boolean;
	/** False: keep input for now, the guest reads too slowly. True: go on. Missing where there is never any input. */
	setInputWanted?(wanted: boolean): void;
	/**
	 * Releases the host resources; output that still waits for its reader may be given up after a while. A second call
	 * does nothing.
	 */
	close(): Promise<void>;
}
