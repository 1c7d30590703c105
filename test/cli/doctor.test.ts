import { expect, test, vi } from "vitest";
import { doctorCommand, formatFindings, judge } from "../../src/cli/doctor.ts";
import {
	checkKvm,
	checkNode,
	checkProcessor,
	checkTools,
	checkTun,
	type Finding,
} from "../../src/cli/doctor-checks.ts";

const missing = (needed?: Finding["needed"]): Finding => ({
	name: "x",
	status: "missing",
	found: "nothing",
	...(needed === undefined ? {} : { needed }),
});

test("judge takes the lab where VMs cannot run directly", () => {
	expect(judge([])).toBe("direct");
	expect(judge([missing()])).toBe("direct");
	expect(judge([missing("lab")])).toBe("direct");
	expect(judge([missing("direct")])).toBe("lab");
	expect(judge([missing("direct"), missing("lab")])).toBe("none");
	expect(judge([missing("run")])).toBe("none");
});

test("checkProcessor finds VT-x and SVM by their flags", () => {
	expect(checkProcessor("flags\t\t: fpu vmx sse\n").found).toContain("VT-x");
	expect(checkProcessor("flags\t\t: fpu svm sse\n").found).toContain("SVM");
	expect(checkProcessor("flags\t\t: fpu svm_lock\n")).toMatchObject({ status: "missing", needed: "direct" });
	expect(checkProcessor("")).toMatchObject({ status: "missing" });
});

test("checkNode wants 20.11", () => {
	expect(checkNode("20.10.0")).toMatchObject({ status: "missing", needed: "run" });
	expect(checkNode("20.11.0").status).toBe("ok");
	expect(checkNode("24.0.0").status).toBe("ok");
});

test("checkKvm says what it found in place of /dev/kvm", () => {
	expect(checkKvm("/nonexistent/kvm")).toMatchObject({ status: "missing", needed: "direct" });
	expect(checkKvm("/dev/null")).toMatchObject({ status: "missing", found: expect.stringContaining("ENOTTY") });
});

test("checkTun and checkTools tell the remedy", () => {
	expect(checkTun("/nonexistent/tun")).toMatchObject({
		status: "note",
		found: expect.stringContaining("no such file"),
	});
	expect(checkTools([["tsvmm-no-such-tool", "this test", "lab"]])).toEqual([
		{
			name: "tsvmm-no-such-tool",
			status: "missing",
			found: "not installed; it is for this test",
			remedy: "Install it: apt-get install tsvmm-no-such-tool",
			needed: "lab",
		},
	]);
	expect(checkTools([["tsvmm-no-such-tool", "this test"]])[0]).toMatchObject({ status: "note" });
});

test("formatFindings puts each remedy under its finding, the verdict last", () => {
	const text = formatFindings(
		[{ name: "kvm", status: "missing", found: "none", remedy: "Load the module: modprobe kvm" }],
		"none",
	);
	expect(text.split("\n").slice(0, 2)).toEqual([
		"missing  kvm  none",
		"              -> Load the module: modprobe kvm",
	]);
	expect(text.trimEnd().split("\n").at(-1)).toContain("cannot run here");
});

test("doctor --json prints the verdict that its exit status tells", async () => {
	const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
	try {
		await doctorCommand().parseAsync(["--json"], { from: "user" });
		const report = JSON.parse(write.mock.calls.map(([text]) => text).join(""));
		expect(process.exitCode).toBe(report.verdict === "none" ? 1 : 0);
		expect(report.findings.map(({ name }: Finding) => name)).toEqual(
			expect.arrayContaining(["node", "native helper", "kvm", "passt", "kernels"]),
		);
	} finally {
		write.mockRestore();
		process.exitCode = undefined;
	}
});
