import { expect, test } from "vitest";
import { formatSources, parseDeb822, parseOneLine, sourceFor } from "../../src/debian/sources.ts";

const DEB822 = `# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/k.gpg

Types: deb
URIs: http://other.example/vendor
Suites: stable
Components: extra
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
`;

test("parseDeb822 gives one source per URI and suite, without disabled ones", () => {
	const sources = parseDeb822(DEB822);
	expect(sources.map(({ uri, suite }) => `${uri} ${suite}`)).toEqual([
		"http://mirror.example/debian bookworm",
		"http://mirror.example/debian bookworm-updates",
		"http://other.example/vendor stable",
	]);
	expect(sources[0]).toMatchObject({ components: ["main", "contrib"], signedBy: "/usr/share/keyrings/k.gpg" });
	expect(sources[2]!.signedBy).toContain("\n -----BEGIN PGP");
});

test("formatSources writes what parseDeb822 reads, a key with its lines too", () => {
	const sources = parseDeb822(DEB822);
	expect(parseDeb822(formatSources(sources))).toEqual(sources);
});

test("parseOneLine reads options, skips deb-src and comments", () => {
	const text = `# deb http://no.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb [ arch=amd64 signed-by=/k.gpg ] http://mirror.example/debian bookworm main contrib # why
`;
	expect(parseOneLine(text)).toEqual([
		{
			uri: "http://mirror.example/debian",
			suite: "bookworm",
			components: ["main", "contrib"],
			signedBy: "/k.gpg",
		},
	]);
});

test("sourceFor derives a suite from the host's mirror, never from another vendor's", () => {
	const sources = parseDeb822(DEB822).reverse();
	expect(sourceFor("bookworm-backports", sources)).toEqual({
		uri: "http://mirror.example/debian",
		suite: "bookworm-backports",
		components: ["main"],
		signedBy: "/usr/share/keyrings/k.gpg",
	});
	expect(() => sourceFor("bookworm", [])).toThrow(expect.objectContaining({ code: "ERR_NO_MIRROR" }));
});
