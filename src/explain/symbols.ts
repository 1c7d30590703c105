/*
 * Names for addresses of the guest's kernel: from a file with symbols, or from what its own file has. Where the kernel has
 * placed itself is read from the story (debug/symbols/placement.ts). What is not known stays a number.
 */
import { explain } from "../base/errors.ts";
import { isElfFile, kernelSymbols, symbolsIn } from "../debug/symbols/kernel-symbols.ts";
import { placementOf } from "../debug/symbols/placement.ts";
import type { Symbols } from "../debug/symbols/symbols.ts";
import type { KernelNames } from "./finding.ts";
import type { Story } from "./story.ts";

/** Gives the names for a story. */
export type NameKernel = (story: Story) => KernelNames;

/** Names nothing. @param because why */
export function numbers(because: string): NameKernel {
	return () => ({ name: (address) => address, source: { because } });
}

/**
 * @param file the machine's kernel, or what has its symbols; addresses stay numbers when it is missing
 * @param wanted it has symbols that the user has named: an error when it cannot be read. Else it is the kernel
 * @throws ImageError ERR_SYMBOLS
 */
export async function addressNames(file: string | undefined, wanted: boolean): Promise<NameKernel> {
	if (file === undefined) return numbers("it is not known which kernel it is");
	try {
		const symbols = await (wanted ? symbolsIn(file) : kernelSymbols(file));
		if (symbols.count > 0) return (story) => named(symbols, story);
	} catch (error) {
		if (wanted) throw error;
		return numbers(explain(error));
	}
	return numbers(`${file} has no symbols`);
}

function named(all: Symbols, story: Story): KernelNames {
	const { created, state } = story;
	const { slide, because } = placementOf(all, {
		lstar: (state?.vcpus ?? []).flatMap(({ lstar }) => (lstar === undefined ? [] : [BigInt(lstar)])),
		elf: created !== undefined && isElfFile(created.kernel),
		cmdline: created?.cmdline ?? "",
		printed: story.line(/Kernel Offset: (.*)/)?.[1],
	});
	const file = all.path ?? "";
	if (slide === undefined) return { name: (address) => address, source: { file, because } };
	const symbols = all.moved(slide);
	return {
		name: (address) => symbols.describe(BigInt(address)),
		source: { file, slide: `${slide < 0n ? "-" : ""}0x${(slide < 0n ? -slide : slide).toString(16)}`, because },
	};
}
