/*
 * The public entry: machines and containers.
 *
 *     import { Machine } from "tsvmm";
 *
 * Devices and virtqueues are in tsvmm/virtio, ioctls in tsvmm/kvm.
 */

export { ExecError } from "./agent/client.ts";
export type { Rlimit } from "./agent/exec-spec.ts";
export type { ExitStatus, Session } from "./agent/session.ts";
export type {
	Answer,
	AttributeChanges,
	Attributes,
	BlockBackend,
	BlockResult,
	ConsoleBackend,
	ConsoleEvents,
	DirectoryEntry,
	FilePosition,
	FileSystem,
	FileSystemState,
	FileSystemStatus,
	GuestOffloads,
	NetBackend,
	NetEvents,
	NetOffloads,
	NewNode,
	NewTime,
	OpenFile,
	Place,
	SavedFile,
	SavedNode,
} from "./backends/contract.ts";
export { FileDisk, type FileDiskOptions } from "./backends/file-disk.ts";
export { MemoryDisk } from "./backends/memory-disk.ts";
export { MemoryFileSystem, type MemoryFileSystemOptions } from "./backends/memory-file-system.ts";
export type { MemoryNode, Time } from "./backends/memory-node.ts";
export type { DiskFormat } from "./backends/open-disk.ts";
export type { PortForward } from "./backends/passt-ports.ts";
export { openQcow2 } from "./backends/qcow2/open.ts";
export type { UnixVsock } from "./backends/unix-vsock.ts";
export type { Enter } from "./base/enter.ts";
export { type Errno, ErrnoError } from "./base/errno-error.ts";
export {
	type ErrorDetail,
	GuestError,
	HostError,
	ImageError,
	IoctlError,
	SnapshotError,
	StateError,
	TsvmmError,
	UsageError,
} from "./base/errors.ts";
export {
	FAULT_EFFECTS,
	type FaultCount,
	type FaultEffect,
	type FaultOptions,
	type FaultRule,
	Faults,
	type InjectedFault,
} from "./base/faults.ts";
export type { LogLevel, LogOptions } from "./base/log.ts";
export type { MachineLife, ObservedChain, ObservedDevice, Observer } from "./base/observer.ts";
export type {
	StoppedDevice,
	StoppedPin,
	StoppedQueue,
	StoppedState,
	StoppedVcpu,
} from "./base/stopped-state.ts";
export { Container, type ContainerExec, type StartTimes } from "./container/container.ts";
export type { ContainerDevice } from "./container/devices.ts";
export type { RootfsImage } from "./container/image/rootfs.ts";
export type { Privileges } from "./container/privileges.ts";
export type { BlobProgress } from "./container/registry/transfer.ts";
export {
	type ContainerMachine,
	type ContainerNetwork,
	type ContainerOptions,
	type Observation,
	runContainer,
} from "./container/run.ts";
export type { ExtraHost, GuestNetwork, SystemOptions, TmpfsMount } from "./container/setup-steps.ts";
export type { ContainerShare } from "./container/shares.ts";
export { pullImage, pushImage, type TransferOptions, type TransferredImage } from "./container/transfer.ts";
export type { GuestKernel } from "./kernel/store.ts";
export type { ConsoleConfig, MachineConfig, RestoreConfig } from "./machine/config.ts";
export type { RemoveOptions } from "./machine/device-slots.ts";
export type { DiskConfig, FileDiskConfig, OwnDiskConfig } from "./machine/devices/disk.ts";
export type { DirectoryFsConfig, FsConfig, OwnFsConfig } from "./machine/devices/fs.ts";
export type { NetConfig, Uplink } from "./machine/devices/net.ts";
export type { VsockConfig } from "./machine/devices/vsock.ts";
export type { MachineEventName, MachineEvents, MachineListener } from "./machine/events.ts";
export { Machine, type MachineState } from "./machine/machine.ts";
export {
	describeShutdown,
	type ShutdownCause,
	type ShutdownReason,
	shutdownError,
} from "./machine/shutdown-reason.ts";
export { mergeSnapshot, type SnapshotCompanion, type SnapshotOptions, type WriteOptions } from "./snapshot/write.ts";
export type {
	AccessEvent,
	AcknowledgeEvent,
	AgentEvent,
	BootEvent,
	ChainEvent,
	CompleteEvent,
	ConsoleEvent,
	ExitEvent,
	InterruptEvent,
	KickEvent,
	LostEvent,
	MachineEvent,
	QueueEvent,
	ResumeEvent,
	StateEvent,
	StatusEvent,
	TraceEvent,
	TraceEventKind,
	TracePacket,
	TracePiece,
	TraceSink,
	TraceStamp,
	UnpopEvent,
	UsedEvent,
	ViolationEvent,
} from "./trace/event.ts";
export type { TraceFileConfig } from "./trace/file-config.ts";
export type { TraceKind } from "./trace/filter.ts";
export type { TraceFormat } from "./trace/format.ts";
export { eventObserver } from "./trace/recorder.ts";
export type {
	BlockTraceAnswer,
	BlockTraceRequest,
	BytesTrace,
	FrameTrace,
	FuseTraceAnswer,
	FuseTraceRequest,
	TraceRequest,
	VsockTrace,
} from "./trace/request.ts";
export { type Traceable, TraceFile, traceTo } from "./trace/trace-file.ts";
export { BalloonDevice } from "./virtio/balloon.ts";
export type { BalloonConfig } from "./virtio/balloon-config.ts";
export type { BalloonStatistics } from "./virtio/balloon-statistics.ts";
export type { CacheMode } from "./virtio/fs/cache-policy.ts";
