/*
 * Names of the virtio 1.2 specification, by the numbers that a device shows.
 */

/** Device types, §5. @type {Record<number, string>} */
const TYPES = {
	1: "network",
	2: "block",
	3: "console",
	4: "entropy",
	5: "balloon",
	16: "GPU",
	18: "input",
	19: "socket",
	26: "file system",
};

/** Queues by device type, §5.x.2. Those above have the last name, with a number. @type {Record<number, string[]>} */
const QUEUES = {
	1: ["receive", "transmit"],
	2: ["request"],
	3: ["receive", "transmit", "control receive", "control transmit"],
	4: ["request"],
	5: ["inflate", "deflate", "statistics", "free pages", "reporting"],
	19: ["receive", "transmit", "event"],
	26: ["high priority", "request"],
};

/** Feature bits of each device type, §5.x.3. @type {Record<number, Record<number, string>>} */
const FEATURES = {
	1: {
		0: "CSUM",
		1: "GUEST_CSUM",
		3: "MTU",
		5: "MAC",
		7: "GUEST_TSO4",
		8: "GUEST_TSO6",
		9: "GUEST_ECN",
		11: "HOST_TSO4",
		12: "HOST_TSO6",
		13: "HOST_ECN",
		15: "MRG_RXBUF",
		16: "STATUS",
		17: "CTRL_VQ",
		21: "GUEST_ANNOUNCE",
		22: "MQ",
	},
	2: {
		1: "SIZE_MAX",
		2: "SEG_MAX",
		4: "GEOMETRY",
		5: "RO",
		6: "BLK_SIZE",
		9: "FLUSH",
		10: "TOPOLOGY",
		11: "CONFIG_WCE",
		12: "MQ",
		13: "DISCARD",
		14: "WRITE_ZEROES",
	},
	3: { 0: "SIZE", 1: "MULTIPORT", 2: "EMERG_WRITE" },
	5: { 0: "MUST_TELL_HOST", 1: "STATS_VQ", 2: "DEFLATE_ON_OOM", 3: "FREE_PAGE_HINT", 4: "PAGE_POISON", 5: "REPORTING" },
	19: { 0: "STREAM", 1: "SEQPACKET" },
	26: { 0: "NOTIFICATION" },
};

/** Features of every device, §6. @type {Record<number, string>} */
const COMMON = {
	28: "INDIRECT_DESC",
	29: "EVENT_IDX",
	32: "VERSION_1",
	33: "ACCESS_PLATFORM",
	34: "RING_PACKED",
	35: "IN_ORDER",
	36: "ORDER_PLATFORM",
	38: "NOTIFICATION_DATA",
	40: "RING_RESET",
};

/** The steps by which a driver starts a device, §3.1.1. */
export const STEPS = [
	{ bit: 1, name: "ACKNOWLEDGE" },
	{ bit: 2, name: "DRIVER" },
	{ bit: 8, name: "FEATURES_OK" },
	{ bit: 4, name: "DRIVER_OK" },
];

/** @param {number} deviceId */
export function typeName(deviceId) {
	return TYPES[deviceId] ?? `device type ${deviceId}`;
}

/**
 * "request", "request 3".
 *
 * @param {number} deviceId
 * @param {number} index
 * @param {number} queues of the device
 */
export function queueName(deviceId, index, queues) {
	const names = QUEUES[deviceId] ?? [];
	const last = names.length - 1;
	if (deviceId === 1 && index > 1) return index === queues - 1 ? "control" : `${names[index % 2]} ${index >> 1}`;
	if (last < 0) return `queue ${index}`;
	return index < last || queues <= names.length
		? (names[index] ?? `queue ${index}`)
		: `${names[last]} ${index - last + 1}`;
}

/** The bits that are set, by name. @param {number} deviceId @param {string} features "0x..." */
export function featureNames(deviceId, features) {
	const bits = BigInt(features);
	const own = FEATURES[deviceId] ?? {};
	const names = [];
	for (let bit = 0; bit < 64; bit++) {
		if (((bits >> BigInt(bit)) & 1n) === 1n) names.push({ bit, name: own[bit] ?? COMMON[bit] ?? `bit ${bit}` });
	}
	return names;
}

/** "reset", "DRIVER_OK", "DRIVER_OK, NEEDS_RESET". @param {number} status */
export function statusName(status) {
	const reached = STEPS.filter(({ bit }) => (status & bit) !== 0).at(-1)?.name ?? "reset";
	return [reached, ...(status & 64 ? ["NEEDS_RESET"] : []), ...(status & 128 ? ["FAILED"] : [])].join(", ");
}
