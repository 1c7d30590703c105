/*
 * The numbers of the virtio 1.2 specification that more than one file needs, in its order and spelling: device status
 * bits (§2.1), reserved feature bits (§6) and the registers of the MMIO transport (§4.2.2). Numbers of one device type
 * are in that device's file, with its device ID (§5).
 */

/* Device status field, §2.1. */
export const ACKNOWLEDGE = 1;
export const DRIVER = 2;
export const DRIVER_OK = 4;
export const FEATURES_OK = 8;
export const DEVICE_NEEDS_RESET = 64;
export const FAILED = 128;

/* Reserved feature bits, §6: those that the transport offers. */
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
export const VIRTIO_F_EVENT_IDX = 1n << 29n;
export const VIRTIO_F_VERSION_1 = 1n << 32n;

/** Offsets of the MMIO device registers in bytes, virtio 1.2 §4.2.2. All are 32 bits wide; `Config` is where bytes begin. */
export const VIRTIO_MMIO = {
	MagicValue: 0x000,
	Version: 0x004,
	DeviceID: 0x008,
	VendorID: 0x00c,
	DeviceFeatures: 0x010,
	DeviceFeaturesSel: 0x014,
	DriverFeatures: 0x020,
	DriverFeaturesSel: 0x024,
	QueueSel: 0x030,
	QueueNumMax: 0x034,
	QueueNum: 0x038,
	QueueReady: 0x044,
	QueueNotify: 0x050,
	InterruptStatus: 0x060,
	InterruptACK: 0x064,
	Status: 0x070,
	QueueDescLow: 0x080,
	QueueDescHigh: 0x084,
	QueueDriverLow: 0x090,
	QueueDriverHigh: 0x094,
	QueueDeviceLow: 0x0a0,
	QueueDeviceHigh: 0x0a4,
	SHMSel: 0x0ac,
	SHMLenLow: 0x0b0,
	SHMLenHigh: 0x0b4,
	SHMBaseLow: 0x0b8,
	SHMBaseHigh: 0x0bc,
	QueueReset: 0x0c0,
	ConfigGeneration: 0x0fc,
	Config: 0x100,
} as const;

/** What MagicValue reads: "virt". */
export const VIRTIO_MMIO_MAGIC = 0x74726976;
/** What Version reads: not legacy. */
export const VIRTIO_MMIO_VERSION = 2;

/* InterruptStatus and InterruptACK, §4.2.2. */
export const INTERRUPT_USED_BUFFER = 1;
export const INTERRUPT_CONFIG_CHANGE = 2;
