/*
 * The keys of EXEC that bound a process, by the real agent: what /proc/self/status and the limits say inside.
 */
import { expect, test } from "vitest";
import type { ExecSpec } from "../../src/agent/exec-spec.ts";
import { startedAgent } from "./native-agent.ts";

const native = startedAgent();

async function sh(script: string, spec: Partial<ExecSpec> = {}): Promise<string> {
	const session = await native.client.exec({ args: ["sh", "-c", script], env: { PATH: "/usr/bin:/bin" }, ...spec });
	const [out, error] = await Promise.all([session.stdout.toArray(), session.stderr.toArray()]);
	return Buffer.concat([...out, ...error]).toString();
}

const STATUS = "sed -n 's/^Cap\\(...\\):.0*\\(.\\)/\\1 \\2/p; s/^NoNewPrivs:./nnp /p' /proc/self/status";
const DEFAULT = 0xa80425fbn;

test("root has the capabilities asked for and no others", async () => {
	expect(await sh(STATUS, { capabilities: DEFAULT })).toBe(
		"Inh 0\nPrm a80425fb\nEff a80425fb\nBnd a80425fb\nAmb 0\nnnp 0\n",
	);
	expect(await sh(STATUS, { capabilities: 0n })).toBe("Inh 0\nPrm 0\nEff 0\nBnd 0\nAmb 0\nnnp 0\n");
});
test("another user has none, within the same bounds", async () => {
	expect(await sh(STATUS, { capabilities: DEFAULT, user: "7:8" })).toBe(
		"Inh 0\nPrm 0\nEff 0\nBnd a80425fb\nAmb 0\nnnp 0\n",
	);
});
test("without capabilities of its own a process has the agent's", async () => {
	const [before, after] = [await sh(STATUS), await sh(STATUS, { capabilities: (1n << 41n) - 1n })];
	expect(after).toBe(before);
});
test("the init of a container is bound as others are", async () => {
	await native.client.setup([], "bound");
	const keys = {
		container: "bound",
		init: true,
		capabilities: 0x20n,
		noNewPrivileges: true,
		groups: ["7"],
		umask: 0o77,
	};
	expect(await sh(`${STATUS}; id -G; umask`, keys)).toBe("Inh 0\nPrm 20\nEff 20\nBnd 20\nAmb 0\nnnp 1\n0 7\n0077\n");
});
test("no_new_privs is set, also for another user", async () => {
	expect(await sh(STATUS, { noNewPrivileges: true, user: "7" })).toMatch(/Eff 0\n.*nnp 1\n$/s);
});
test("groups are added to the user's own, by name or number", async () => {
	expect(await sh("id -G", { user: "7:8", groups: ["12345", "root", "8"] })).toBe("8 0 12345\n");
	expect(await sh("id -G", { groups: ["4242"] })).toBe("0 4242\n");
	await expect(sh("id", { groups: ["nosuch"] })).rejects.toMatchObject({
		exitStatus: 125,
		message: "Unable to find group nosuch: no matching entries in group file",
	});
});
test("limits are those asked for", async () => {
	const rlimits = [
		{ name: "nofile", soft: 100, hard: 200 },
		{ name: "core", soft: 0, hard: 0 },
		{ name: "cpu", soft: "unlimited", hard: "unlimited" },
	] as const;
	expect(await sh("ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -t", { rlimits })).toBe("100\n200\n0\nunlimited\n");
});
test("umask and oom_score_adj are those asked for", async () => {
	expect(await sh("umask; cat /proc/self/oom_score_adj", { umask: 0o27, oomScoreAdj: 321 })).toBe("0027\n321\n");
	expect(await sh("umask")).toBe("0022\n");
});
test.each<[string, Partial<ExecSpec>, RegExp]>([
	["a limit without a name", { rlimits: [{ name: "x", soft: 1, hard: 1 }] }, /Cannot read limit "x:1:1"/],
	["a limit upside down", { rlimits: [{ name: "nofile", soft: 2, hard: 1 }] }, /Cannot set limit nofile:2:1: Invalid/],
	["more than 64 capabilities", { capabilities: 1n << 64n }, /Cannot read capabilities "10000000000000000"/],
	["a negative set of capabilities", { capabilities: -1n }, /Cannot read capabilities "-1"/],
	["oom_score_adj out of range", { oomScoreAdj: 1001 }, /Cannot set oom_score_adj to 1001: Invalid/],
])("exec refuses %s", async (_what, spec, message) => {
	await expect(sh("true", spec)).rejects.toMatchObject({ exitStatus: 125, message: expect.stringMatching(message) });
});
