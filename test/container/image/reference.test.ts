import { expect, test } from "vitest";
import { formatReference, parseReference, referenceFromFile } from "../../../src/container/image/reference.ts";

const D = `sha256:${"a".repeat(64)}`;

test.each([
	["busybox", "busybox:latest"],
	["library/busybox", "busybox:latest"],
	["docker.io/busybox", "busybox:latest"],
	["docker.io/library/busybox:latest", "busybox:latest"],
	["index.docker.io/library/busybox:1.36", "busybox:1.36"],
	["user/app", "user/app:latest"],
	["docker.io/user/app:v2", "user/app:v2"],
	["localhost:5000/app", "localhost:5000/app:latest"],
	["localhost:5000/library/app:1", "localhost:5000/library/app:1"],
	["Registry.Example:443/a/b/c", "Registry.Example:443/a/b/c:latest"],
	[`app@${D}`, `app@${D}`],
	[`app:1@${D}`, `app:1@${D}`],
])("parseReference reads %s as %s", (text, normal) => {
	expect(formatReference(parseReference(text))).toBe(normal);
});

test.each([
	"",
	":tag",
	"UPPER",
	"a b",
	"a//b",
	"/a",
	"a/",
	"a:",
	"a:-x",
	"a@sha256:12",
	"a@md5:1",
	"../a",
	"a..b/c",
	"-a",
])("parseReference refuses %j", (text) => {
	expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: "ERR_IMAGE_REFERENCE" }));
});

test.each([
	["/tmp/Debian 12.tar.gz", "debian-12:latest"],
	["busybox.oci.tar", "busybox:latest"],
	["some/layout/", "layout:latest"],
	["...", undefined],
])("referenceFromFile makes a name of %s", (path, name) => {
	const reference = referenceFromFile(path);
	expect(reference && formatReference(reference)).toBe(name);
});
