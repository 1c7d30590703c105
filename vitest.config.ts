/*
 * The test phases. "unit" needs nothing of the host, "guest" a /dev/kvm, "lab" QEMU; "rules" reads the sources and is
 * part of `npm run check`. A test that needs /dev/kvm is in test/guest or is named *.kvm.test.ts; without a KVM of its
 * own this machine runs it in the lab (scripts/test.mjs). After each run test/leftovers.ts looks for what was left behind.
 */
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { LongestFirst } from "./test/longest-first.ts";

const project = (name: string, include: string[], more: object = {}) => ({
	extends: true as const,
	test: { name, include, ...more },
});

const NEEDS_KVM = "test/**/*.kvm.test.ts";

const source = (name: string) => new URL(`src/${name}.ts`, import.meta.url).pathname;

export default defineConfig({
	/* Programs for readers import the package; tests run them on the sources. */
	resolve: {
		alias: [
			{ find: /^tsvmm$/, replacement: source("index") },
			{ find: /^tsvmm\/(virtio|kvm)$/, replacement: `${source("$1")}` },
		],
	},
	test: {
		globalSetup: ["test/leftovers.ts"],
		setupFiles: ["test/own-directories.ts"],
		/* One process per test file: native handles, signals and environment variables stay where they belong. */
		pool: "forks",
		sequence: { sequencer: LongestFirst },
		allowOnly: false,
		passWithNoTests: false,
		/* Every processor, which is not vitest's default; but a lab takes 3 GiB. */
		maxWorkers: Math.min(availableParallelism(), 4),
		testTimeout: 20_000,
		hookTimeout: 20_000,
		/* For what other processes do: they may wait for a processor. */
		expect: { poll: { timeout: 10_000 } },
		projects: [
			project("unit", ["test/**/*.test.ts"], { exclude: ["test/{guest,lab,rules,bench}/**", NEEDS_KVM] }),
			project("rules", ["test/rules/**/*.test.ts"]),
			project("guest", ["test/guest/**/*.test.ts", NEEDS_KVM], {
				testTimeout: 300_000,
				hookTimeout: 300_000,
				expect: { poll: { timeout: 30_000 } },
			}),
			project("lab", ["test/lab/**/*.test.ts"], {
				testTimeout: 600_000,
				hookTimeout: 600_000,
			}),
		],
	},
});
