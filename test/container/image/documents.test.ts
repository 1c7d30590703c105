import { expect, test } from "vitest";
import { parseConfig } from "../../../src/container/image/documents.ts";

test.each([
	[{ Test: ["CMD", "/well", "-q"] }, ["/well", "-q"]],
	[{ Test: ["CMD-SHELL", "ping db"] }, ["/bin/sh", "-c", "ping db"]],
	[{ Test: ["NONE"] }, undefined],
	[{ Test: ["CMD"] }, undefined],
	[{ Test: ["OTHER", "x"] }, undefined],
	[{ Test: [] }, undefined],
	[{ Interval: 1 }, undefined],
	[null, undefined],
])("parseConfig reads the health check %j", (Healthcheck, args) => {
	const rootfs = { type: "layers", diff_ids: [] };
	const data = Buffer.from(JSON.stringify({ architecture: "amd64", os: "linux", config: { Healthcheck }, rootfs }));
	expect(parseConfig(data, "config.json").config.healthcheck?.args).toEqual(args);
});
