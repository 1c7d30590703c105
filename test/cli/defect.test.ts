/*
 * What happens when something in tsvmm itself throws and nobody catches it.
 */
import { beforeAll, expect, test, vi } from "vitest";
import { bundle, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

test("tsvmm exits with 125 and a stack trace on a defect of its own, not with a status that a payload could have", async () => {
	const defect = `setInterval(() => {
		if (process.listenerCount("uncaughtExceptionMonitor") > 0) throw new Error("a defect");
	}, 1);`;
	const { status, stdout, stderr } = await tsvmm(["kernel", "ls"], {
		env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(defect)}` },
	});
	expect(status).toBe(125);
	expect(stdout).toBe("");
	expect(stderr).toContain("Error: a defect");
});
