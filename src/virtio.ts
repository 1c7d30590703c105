/*
 * The public entry for device experiments: the contract of a virtio device, the virtqueue, the transport, and the
 * devices that tsvmm has.
 */
export type { ConsoleBackend, ConsoleEvents, FileSystem, VsockBackend, VsockGuest } from "./backends/contract.ts";
export { GuestMemory, type MemoryRegion, type MemoryWindow } from "./base/guest-memory.ts";
export { MacAddress } from "./base/mac.ts";
export { type ObservedChain, type Observer, Observers } from "./base/observer.ts";
export { type ByteSource, Segments } from "./base/segments.ts";
export { type SavedState, type Stateful, type StateObject, StateReader, type StateValue } from "./base/state.ts";
export { BalloonDevice } from "./virtio/balloon.ts";
export type { BalloonConfig } from "./virtio/balloon-config.ts";
export type { BalloonStatistics } from "./virtio/balloon-statistics.ts";
export { BlockDevice, type BlockDeviceOptions } from "./virtio/block.ts";
export { ConsoleDevice } from "./virtio/console.ts";
export type { Activation, VirtioDevice } from "./virtio/device.ts";
export type { DiscardPages } from "./virtio/device-kind.ts";
export type { CacheMode } from "./virtio/fs/cache-policy.ts";
export { FsDevice, type FsDeviceOptions } from "./virtio/fs/device.ts";
export { MmioTransport } from "./virtio/mmio.ts";
export { NetDevice } from "./virtio/net.ts";
export type { PollingThread } from "./virtio/poller.ts";
export {
	Chain,
	type QueueEvents,
	type QueueLayout,
	type QueueObservers,
	type QueueOptions,
	type QueuePosition,
	Virtqueue,
} from "./virtio/queue.ts";
export { RngDevice } from "./virtio/rng.ts";
export { Transport } from "./virtio/transport.ts";
export type { InterruptLine, TransportOptions } from "./virtio/transport-options.ts";
export { VsockDevice } from "./virtio/vsock/device.ts";
export type { Answer, Piece } from "./workbench/mmio-driver.ts";
export { TestDriver } from "./workbench/test-driver.ts";
