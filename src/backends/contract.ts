/*
 * The interfaces between devices and backends, which are a device's connections to the host. This is the only file that
 * virtio/ and backends/ share. A backend does not know its device. No guest address passes here, only bytes (Segments).
 * A backend may complete a request inside `submit`, but never inside the call that makes the request.
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
	FileSystemState,
	FileSystemStatus,
	NewNode,
	NewTime,
	OpenFile,
	Place,
	SavedFile,
	SavedNode,
} from "./file-system.ts";

/** How a block request ended, as the device reports it: 0 is success, "io" VIRTIO_BLK_S_IOERR, "unsupported" S_UNSUPP. */
export type BlockResult = "ok" | "io" | "unsupported";

/**
 * A disk. Offsets and lengths are in bytes, multiples of `blockBytes`, and inside `sizeBytes`: the device has checked them.
 * `token` names the request (0 to 65535, unique among those in flight); the segments stay valid until its completion.
 */
export interface BlockBackend {
	/** Size of the disk. A last part of less than 512 bytes is not used. */
	readonly sizeBytes: number;
	/** True for a disk that is never written or discarded. */
	readonly readOnly: boolean;
	/** The least that it reads or writes, 512 to 4096 bytes, a power of two; 512 when missing. */
	readonly blockBytes?: number;
	/** What it writes best at once, a power of two, at least `blockBytes`; 4096 when missing. */
	readonly physicalBlockBytes?: number;
	/** Called once before the first request. */
	start(complete: (token: number, result: BlockResult) => void): void;
	/** Fills `into` from the disk. */
	read(token: number, offsetBytes: number, into: Segments): void;
	/** Writes `from` to the disk. */
	write(token: number, offsetBytes: number, from: Segments): void;
	/** Makes all completed requests stable. */
	flush(token: number): void;
	/** The range is not needed any more. Later reads of it give undefined bytes. */
	discard(token: number, offsetBytes: number, lengthBytes: number): void;
	/** The range reads as zeroes afterwards. With `mayUnmap` its room may be freed. */
	writeZeroes(token: number, offsetBytes: number, lengthBytes: number, mayUnmap: boolean): void;
	/** Ends a batch: all queued requests go to the host now, in one system call if possible. */
	submit(): void;
	/**
	 * Answers what is done by now, without waiting. A backend may do the same by itself at any time. Missing when it has
	 * no quick way to tell.
	 */
	poll?(): void;
	/**
	 * Brings what it keeps in memory into the host's files, so that these can be copied. Called with nothing in flight. A
	 * backend that keeps nothing needs none.
	 */
	quiesce?(): Promise<void>;
	/** Resolves when nothing is in flight and the host's resources are released. A second call does nothing. */
	close(): Promise<void>;
}

/** Offloads that a network backend can do (virtio 1.2 §5.1.3.1 names). All false for a plain frame carrier. */
export interface NetOffloads {
	/** Frames have a struct virtio_net_hdr (12 bytes, virtio 1.x): `send` gets it, `receive` gives it in front. */
	readonly vnetHeader: boolean;
	/** CSUM: the backend takes frames with partial checksums from the guest. */
	readonly csum: boolean;
	/** HOST_TSO4/6: and large TCP segments. */
	readonly tso: boolean;
	/** GUEST_CSUM: the backend may give such frames to the guest. */
	readonly guestCsum: boolean;
	/** GUEST_TSO4/6: and such segments. */
	readonly guestTso: boolean;
}

/** What a driver lets a backend give to it. */
export interface GuestOffloads {
	/** Partial checksums. */
	readonly csum: boolean;
	/** Large TCP segments. */
	readonly tso: boolean;
	/** Large TCP segments with the CWR flag (explicit congestion notification). */
	readonly ecn: boolean;
}

/** A network backend's calls to its device. */
export interface NetEvents {
	/** `receive` may have a frame now. Called again only after `receive` has returned 0. */
	readable(): void;
	/** `send` takes frames again, after it returned false. */
	writable(): void;
	/** The network has failed. From now on `send` takes and drops every frame. */
	linkDown(): void;
}

/** A network: frames in, frames out. Lengths in bytes, Ethernet header included, no FCS. */
export interface NetBackend {
	/** What it can do besides carrying plain frames. */
	readonly offloads: NetOffloads;
	/** Largest IP packet of the network. If given, the driver is told. Otherwise it is 1500. */
	readonly mtu?: number;
	/** Called once, before anything else. */
	start(events: NetEvents): void;
	/** Called with the guest offloads that the driver has accepted. */
	setGuestOffloads(accepted: GuestOffloads): void;
	/**
	 * Takes a frame. False: no room now; send it again after `writable`. `header` is there if `vnetHeader`; the device has
	 * checked it.
	 */
	send(frame: Segments, header?: Uint8Array): boolean;
	/**
	 * Fills in the next frame, after its header if `vnetHeader`. Returns its length in bytes, 0 when none waits, -1 when it did not fit and was dropped.
	 */
	receive(into: Segments): number;
	/** Releases the host's resources. A second call does nothing. */
	close(): Promise<void>;
}

/**
 * The guest as a vsock backend sees it: ports that a stream can be connected to. The device moves the bytes; it pauses
 * and resumes the stream, ends each half as the guest ends it, and destroys it when the connection is reset.
 */
export interface VsockGuest {
	/**
	 * Asks for a connection to `port` of the guest. `answer` is called once: with the host-side port when the guest has
	 * accepted, before any of its bytes reaches `stream`, or with undefined when it has refused or is not there. In the
	 * second case the caller keeps the stream. A stream destroyed before the answer withdraws the request.
	 */
	connect(port: number, stream: Duplex, answer: (hostPort: number | undefined) => void): void;
}

/** A stream of a vsock backend whose bytes can pass between the host and guest RAM without a copy. */
export interface DirectStream extends Duplex {
	/** `readNow` may give bytes. */
	readonly mayRead: boolean;
	/** Sends bytes now. Returns how many went: `write` has to take the rest. */
	writeNow(from: Segments): number;
	/** From now on `readNow` gives what comes, and no "data" comes. Undefined goes back to "data". "end" comes either way. */
	onReadable(readable: (() => void) | undefined): void;
	/** Fills in bytes that have come. Returns how many; 0 when none wait, and `readable` is called for the next ones. */
	readNow(into: Segments): number;
}

/** What the guest's vsock reaches on the host (context ID 2). */
export interface VsockBackend {
	/** Called once, before anything else. */
	start(guest: VsockGuest): void;
	/**
	 * The guest connects to `port` of the host. The stream must allow half-open use, and may be a DirectStream; undefined
	 * refuses.
	 */
	open(port: number): Promise<Duplex | undefined>;
	/** Releases the host's resources. A second call does nothing. */
	close(): Promise<void>;
}

/** A console's calls to its device. */
export interface ConsoleEvents {
	/**
	 * The user has typed. The bytes are valid during the call only. The device keeps all of them; see `setInputWanted`.
	 */
	input(bytes: Uint8Array): void;
	/** `write` has room again after it returned false. */
	writable(): void;
	/** The terminal has a new size, in characters. */
	resized(columns: number, rows: number): void;
}

/**
 * A console: a terminal or a file, with output and input. Only `write` and `close` are needed. Output for a slow reader
 * waits in the guest: the device stops when `write` returns false.
 */
export interface ConsoleBackend {
	/** Size of the terminal in characters; missing or undefined when it has none. */
	readonly size?: { readonly columns: number; readonly rows: number } | undefined;
	/** Called once, before anything else; may be missing where there is never an event. */
	start?(events: ConsoleEvents): void;
	/**
	 * Takes all of the output and does not wait. `bytes` are valid during the call only: copy them. False: no more before
	 * `writable`. The end of a machine, a pause and emergency writes may add a few KiB all the same.
	 */
	write(bytes: Uint8Array): boolean;
	/** False: keep input for now, because the guest reads slowly. True: go on. Not needed by a console without input. */
	setInputWanted?(wanted: boolean): void;
	/**
	 * Releases the host's resources. Output that waits for its reader may be dropped after a while. A second call does
	 * nothing.
	 */
	close(): Promise<void>;
}
