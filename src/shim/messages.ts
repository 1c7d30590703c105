/*
 * The messages of containerd's shim API (runtime/task/v2 and v3, which differ in the service's name alone), of its events,
 * and of ttrpc itself, as far as they are used. The numbers are those of containerd's api/*.proto.
 */
import protobuf from "protobufjs/light.js";

type Field = readonly [type: string, id: number, rule?: "repeated"];

/** Counters whose numbers follow one another. */
function numbered(names: string, first: number): Record<string, Field> {
	return Object.fromEntries(names.split(" ").map((name, i) => [name, ["uint64", first + i] as const]));
}

/** In the order of containerd's files. */
const MESSAGES: Readonly<Record<string, Readonly<Record<string, Field>>>> = {
	Any: { type_url: ["string", 1], value: ["bytes", 2] },
	Timestamp: { seconds: ["int64", 1], nanos: ["int32", 2] },
	Empty: {},
	KeyValue: { key: ["string", 1], value: ["string", 2] },

	Request: {
		service: ["string", 1],
		method: ["string", 2],
		payload: ["bytes", 3],
		timeout_nano: ["int64", 4],
		metadata: ["KeyValue", 5, "repeated"],
	},
	Status: { code: ["int32", 1], message: ["string", 2] },
	Response: { status: ["Status", 1], payload: ["bytes", 2] },

	Mount: {
		type: ["string", 1],
		source: ["string", 2],
		target: ["string", 3],
		options: ["string", 4, "repeated"],
	},
	CreateTaskRequest: {
		id: ["string", 1],
		bundle: ["string", 2],
		rootfs: ["Mount", 3, "repeated"],
		terminal: ["bool", 4],
		stdin: ["string", 5],
		stdout: ["string", 6],
		stderr: ["string", 7],
		checkpoint: ["string", 8],
	},
	PidResponse: { pid: ["uint32", 1] },
	/** Of all methods that name a task, or a process in it. */
	ProcessRequest: { id: ["string", 1], exec_id: ["string", 2] },
	DeleteResponse: { pid: ["uint32", 1], exit_status: ["uint32", 2], exited_at: ["Timestamp", 3] },
	ExecProcessRequest: {
		id: ["string", 1],
		exec_id: ["string", 2],
		terminal: ["bool", 3],
		stdin: ["string", 4],
		stdout: ["string", 5],
		stderr: ["string", 6],
		spec: ["Any", 7],
	},
	ResizePtyRequest: { id: ["string", 1], exec_id: ["string", 2], width: ["uint32", 3], height: ["uint32", 4] },
	StateResponse: {
		id: ["string", 1],
		bundle: ["string", 2],
		pid: ["uint32", 3],
		status: ["int32", 4],
		stdin: ["string", 5],
		stdout: ["string", 6],
		stderr: ["string", 7],
		terminal: ["bool", 8],
		exit_status: ["uint32", 9],
		exited_at: ["Timestamp", 10],
		exec_id: ["string", 11],
	},
	KillRequest: { id: ["string", 1], exec_id: ["string", 2], signal: ["uint32", 3], all: ["bool", 4] },
	CloseIORequest: { id: ["string", 1], exec_id: ["string", 2], stdin: ["bool", 3] },
	ProcessInfo: { pid: ["uint32", 1], info: ["Any", 2] },
	/** containerd.runc.v1, by which ctr shows a process that exec has started. */
	ProcessDetails: { exec_id: ["string", 1] },
	PidsResponse: { processes: ["ProcessInfo", 1, "repeated"] },
	UpdateTaskRequest: { id: ["string", 1], resources: ["Any", 2] },
	WaitResponse: { exit_status: ["uint32", 1], exited_at: ["Timestamp", 2] },
	StatsResponse: { stats: ["Any", 1] },
	ConnectResponse: { shim_pid: ["uint32", 1], task_pid: ["uint32", 2], version: ["string", 3] },
	ShutdownRequest: { id: ["string", 1], now: ["bool", 2] },

	TaskIO: { stdin: ["string", 1], stdout: ["string", 2], stderr: ["string", 3], terminal: ["bool", 4] },
	TaskCreate: {
		container_id: ["string", 1],
		bundle: ["string", 2],
		rootfs: ["Mount", 3, "repeated"],
		io: ["TaskIO", 4],
		checkpoint: ["string", 5],
		pid: ["uint32", 6],
	},
	TaskStart: { container_id: ["string", 1], pid: ["uint32", 2] },
	TaskDelete: {
		container_id: ["string", 1],
		pid: ["uint32", 2],
		exit_status: ["uint32", 3],
		exited_at: ["Timestamp", 4],
		id: ["string", 5],
	},
	TaskExit: {
		container_id: ["string", 1],
		id: ["string", 2],
		pid: ["uint32", 3],
		exit_status: ["uint32", 4],
		exited_at: ["Timestamp", 5],
	},
	TaskOOM: { container_id: ["string", 1] },
	TaskExecAdded: { container_id: ["string", 1], exec_id: ["string", 2] },
	TaskExecStarted: { container_id: ["string", 1], exec_id: ["string", 2], pid: ["uint32", 3] },
	TaskPaused: { container_id: ["string", 1] },
	TaskResumed: { container_id: ["string", 1] },
	Envelope: { timestamp: ["Timestamp", 1], namespace: ["string", 2], topic: ["string", 3], event: ["Any", 4] },
	ForwardRequest: { envelope: ["Envelope", 1] },

	/** io.containerd.cgroups.v2.Metrics, as far as a guest's kernel counts the same. */
	PidsStat: { current: ["uint64", 1], limit: ["uint64", 2] },
	CPUStat: numbered("usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec", 1),
	MemoryStat: {
		...numbered("anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp", 1),
		...numbered("inactive_anon active_anon inactive_file active_file unevictable", 11),
		...numbered("slab_reclaimable slab_unreclaimable pgfault pgmajfault", 16),
		...numbered("usage usage_limit swap_usage swap_limit", 32),
	},
	MemoryEvents: numbered("low high max oom oom_kill", 1),
	Metrics: {
		pids: ["PidsStat", 1],
		cpu: ["CPUStat", 2],
		memory: ["MemoryStat", 4],
		memory_events: ["MemoryEvents", 8],
	},
};

const root = protobuf.Root.fromJSON({
	nested: Object.fromEntries(
		Object.entries(MESSAGES).map(([name, fields]) => [
			name,
			{
				fields: Object.fromEntries(
					Object.entries(fields).map(([field, [type, id, rule]]) => [
						field,
						rule === undefined ? { type, id } : { type, id, rule },
					]),
				),
			},
		]),
	),
});

/** 2^64 - 1, which is no number of JavaScript's. */
export const MAX_UINT64 = { low: -1, high: -1 };

/** Names of a message's fields. */
export function fieldsOf(name: string): string[] {
	return Object.keys(MESSAGES[name]!);
}

/** A message's fields by name; those at their default are there when it was decoded. */
export type Message = Record<string, unknown>;

export function encode(name: string, message: Message): Buffer {
	const type = root.lookupType(name);
	return Buffer.from(type.encode(message).finish());
}

/** @throws Error for bytes that are no such message */
export function decode<T>(name: string, bytes: Uint8Array): T {
	const type = root.lookupType(name);
	return type.toObject(type.decode(bytes), { defaults: true, arrays: true, longs: Number }) as T;
}

export interface Timestamp {
	seconds: number;
	nanos: number;
}

export function timestamp(ms = Date.now()): Timestamp {
	return { seconds: Math.floor(ms / 1000), nanos: Math.round((ms % 1000) * 1e6) };
}
