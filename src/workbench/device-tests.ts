/*
 * Runs the tests of a user's device (`tsvmm device test`). The file's default export has them by their names:
 *
 *     export default { "a text comes back backwards": async () => { ... } };
 *
 * A test fails by an error, such as one of node:assert.
 */
import { UsageError } from "../base/errors.ts";
import { importUserModule, type PackageModules } from "../host/user-module.ts";
import { defectOf, defectText } from "./defect.ts";
import { DeviceFile } from "./device-file.ts";

/** A test that has run. */
export interface TestOutcome {
	readonly name: string;
	readonly ms: number;
	/** What was thrown, and where; missing when it has passed. */
	readonly failure?: string;
}

const LATE_MS = 10_000;

/**
 * Runs all tests of a file, one after the other.
 *
 * @throws UsageError ERR_DEVICE_FILE when the file cannot be loaded, ERR_DEVICE_TEST when it has no tests
 */
export async function runDeviceTests(
	path: string,
	modules: PackageModules,
	onOutcome: (outcome: TestOutcome) => void,
): Promise<TestOutcome[]> {
	const file = new DeviceFile({ path, watched: false, options: {} }, modules);
	const tests = await testsOf(file, modules);
	const outcomes: TestOutcome[] = [];
	const stray = new StrayErrors(() => outcomes.some(({ failure }) => failure !== undefined));
	for (const [name, test] of tests) {
		const start = performance.now();
		const failure = await failureOf(test, file, stray);
		const ms = performance.now() - start;
		const outcome = { name, ms, ...(failure === undefined ? {} : { failure }) };
		outcomes.push(outcome);
		onOutcome(outcome);
	}
	return outcomes;
}

type Test = () => unknown;

async function testsOf(file: DeviceFile, modules: PackageModules): Promise<[name: string, test: Test][]> {
	let exported: unknown;
	try {
		exported = (await importUserModule(file.path, modules)).default;
	} catch (cause) {
		const text = defectText(defectOf(cause, file.files));
		throw new UsageError("ERR_DEVICE_FILE", `Cannot load tests ${file.config.path}: ${text}`, { cause });
	}
	const tests = typeof exported === "object" && exported !== null ? Object.entries(exported) : [];
	const isTest = (entry: [string, unknown]): entry is [string, Test] => typeof entry[1] === "function";
	if (tests.length > 0 && tests.every(isTest)) return tests;
	throw new UsageError("ERR_DEVICE_TEST", `Cannot test by ${file.config.path}: its default export holds no tests`, {
		hint: 'Write export default { "what the device does": async () => { ... } }',
	});
}

/** Errors outside of any promise, such as in a timer of the device. They belong to the test that runs. */
class StrayErrors {
	#fail: ((error: unknown) => void) | undefined;

	/** @param hasFailed whether a test has: what comes after it may be its rest, and is not told */
	constructor(hasFailed: () => boolean) {
		const onError = (error: unknown) => {
			if (this.#fail !== undefined) this.#fail(error);
			else if (!hasFailed()) throw error;
		};
		process.on("uncaughtException", onError).on("unhandledRejection", onError);
	}

	/** Calls `fail` with those that come until `work` settles. */
	async during<T>(work: Promise<T>, fail: (error: unknown) => void): Promise<T> {
		this.#fail = fail;
		try {
			return await work;
		} finally {
			this.#fail = undefined;
		}
	}
}

/** What has made a test fail. It may not wait for ever. */
async function failureOf(test: Test, file: DeviceFile, stray: StrayErrors): Promise<string | undefined> {
	let fail: (error: unknown) => void = () => undefined;
	const outside = new Promise<never>((_, reject) => {
		fail = reject;
	});
	const late = setTimeout(() => fail(new Error(`the test does not end within ${LATE_MS / 1000} seconds`)), LATE_MS);
	try {
		await stray.during(Promise.race([outside, (async () => await test())()]), fail);
		return undefined;
	} catch (error) {
		return defectText(defectOf(error, file.files));
	} finally {
		clearTimeout(late);
	}
}
