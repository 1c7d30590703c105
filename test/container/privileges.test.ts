/*
 * Capabilities and limits by Docker's rules; the same words given to docker and the masks that /proc/self/status shows.
 */
import { describe, expect, test } from "vitest";
import { privilegeKeys, readUlimit } from "../../src/container/privileges.ts";

describe("privilegeKeys", () => {
	const hex = (...[privileges]: Parameters<typeof privilegeKeys>) =>
		privilegeKeys(privileges).capabilities!.toString(16).padStart(16, "0");

	test.each([
		["nothing", {}, "00000000a80425fb"],
		["--privileged", { privileged: true, capDrop: ["ALL"] }, "000001ffffffffff"],
		["--cap-add", { capAdd: ["NET_ADMIN"] }, "00000000a80435fb"],
		["--cap-add in other spellings", { capAdd: ["cap_net_admin", "CAP_NET_ADMIN"] }, "00000000a80435fb"],
		["--cap-drop", { capDrop: ["CHOWN", "sys_admin"] }, "00000000a80425fa"],
		["--cap-drop ALL", { capDrop: ["all"] }, "0000000000000000"],
		["--cap-drop ALL --cap-add", { capDrop: ["ALL"], capAdd: ["KILL"] }, "0000000000000020"],
		["--cap-add ALL", { capAdd: ["ALL"] }, "000001ffffffffff"],
		["--cap-add ALL --cap-drop", { capAdd: ["ALL"], capDrop: ["CHOWN"] }, "000001fffffffffe"],
		["--cap-add and --cap-drop of one", { capAdd: ["CHOWN"], capDrop: ["CHOWN"] }, "00000000a80425fb"],
	])("gives for %s Docker's set", (_flags, privileges, set) => {
		expect(hex(privileges)).toBe(set);
	});
	test("refuses what is no capability and no limit", () => {
		expect(() => privilegeKeys({ capAdd: ["FLY"] })).toThrow(/capability "FLY": there is none of that name/);
		expect(() => privilegeKeys({ capDrop: ["CAP_CAP_KILL"] })).toThrow(/CAP_CAP_KILL/);
		expect(() => privilegeKeys({ ulimits: [{ name: "x", soft: 1, hard: 1 }] })).toThrow(/limit "x": there is none/);
	});
	test("passes groups, limits and no_new_privs on", () => {
		const ulimits = [{ name: "core", soft: 0, hard: "unlimited" as const }];
		const keys = privilegeKeys({ groupAdd: ["audio", "7"], ulimits, noNewPrivileges: true });
		expect(keys).toMatchObject({ groups: ["audio", "7"], rlimits: ulimits, noNewPrivileges: true });
	});
});

describe("readUlimit", () => {
	test.each([
		["nofile=1024", { name: "nofile", soft: 1024, hard: 1024 }],
		["nofile=1024:4096", { name: "nofile", soft: 1024, hard: 4096 }],
		["core=-1", { name: "core", soft: "unlimited", hard: "unlimited" }],
		["core=0:-1", { name: "core", soft: 0, hard: "unlimited" }],
	])("reads %s", (text, limit) => {
		expect(readUlimit(text)).toEqual(limit);
	});
	test.each(["nofile", "nofile=", "nofile=x", "nofile=1:", "x=1", "nofile=2:1", "nofile=-1:5", "=1", "core=1:2:3"])(
		"refuses %s",
		(text) => {
			expect(() => readUlimit(text)).toThrow(expect.objectContaining({ code: "ERR_RUN_ULIMIT" }));
		},
	);
});
